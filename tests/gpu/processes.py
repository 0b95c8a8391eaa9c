"""Runs cases, each in a process of its own with a limit of time, so that a crash or a hang costs its rows alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tests.gpu.checks import Outcome
from tests.gpu.machine import ROOT
from tests.gpu.plan import WITH_ENGINE, Case

_LEAST_S = 20
"""Seconds under which no case is begun: the libraries' import takes most of them."""
_TOGETHER = 4
"""Cases of small models at once, where there are cores for them."""
_NOTE = 300


def run_all(cases: Sequence[Case], folder: Path, deadline: float) -> Iterator[tuple[Case, Outcome]]:
    """Every case with its outcome: models first, small ones side by side; those with an engine, and the timed ones,
    alone. Deadline: monotonic."""
    cores = len(os.sched_getaffinity(0))
    pool = max(1, min(_TOGETHER, cores))
    turns = (("models",), 1), (("reference", "equality"), pool), (WITH_ENGINE, 1), (("peak", "speed"), 1)
    for kinds, width in turns:
        chosen = [case for case in cases if case.kind in kinds]
        with ThreadPoolExecutor(width) as threads:
            ran = threads.map(partial(run, folder=folder, deadline=deadline, threads=cores // width), chosen)
            yield from zip(chosen, ran, strict=True)


def run(case: Case, folder: Path, deadline: float, threads: int) -> Outcome:
    """How a case went; what the end of the budget cuts off is not run, what its own limit cuts off has failed."""
    left = deadline - time.monotonic()
    if left < _LEAST_S:
        return Outcome(status="not run", note="the time ended before it")
    spec, found, log = (folder / f"{case.name}.{ending}" for ending in ("spec.json", "found.json", "log"))
    spec.write_text(json.dumps({"case": asdict(case), "folder": str(folder), "found": str(found), "threads": threads}))
    command = [sys.executable, "-m", "tests.gpu.case", str(spec)]
    try:
        with log.open("wb") as stream:
            ended = subprocess.run(
                command,
                cwd=ROOT,
                env=_environment(case),
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=min(case.limit_s, left),
                check=False,
            )
    except subprocess.TimeoutExpired:
        if left < case.limit_s:
            return Outcome(status="not run", note="the time ended within it")
        return Outcome(status="failed", note=f"not done after {case.limit_s} s")
    if ended.returncode or not found.exists():
        return Outcome(status="failed", note=f"exit code {ended.returncode}: {_last_line(log)}")
    return Outcome(status="done", found=json.loads(found.read_text()))


def _environment(case: Case) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DS_BUILD_OPS": "0"}
    waiting = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000")}  # as training workers: less spinning
    if case.kind in WITH_ENGINE:  # Ray and vLLM find their own places
        return {**os.environ, **offline, **({"CUDA_VISIBLE_DEVICES": ""} if case.device == "cpu" else {})}
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    device = {"DS_ACCELERATOR": case.device, **({"CUDA_VISIBLE_DEVICES": ""} if case.device == "cpu" else {})}
    return {**os.environ, **offline, **waiting, **group, **device}


def _last_line(log: Path) -> str:
    """The last line of an output that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:_NOTE] if lines else "no output"
