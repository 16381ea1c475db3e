"""Batch normalization in the book's notation (§8.7.1), in float64, one unit and one example at a time."""

import numpy as np


def batch_norm(H, γ, β, δ):
    """H is the design matrix of activations, a row an example; returns γH' + β, μ and the biased variance."""
    m, units = H.shape
    out, μ, variance = np.empty((m, units)), np.empty(units), np.empty(units)
    for j in range(units):
        μ[j] = sum(H[i, j] for i in range(m)) / m
        variance[j] = sum((H[i, j] - μ[j]) ** 2 for i in range(m)) / m
        σ = np.sqrt(δ + variance[j])
        for i in range(m):
            out[i, j] = γ[j] * (H[i, j] - μ[j]) / σ + β[j]
    return out, μ, variance


def gradient(H, γ, δ, G):
    """Returns the gradients by H, γ and β, given G by the output (Ioffe & Szegedy 2015, §3)."""
    m, _ = H.shape
    μ, variance = H.mean(axis=0), H.var(axis=0)
    normalized = (H - μ) / np.sqrt(δ + variance)
    by_normalized = G * γ
    by_variance = (by_normalized * (H - μ)).sum(axis=0) * -0.5 * (δ + variance) ** -1.5
    by_μ = -by_normalized.sum(axis=0) / np.sqrt(δ + variance) + by_variance * (-2 * (H - μ)).mean(axis=0)
    by_h = by_normalized / np.sqrt(δ + variance) + by_variance * 2 * (H - μ) / m + by_μ / m
    return by_h, (G * normalized).sum(axis=0), G.sum(axis=0)
