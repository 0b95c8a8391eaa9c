"""An engine's process that imports vLLM while its actor still does, instead of after it: some eight seconds of one
core, twice.

The actor starts Python's fork server before its own imports. The process that vLLM asks for is forked from it, once it
has imported what an engine needs. For engines on a CPU: vLLM lets them be spawned only, for the sake of the libraries
and variables below, which the server has from its start.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from ray._private.utils import set_kill_on_parent_death_linux

from paft_ray.compat.lazy_imports import uncollected

ENVIRONMENT = {"PAFT_ENGINE_AHEAD": "1"}
"""Of an actor that has its engine's process imported ahead."""
_LIBRARIES = {"vllm": ("libs/libtcmalloc_minimal*.so*",), "torch": ("../torch.libs/libgomp*.so*", "lib/libgomp*.so*")}
"""What vLLM has an engine on a CPU load first, one of each package, relative to its folder: an allocator, where the
build has it, and the OpenMP of torch."""


@contextmanager
def importing() -> Iterator[None]:
    """The block imports vLLM; in an actor of such an engine the fork server does so, too, and vLLM's engine process
    will come from it."""
    if (
        not ENVIRONMENT.keys() <= os.environ.keys() or "LD_PRELOAD" in os.environ
    ):  # vLLM knows what to add to libraries that the user wants first
        yield
        return
    found = [
        [match for pattern in patterns for match in _folder(package).glob(pattern)]
        for package, patterns in _LIBRARIES.items()
    ]
    os.environ["LD_PRELOAD"] = ":".join(str(matches[0]) for matches in found if matches)
    forkserver.set_forkserver_preload(["paft_ray.inference.preloaded_imports"])
    forkserver.ensure_running()
    with uncollected():
        yield
        import vllm.v1.engine.utils

    vllm.v1.engine.utils.get_mp_context = _Context


class _Process(ForkServerProcess):
    """With the variables that this process has when it asks for it, as if it were spawned; it ends with the server,
    which ends with the actor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.environment = dict(os.environ)

    def run(self) -> None:
        if sys.platform == "linux":
            set_kill_on_parent_death_linux()  # an actor that has lost its raylet ends its own children only
        os.environ.update(
            self.environment.items() - os.environ.items()
        )  # what is written again moves, and the process could not be given a name any more
        super().run()


class _Context(ForkServerContext):
    Process = _Process


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
