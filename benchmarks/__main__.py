"""`make bench`, or `make bench ONLY=training`: runs the comparisons one after another; results.json and a table."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.results import RESULTS, markdown

PARTS = ("training", "workers", "data_path", "evaluation", "inference", "pipeline", "scaling")
"""Modules of this folder. The others ask for a finished run, or measure choices of ours only: they are started by
hand."""


def main(parts: list[str]) -> int:
    """Exit code; 2 where a part is not known."""
    for part in parts:
        if part not in PARTS:
            print(f"bench: ONLY={part} is not a part; allowed: {', '.join(PARTS)}", file=sys.stderr)
            return 2
    for part in parts or PARTS:
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}"], check=True)
    if RESULTS.exists():
        print(f"\n{RESULTS}\n{markdown(json.loads(RESULTS.read_text())['results'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
