"""Folders that Ray and the libraries keep on a machine: where the usual ones cannot be used, others that are this
user's own."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

_CACHES = {
    "PAFT_CACHE": ".cache/paft_ray",
    "HF_HOME": ".cache/huggingface",
    "XDG_CACHE_HOME": ".cache",
    "TRITON_CACHE_DIR": ".triton/cache",
    "VLLM_CONFIG_ROOT": ".config/vllm",
    "MPLCONFIGDIR": ".config/matplotlib",
}
"""Variable -> folder below the home that its library takes otherwise."""
_OWN = f"paft-{os.getuid()}"
_LONGEST_SOCKET = 107
_SESSION = "/ray/session_2026-01-31_23-59-59_000000_{}/sockets/dash_TaskEventsHead"
"""The longest path of a socket below Ray's folder, with its process number."""


def place_caches() -> None:
    """Sets the variables of caches whose folders in the home cannot be written; models that are there are still read.
    What the user has set becomes absolute.

    Workers stand in other folders than the driver: a relative path would be another folder there.
    """
    for name in ("PAFT_CACHE", "HF_HOME", "TMPDIR", "RAY_TMPDIR"):
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(os.environ[name]))
    moved = "XDG_CACHE_HOME" in os.environ  # the user's own: that of Hugging Face is there
    for name, below in _CACHES.items():
        folder = home() / below
        if name in os.environ or (moved and name == "HF_HOME") or _can_be_written(folder):
            continue
        # The cache holds models that can be read.
        kept = name in ("PAFT_CACHE", "HF_HOME") and _can_be_read(folder)
        os.environ[name] = str(folder if kept else own_folder(tempfile.gettempdir()) / below)


def _can_be_read(folder: Path) -> bool:
    """Whether something is there that can be listed."""
    try:
        return folder.is_dir() and any(folder.iterdir())
    except OSError:
        return False


def moved_caches() -> str | None:
    """The folder of caches that is elsewhere because the home cannot be written."""
    return next((os.environ[name] for name in _CACHES if _OWN in os.environ.get(name, "")), None)


def home() -> Path:
    """The user's home, or a folder that is not there: a user of a container may have none."""
    return Path(os.path.expanduser("~")).absolute()


def token_can_be_written() -> bool:
    """Whether Ray can keep a new token in the home, where it looks for one."""
    return _can_be_written(home() / ".ray")


def ray_folder() -> str | None:
    """Where Ray's files must be instead of the folder that RAY_TMPDIR or TMPDIR names; None where that one will do.

    Paths of sockets hold 107 bytes, and a job's own folder is often longer; one that is not there is no place either.
    """
    given = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    longest = len(os.fsencode(os.path.abspath(given) + _SESSION.format(os.getpid())))
    if longest <= _LONGEST_SOCKET and os.access(given, os.W_OK | os.X_OK):
        return None
    return str(
        own_folder(
            next((folder for folder in ("/tmp", "/var/tmp", "/dev/shm") if os.access(folder, os.W_OK | os.X_OK)), given)
        )
        / "ray"
    )


def own_folder(parent: str) -> Path:
    """A folder in `parent` that this user alone may read: the same one each time, or a new one where somebody else has
    made it first."""
    folder = Path(parent) / _OWN
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=parent))
    return folder


def _can_be_written(folder: Path) -> bool:
    """Whether it is, or could be made in, a folder of the home that this user may write."""
    while not os.path.exists(folder) and folder != home():
        folder = folder.parent
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
