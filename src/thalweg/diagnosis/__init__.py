"""Diagnosis (§8.4): what is wrong with a model before it trains; one check one file, and :func:`diagnose` for all."""

from thalweg.diagnosis.diagnose import diagnose
from thalweg.diagnosis.findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
