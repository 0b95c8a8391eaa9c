"""What is said where a target is not in the installed version, and the public path runs instead."""

from __future__ import annotations

import logging

_LOG = logging.getLogger(__name__)


def moved(target: str, instead: str) -> None:
    """Logs that `target` is gone, and what happens `instead`."""
    _LOG.warning("%s is not in the installed version: %s", target, instead)
