"""Stages of a run as a user starts them: each a command of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

CONFIG = "jobs/configs/demo.yaml"


def paft(stage: str, settings: Iterable[str]) -> None:
    """`paft STAGE` on the demo's configuration with other settings."""
    command = [sys.executable, "-m", "paft_ray", stage, CONFIG, *(part for s in settings for part in ("--set", s))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
