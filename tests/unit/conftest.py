"""Property tests have no deadline for one case: the machine may be busy."""

from hypothesis import settings

settings.register_profile("paft", deadline=None)
settings.load_profile("paft")
