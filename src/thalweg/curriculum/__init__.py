"""Curriculum learning (§8.7.6): what is easy first, or rather with higher probability."""

from thalweg.curriculum.difficulty import lengths, losses, scores
from thalweg.curriculum.pacing import Pacing
from thalweg.curriculum.sampler import CurriculumSampler
from thalweg.curriculum.self_paced import SelfPaced

__all__ = ["CurriculumSampler", "Pacing", "SelfPaced", "lengths", "losses", "scores"]
