"""How properties are tested: without a limit of time, for a machine that others use too is slow at times."""

from hypothesis import HealthCheck, settings

settings.register_profile("stationmaster", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stationmaster")
