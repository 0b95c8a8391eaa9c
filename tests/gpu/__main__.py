"""`python -m tests.gpu`: training and engine on this machine's GPU, checked in at most 20 minutes; `make test-gpu` runs
it.

Every case is a process of its own, on models of random weights. Most train with the workers' loop, in a group of one
and without Ray: LoRA and all weights, ZeRO-2 and ZeRO-3, gradient checkpointing, torch.compile, half precision,
offload. Small ones are held to plain PyTorch on the CPU, go on from a checkpoint, and export; a large one (1.1 G
weights on a GPU of 60 GiB or more) tells memory, speed and its share of the device's matrix peak. Others start Ray and
vLLM: the engine's label scores beside transformers', fresh and after other weights were loaded, and the small pipeline
up to a served export. The result goes to
docs/hardware/DEVICE.json, of which scripts/hardware_page.py makes the table of docs/hardware.md.

Exit code 0: everything passed; 1: something failed; 3: nothing failed, something was not run (the time ended);
77: no GPU, so nothing was checked. `--device cpu` runs the same on a CPU with smaller models. docs/hardware.md tells
how to run it on a machine that reaches no package registry.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.gpu.checks import NOT_ASKED_FOR, STATUSES, Outcome, needed, rows
from tests.gpu.machine import ROOT, facts
from tests.gpu.plan import cases
from tests.gpu.processes import run_all

SCHEMA_VERSION = 1
FAILED, INCOMPLETE, NO_GPU = 1, 3, 77


def main(arguments: list[str]) -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=1200, help="seconds; what they do not suffice for is not run")
    parser.add_argument("--only", default="", help="comma-separated cases, such as lora-zero2; the rest is not run")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/hardware", help="folder of the result file")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no GPU on this machine: nothing was checked (--device cpu: the same with small models)", file=sys.stderr)
        return NO_GPU
    begin, machine = time.monotonic(), facts(given.device)
    planned = cases(given.device)
    only = given.only.split(",") if given.only else [case.name for case in planned]
    if unknown := set(only) - {case.name for case in planned}:
        parser.error(f"--only: no case {sorted(unknown)[0]}; cases: {', '.join(case.name for case in planned)}")
    outcomes = {case.name: NOT_ASKED_FOR for case in planned}
    with tempfile.TemporaryDirectory(prefix="paft-gpu-") as folder:
        for case, outcome in run_all(needed(planned, only), Path(folder), begin + given.budget_s):
            outcomes[case.name] = outcome
            print(f"[{time.monotonic() - begin:.0f} s] {case.name}: {outcome.status} {outcome.note}", flush=True)
    result = {
        "schema_version": SCHEMA_VERSION,
        **machine,
        "num_weights": _num_weights(outcomes["models"]),
        "time_s": round(time.monotonic() - begin),
        "rows": rows(planned, outcomes),
    }
    return _finish(result, given.out)


def _finish(result: dict[str, Any], out: Path) -> int:
    """Writes and prints the result; exit code."""
    out.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", f"{result['device']}-{result['name']}".lower()).strip("-")
    (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    found: list[dict[str, Any]] = result["rows"]
    for row in found:
        if row["note"] != NOT_ASKED_FOR.note:
            print(_line(row))
    counts = {status: sum(row["status"] == status for row in found) for status in STATUSES}
    print(", ".join(f"{count} {status}" for status, count in counts.items()), f"-> {out / name}.json")
    return FAILED if counts["fail"] else INCOMPLETE if counts["not run"] else 0


def _line(row: dict[str, Any]) -> str:
    value = "" if row["value"] is None else f" {row['value']:.4g} {row['unit']}"
    limit = "" if row["tolerance"] is None else f" (at most {row['tolerance']:g})"
    return f"{row['status']:>8}  {row['name']}:{value}{limit} {row['note']}".rstrip()


def _num_weights(models: Outcome) -> int | None:
    return models.found["num_weights"] if models.found else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
