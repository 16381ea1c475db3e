"""Slow twins of the rules for matrices in their papers' notation, float64, one matrix at a time.

Each takes W, the gradient ∇f as a function, and the number of steps, and returns the iterates.
"""

import numpy as np

ABC = (3.4445, -4.7750, 2.0315)


def newton_schulz(M, K, abc, floor):
    a, b, c = abc
    X = M / max(np.linalg.norm(M), floor)
    for _ in range(K):
        X = a * X + b * (X @ X.T) @ X + c * (X @ X.T) @ (X @ X.T) @ X
    return X


def muon(W, f, T, η, μ=0.95, λ=0.0, nesterov=True, scale="original", K=5, abc=ABC, floor=1e-7):
    """Jordan's, and with the scale of Moonshot's; the average is of gradients times 1 − μ, as torch has it."""
    path, B = [], np.zeros_like(W)
    m, n = W.shape
    s = np.sqrt(max(1, m / n)) if scale == "original" else 0.2 * np.sqrt(max(m, n))
    for _ in range(T):
        G = f(W)
        B = μ * B + (1 - μ) * G
        M = (1 - μ) * G + μ * B if nesterov else B
        W = W - η * λ * W - η * s * newton_schulz(M, K, abc, floor)
        path.append(W)
    return path


def eigenbasis(A):
    """Eigenvectors, the largest eigenvalue first; unit vectors complete those that are not of the eigenvalue 0."""
    values, vectors = np.linalg.eigh(A)
    values, vectors = values[::-1], vectors[:, ::-1]
    columns = [v for v, x in zip(vectors.T, values, strict=True) if x > 10 * len(A) * 2.2e-16 * values[0]]
    for e in np.eye(len(A)):
        if len(columns) == len(A):
            break
        for _ in range(2):
            e = e - sum((q @ e) * q for q in columns)
        columns.append(e / np.linalg.norm(e))
    return np.stack(columns, 1)


def soap(W, f, T, η, β1=0.95, β2=0.95, β=0.95, ε=1e-8, λ=0.0, every=10, most=10_000):
    m, n = W.shape
    path, M, V = [], np.zeros_like(W), np.zeros_like(W)
    G = f(W)
    L, R = (1 - β) * G @ G.T, (1 - β) * G.T @ G
    Q_L = eigenbasis(L) if m <= most else np.eye(m)
    Q_R = eigenbasis(R) if n <= most else np.eye(n)
    path.append(W)
    for k in range(1, T):
        G = f(W)
        M = β1 * M + (1 - β1) * G
        V = β2 * V + (1 - β2) * (Q_L.T @ G @ Q_R) ** 2
        N = (Q_L.T @ M @ Q_R) / (1 - β1**k) / ((np.sqrt(V) + ε) / np.sqrt(1 - β2**k))
        W = (1 - η * λ) * W - η * Q_L @ N @ Q_R.T
        L, R = β * L + (1 - β) * G @ G.T, β * R + (1 - β) * G.T @ G
        if k % every == 0:
            if m <= most:
                order = np.argsort(-np.diag(Q_L.T @ L @ Q_L))
                Q_L, V = np.linalg.qr(L @ Q_L[:, order])[0], V[order]
            if n <= most:
                order = np.argsort(-np.diag(Q_R.T @ R @ Q_R))
                Q_R, V = np.linalg.qr(R @ Q_R[:, order])[0], V[:, order]
        path.append(W)
    return path


def power(A, p):
    values, vectors = np.linalg.eigh(A)
    return vectors @ np.diag(np.maximum(values, 0) ** p) @ vectors.T


def shampoo(W, f, T, η, β1=0.0, β2=1.0, ε=1e-12, λ=0.0, graft=None, δ=1e-8, every=1, most=10_000):
    m, n = W.shape
    L, R, M, V = np.zeros((m, m)), np.zeros((n, n)), np.zeros_like(W), np.zeros_like(W)
    path, a = [], 1 if β2 == 1 else 1 - β2
    p = -1 / (2 * max(1, (m <= most) + (n <= most)))
    for t in range(1, T + 1):
        G = f(W)
        L, R, V = β2 * L + a * G @ G.T, β2 * R + a * G.T @ G, β2 * V + a * G * G
        M = β1 * M + (1 - β1) * G
        b = 1 if β2 == 1 else 1 - β2**t
        M̂ = M / (1 - β1**t)
        D = M̂ / (np.sqrt(V / b) + δ) if graft == "adam" else M̂
        if t % every == 0:
            root_L = power(L / b + ε * np.eye(m), p) if m <= most else np.eye(m)
            root_R = power(R / b + ε * np.eye(n), p) if n <= most else np.eye(n)
        S = D if t < every or min(m, n) > most else root_L @ M̂ @ root_R
        if graft is not None:
            S = S * np.linalg.norm(D) / np.linalg.norm(S)
        W = (1 - η * λ) * W - η * S
        path.append(W)
    return path
