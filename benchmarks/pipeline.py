"""Where the time of the demo goes, stage by stage, and all of it next to an earlier commit of this project.

`python -m benchmarks.pipeline [--before COMMIT] [--pairs N]`. Both run interleaved as `paft run` in the same
environment, each into a folder of its own; the clock is this process's, at each line of the console. A start of a
training or an engine lasts until the first line that tells of a step or an answer."""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.results import interleaved, paired, record
from benchmarks.stages import command

_STAGE = re.compile(r"(?:^\d/6 (\w+)|\[(\w+)\] stage \d of 6)$")
_STARTS = re.compile(r"start(s an|ing the) engine|\d/6 train$|\[train\] stage \d|step \d+/\d+ .* ETA 0:00")
_WORKS = re.compile(r"requests answered|answers right|done in|step 1/")
BEFORE = "9d1cbcb"
"""The last commit before work on speed began."""


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A folder with that commit of this repository."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "before"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), commit], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], check=True)


def run(source: Path, settings: Sequence[str]) -> list[tuple[float, str]]:
    """Lines of the console with the seconds since the command's start; the last one, empty, at its end."""
    with tempfile.TemporaryDirectory() as storage:
        asked = command("run", (f"storage={storage}", *settings))
        begin, lines = time.perf_counter(), []
        environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(asked, cwd=source, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append((time.perf_counter() - begin, line.rstrip()))
        if process.returncode:
            raise SystemExit(
                f"benchmarks.pipeline: {' '.join(asked)} ended with {process.returncode}; its last line: {lines[-1][1]}"
            )
        return [*lines, (time.perf_counter() - begin, "")]


def parts(lines: Sequence[tuple[float, str]]) -> dict[str, float]:
    """Seconds of each stage, of what comes before the first one, and within the stages of all starts of engines and
    trainings."""
    marks = [(at, found[1] or found[2]) for at, line in lines if (found := _STAGE.search(line))]
    found = {"command and Ray": marks[0][0]}
    for (begin, name), (end, _) in zip(marks, [*marks[1:], lines[-1]], strict=True):
        found[name] = end - begin
    starting, found["of these, starts of engines and trainings"] = None, 0.0
    for at, line in lines:
        if starting is not None and _WORKS.search(line):
            found["of these, starts of engines and trainings"] += at - starting
            starting = None
        if _STARTS.search(line):
            starting = at
    return found | {"whole": lines[-1][0]}


def main(before: str, pairs: int, settings: Sequence[str]) -> None:
    seconds: dict[str, list[dict[str, float]]] = {"now": [], "before": []}
    with checkout(before) as old:
        sources = {"before": old, "now": Path.cwd()}
        for name in interleaved(sources, pairs):
            seconds[name].append(parts(run(sources[name], settings)))
            print(
                f"{name}: " + ", ".join(f"{part} {spent:.0f} s" for part, spent in seconds[name][-1].items()),
                flush=True,
            )
    print(f"| seconds | {before} | now |\n|---|---|---|")
    for part in seconds["now"][0]:
        print(
            f"| {part} | "
            + " | ".join(
                f"{statistics.median(one.get(part, 0.0) for one in seconds[name]):.0f}" for name in ("before", "now")
            )
            + " |"
        )
    whole = [[one["whole"] for one in seconds[name]] for name in ("now", "before")]
    record([paired("the demo", *whole, peer_name=f"commit {before}", unit="s", more_is_better=False)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline")
    parser.add_argument("--before", default=BEFORE)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    main(given.before, given.pairs, given.settings)
