"""A `ResolvedRun` for tests that call stages without the command line."""

from paft_ray.config import Config
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store


def resolved(config: Config, store: Store) -> ResolvedRun:
    """The run with its task and the files of its models."""
    return ResolvedRun.of(config, store).with_models()
