"""What holds for every property test: a busy machine takes as long as it takes."""

from hypothesis import HealthCheck, settings

settings.register_profile("thalweg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("thalweg")
