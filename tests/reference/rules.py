"""Slow twins of the update rules in the book's notation, float64: θ, g, v, r, s, ε, δ, ρ, α as in chapter 8.

Each takes θ, the gradient ∇J as a function, and the number of steps, and returns the iterates. Nesterov's forms
return θ + αv, the point where the gradient is taken, which is the iterate of torch's form. Those of methods that came
after the book are in the notation of their papers; methods that evaluate another point than they train return both.
"""

import numpy as np


def sgd(θ, J, T, ε):
    path = []
    for _ in range(T):
        θ = θ - ε * J(θ)
        path.append(θ)
    return path


def momentum(θ, J, T, ε, α):
    path, v = [], np.zeros_like(θ)
    for _ in range(T):
        v = α * v - ε * J(θ)
        θ = θ + v
        path.append(θ)
    return path


def nesterov(θ, J, T, ε, α):
    path, v = [], np.zeros_like(θ)
    for _ in range(T):
        g = J(θ + α * v)
        v = α * v - ε * g
        θ = θ + v
        path.append(θ + α * v)
    return path


def adagrad(θ, J, T, ε, δ):
    path, r = [], np.zeros_like(θ)
    for _ in range(T):
        g = J(θ)
        r = r + g * g
        θ = θ - ε / (δ + np.sqrt(r)) * g
        path.append(θ)
    return path


def adadelta(θ, J, T, ε, ρ, δ):
    path, r, u = [], np.zeros_like(θ), np.zeros_like(θ)
    for _ in range(T):
        g = J(θ)
        r = ρ * r + (1 - ρ) * g * g
        Δ = -np.sqrt(u + δ) / np.sqrt(r + δ) * g
        u = ρ * u + (1 - ρ) * Δ * Δ
        θ = θ + ε * Δ
        path.append(θ)
    return path


def rmsprop(θ, J, T, ε, ρ, δ, inside):
    path, r = [], np.zeros_like(θ)
    for _ in range(T):
        g = J(θ)
        r = ρ * r + (1 - ρ) * g * g
        θ = θ - ε / (np.sqrt(δ + r) if inside else δ + np.sqrt(r)) * g
        path.append(θ)
    return path


def rmsprop_nesterov(θ, J, T, ε, ρ, α, δ):
    path, r, v = [], np.zeros_like(θ), np.zeros_like(θ)
    for _ in range(T):
        g = J(θ + α * v)
        r = ρ * r + (1 - ρ) * g * g
        v = α * v - ε / (δ + np.sqrt(r)) * g
        θ = θ + v
        path.append(θ + α * v)
    return path


def adam(θ, J, T, ε, ρ1, ρ2, δ, corrected=True, largest=False, λ=0.0):
    path, s, r, top = [], np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ)
    for t in range(1, T + 1):
        g = J(θ)
        θ = θ - ε * λ * θ
        s = ρ1 * s + (1 - ρ1) * g
        r = ρ2 * r + (1 - ρ2) * g * g
        top = np.maximum(top, r)
        ŝ = s / (1 - ρ1**t) if corrected else s
        r̂ = (top if largest else r) / ((1 - ρ2**t) if corrected else 1)
        θ = θ - ε * ŝ / (np.sqrt(r̂) + δ)
        path.append(θ)
    return path


def nadam(θ, J, T, ε, ρ1, ρ2, δ, ψ):
    def μ(t):
        return ρ1 * (1 - 0.5 * 0.96 ** (t * ψ))

    path, s, r = [], np.zeros_like(θ), np.zeros_like(θ)
    for t in range(1, T + 1):
        g = J(θ)
        s = ρ1 * s + (1 - ρ1) * g
        r = ρ2 * r + (1 - ρ2) * g * g
        now = np.prod([μ(i) for i in range(1, t + 1)])
        following = np.prod([μ(i) for i in range(1, t + 2)])
        ahead = (1 - μ(t)) / (1 - now) * g + μ(t + 1) / (1 - following) * s
        θ = θ - ε * ahead / (np.sqrt(r / (1 - ρ2**t)) + δ)
        path.append(θ)
    return path


def lion(θ, J, T, η, β1, β2, λ):
    path, m = [], np.zeros_like(θ)
    for _ in range(T):
        g = J(θ)
        c = β1 * m + (1 - β1) * g
        θ = θ - η * (np.sign(c) + λ * θ)
        m = β2 * m + (1 - β2) * g
        path.append(θ)
    return path


def schedule_free(θ, J, T, γ, β, λ, warm, p=0.0, β2=None, ε=0.0):
    path, z, x, v, γs, ws = [], θ, θ, np.zeros_like(θ), [], []
    for t in range(1, T + 1):
        y = (1 - β) * z + β * x
        u = g = J(y)
        if β2 is not None:
            v = β2 * v + (1 - β2) * g * g
            u = g / (np.sqrt(v / (1 - β2**t)) + ε)
        γs.append(γ * min(1, t / warm))
        ws.append(t**p * max(γs) ** 2)
        z = z - γs[-1] * (u + λ * y)
        c = ws[-1] / sum(ws)
        x = (1 - c) * x + c * z
        path.append(np.concatenate([(1 - β) * z + β * x, x]))
    return path


def ademamix(θ, J, T, η, β, α, Tα, Tβ, ε, λ):
    β1, β2, β3 = β
    path, m1, m2, v = [], np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ)
    for t in range(1, T + 1):
        g = J(θ)
        αt, τ = min(t * α / Tα, α), min(t / Tβ, 1)
        β3t = min(np.exp(np.log(β1) * np.log(β3) / ((1 - τ) * np.log(β3) + τ * np.log(β1))), β3)
        m1 = β1 * m1 + (1 - β1) * g
        m2 = β3t * m2 + (1 - β3t) * g
        v = β2 * v + (1 - β2) * g * g
        θ = θ - η * ((m1 / (1 - β1**t) + αt * m2) / (np.sqrt(v / (1 - β2**t)) + ε) + λ * θ)
        path.append(θ)
    return path


def adan(θ, J, T, η, β, ε, λ):
    """With the paper's β, which are what is taken anew, and the bias corrected as its code does."""
    β1, β2, β3 = β
    path, m, v, n, before = [], np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ), None
    for k in range(1, T + 1):
        g = J(θ)
        difference = g - (g if before is None else before)
        m = (1 - β1) * m + β1 * g
        v = (1 - β2) * v + β2 * difference
        n = (1 - β3) * n + β3 * (g + (1 - β2) * difference) ** 2
        m̂, v̂, n̂ = m / (1 - (1 - β1) ** k), v / (1 - (1 - β2) ** k), n / (1 - (1 - β3) ** k)
        ηk = η / (np.sqrt(n̂) + ε)
        θ = (θ - ηk * (m̂ + (1 - β2) * v̂)) / (1 + λ * η)
        before = g
        path.append(θ)
    return path


def lamb(θ, J, T, η, β1, β2, ε, λ):
    path, m, v = [], np.zeros_like(θ), np.zeros_like(θ)
    for t in range(1, T + 1):
        g = J(θ)
        m = β1 * m + (1 - β1) * g
        v = β2 * v + (1 - β2) * g * g
        r = m / (1 - β1**t) / (np.sqrt(v / (1 - β2**t)) + ε)
        θ = θ - η * np.linalg.norm(θ) / np.linalg.norm(r + λ * θ) * (r + λ * θ)
        path.append(θ)
    return path


def lars(θ, J, T, γ, η, m, β):
    path, v = [], np.zeros_like(θ)
    for _ in range(T):
        g = J(θ)
        local = η * np.linalg.norm(θ) / (np.linalg.norm(g) + β * np.linalg.norm(θ))
        v = m * v + γ * local * (g + β * θ)
        θ = θ - v
        path.append(θ)
    return path


def prodigy(θ, J, T, γ, β1, β2, ε, λ, d0, coef=1.0, growth=np.inf, safe=False, corrected=False):
    path, x0, m, v, s = [], θ, np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ)
    d = most = d0
    r = 0.0
    for k in range(1, T + 1):
        g = J(θ)
        γk = γ * (np.sqrt(1 - β2**k) / (1 - β1**k) if corrected else 1.0)
        r = np.sqrt(β2) * r + d / d0 * d * γk * np.dot(g, x0 - θ)
        s = np.sqrt(β2) * s + d / d0 * d * (1.0 if safe else γk) * g
        m = β1 * m + (1 - β1) * d * g
        v = β2 * v + (1 - β2) * d * d * g * g
        estimate, step = coef * r / np.abs(s).sum(), d * γk
        if d == d0:
            d = max(d, estimate)
        most = max(most, estimate)
        d = min(most, d * growth)
        θ = θ - step * (m / (np.sqrt(v) + d * ε) + λ * θ)
        path.append(θ)
    return path


def adamw_switched(θ, J, T, ε, λ, γ=None, cautious=False, β1=0.9, β2=0.999, δ=1e-8):
    path, m, v, before = [], np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ)
    for t in range(1, T + 1):
        g = c = J(θ)
        if γ is not None:
            c = g + γ * β1 / (1 - β1) * (g - before)
            c = c / max(1.0, np.linalg.norm(c))
        before = g
        m = β1 * m + (1 - β1) * c
        v = β2 * v + (1 - β2) * c * c
        u = m / (1 - β1**t) / (np.sqrt(v / (1 - β2**t)) + δ)
        if cautious:
            φ = (u * g > 0).astype(float)
            u = u * φ / max(φ.mean(), 1e-3)
        θ = θ - ε * λ * θ - ε * u
        path.append(θ)
    return path


def momentum_lookahead(θ, J, T, ε, μ, k, α):
    path, slow, v = [], θ, np.zeros_like(θ)
    for t in range(1, T + 1):
        v = μ * v + J(θ)
        θ = θ - ε * v
        if t % k == 0:
            θ = slow = slow + α * (θ - slow)
        path.append(np.concatenate([θ, slow]))
    return path


def momentum_sam(θ, J, T, ε, μ, λ, ρ, adaptive=False):
    """Both half steps: the point uphill, and the new one; with what is evaluated meanwhile."""
    path, v = [], np.zeros_like(θ)
    for _ in range(T // 2):
        g = J(θ)
        uphill = θ + ρ * (θ * θ * g / np.linalg.norm(np.abs(θ) * g) if adaptive else g / np.linalg.norm(g))
        path.append(np.concatenate([uphill, θ]))
        v = μ * v + J(uphill) + λ * θ
        θ = θ - ε * v
        path.append(np.concatenate([θ, θ]))
    return path
