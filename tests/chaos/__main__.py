"""`python -m tests.chaos`: faults injected into every stage at random moments, against an uninterrupted run. Exit code
1 where anything was lost, repeated, changed, left over, or did not survive. `make chaos` runs it, `make chaos CHAOS=3`
with three faults per stage.

On two cores a fault into every stage, as CI strikes, takes ten minutes, three take half an hour, the whole plan two
hours."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.chaos import cluster, table
from tests.chaos.attempt import Span
from tests.chaos.lab import Lab, Point
from tests.chaos.plan import KINDS, fault_plan

_POINTS = {stage: 30 if stage == "train" else 10 for stage in KINDS}
_GENERATOR = ("prompts.generators=[{id: demo, temperature: 0.9, max_tokens: 80}]", "prompts.num_candidates=4")
_OUT = cluster.ROOT / "runs/chaos"


def main(arguments: list[str]) -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--points", type=int, help="faults per stage (default: 30 for train, 10 for each other)")
    parser.add_argument("--stages", default=",".join(KINDS), help="comma-separated (default: all)")
    parser.add_argument(
        "--soak", action="store_true", help="four times as many, and the demo's generator writes templates"
    )
    parser.add_argument("--replicas", type=int, default=1, help="engines side by side (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the plan")
    given = parser.parse_args(arguments)
    kinds = {**KINDS, "synthesize": KINDS["score"]} if given.soak else KINDS
    settings = (*(_GENERATOR if given.soak else ()), f"engine.replicas={given.replicas}")
    counts = {
        stage: given.points or _POINTS[stage] * (4 if given.soak else 1)
        for stage in KINDS
        if stage in given.stages.split(",")
    }
    shutil.rmtree(_OUT, ignore_errors=True)
    _OUT.mkdir(parents=True)
    plan = fault_plan(given.seed, counts, kinds)
    points: list[Point] = []
    spans: dict[str, Span] = {}
    begin = time.monotonic()
    for several in (False, True):
        faults = [fault for fault in plan if (fault.kind == "node_loss") == several]
        if several and not faults:
            break
        with lab(several, spans, settings=settings) as ready:
            if not several:
                ready.prepare(counts)
            for fault in faults:
                points.append(ready.strike(fault))
                table.write(points, _OUT)
                _say(f"[{len(points)}/{len(plan)}, {time.monotonic() - begin:.0f} s] {table.line(points[-1])}")
    table.show(points)
    print(f"{_OUT / 'chaos.json'}; the table for docs/reliability.md: {_OUT / 'chaos.md'}")
    return 0 if table.good(points) else 1


@contextmanager
def lab(several: bool, spans: dict[str, Span], settings: Sequence[str]) -> Iterator[Lab]:
    """The harness on a cluster of one node, or of a small head and two more."""
    scratch = Path(tempfile.mkdtemp(prefix="paft-chaos-", dir="/tmp"))
    try:
        with (
            cluster.started(scratch, **({"head_cpus": 1, "num_members": 2} if several else {"head_cpus": 8})) as nodes,
            cluster.joined(nodes),
        ):
            yield Lab(folder=_OUT, scratch=scratch, cluster=nodes, settings=settings, say=_say, spans=spans)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
