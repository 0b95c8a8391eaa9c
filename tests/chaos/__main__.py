"""`python -m tests.chaos`: faults injected into every stage at random moments, against an uninterrupted run. Exit code 1 where anything was lost,
repeated, changed, left over, or did not survive. `make chaos` runs it, `make chaos CHAOS=3` with three faults per stage."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import node, table
from tests.chaos.lab import Lab, Point
from tests.chaos.plan import KINDS, fault_plan

_POINTS = {stage: 30 if stage == "train" else 10 for stage in KINDS}
_GENERATOR = ("prompts.generators=[{id: demo, temperature: 0.9, max_tokens: 80}]", "prompts.num_candidates=4")
_OUT = node.ROOT / "runs/chaos"


def main(arguments: list[str]) -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--points", type=int, help="faults per stage (default: 30 for train, 10 for each other)")
    parser.add_argument("--stages", default=",".join(KINDS), help="comma-separated (default: all)")
    parser.add_argument("--soak", action="store_true", help="four times as many, and the demo's generator writes templates")
    parser.add_argument("--seed", type=int, default=0, help="of the plan")
    given = parser.parse_args(arguments)
    kinds = {**KINDS, "synthesize": KINDS["score"]} if given.soak else KINDS
    counts = {stage: given.points or _POINTS[stage] * (4 if given.soak else 1) for stage in KINDS if stage in given.stages.split(",")}
    shutil.rmtree(_OUT, ignore_errors=True)
    _OUT.mkdir(parents=True)
    plan = fault_plan(given.seed, counts, kinds)
    scratch = Path(tempfile.mkdtemp(prefix="paft-chaos-", dir="/tmp"))
    points: list[Point] = []
    begin = time.monotonic()
    try:
        with node.started(scratch) as head:
            join(head)
            lab = Lab(folder=_OUT, scratch=scratch, node=head, say=_say, settings=_GENERATOR if given.soak else ())
            lab.prepare(counts)
            for fault in plan:
                points.append(lab.strike(fault))
                table.write(points, _OUT)
                _say(f"[{len(points)}/{len(plan)}, {time.monotonic() - begin:.0f} s] {table.line(points[-1])}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    table.show(points)
    print(f"{_OUT / 'chaos.json'}; the table for the README: {_OUT / 'chaos.md'}")
    return 0 if table.good(points) else 1


def join(head: node.Node) -> None:
    """Makes this process a driver of the node, to ask what is reserved there."""
    os.environ.update({name: value for name, value in head.environment.items() if name.startswith("RAY_")})
    import ray

    ray.init(address=head.environment["RAY_ADDRESS"], log_to_driver=False, logging_level="warning")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the node and its folder go away with this process


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
