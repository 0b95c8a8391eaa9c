"""What is said where a target is not in the installed version, and the public path runs instead."""

from __future__ import annotations

from paft_ray.log import get_logger

_log = get_logger(__name__)


def moved(target: str, instead: str) -> None:
    """Logs that `target` is gone, and what happens `instead`."""
    _log.warning(f"{target} is not in the installed version: {instead}")
