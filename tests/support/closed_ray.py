"""Ray clusters that tests start as commands."""

import os
import secrets
import sys
from pathlib import Path


def closed_environment(**more: str) -> dict[str, str]:
    """The environment of a cluster of its own, closed by a token, and of the commands that join it."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        **more,
    }
