"""Fuzzes each target for a bounded time, guided by coverage (atheris, libFuzzer); exit code 1 where one fails. `make
fuzz`.

    python -m tests.fuzz.run                          all, 60 s each
    python -m tests.fuzz.run template --seconds 600   one

What is found interesting is gathered in runs/fuzz/TARGET; an input that fails lies there as crash-* and, once mended,
belongs into tests/fuzz/corpus/TARGET, which tests/hostile/test_fuzz.py replays (without atheris, which has wheels for
Linux on x86-64 only).
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

TARGETS = ("template", "template_files", "rows_jsonl", "rows_csv", "rows_parquet", "configuration")
CORPUS = Path(__file__).parent / "corpus"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        fuzz(asked.targets[0], asked.seconds)
    failed = []
    for name in asked.targets or TARGETS:
        command = [sys.executable, "-m", "tests.fuzz.run", name, "--here", "--seconds", str(asked.seconds)]
        print(f"fuzz: {name}, {asked.seconds} s", flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"fuzz: failed: {', '.join(failed)}; see runs/fuzz" if failed else "fuzz: no failure")
    return int(bool(failed))


def fuzz(name: str, seconds: int) -> None:
    """Does not come back: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["paft_ray", "yaml"]):
        target = importlib.import_module(f"tests.fuzz.{name}").target
    found, kept = Path("runs/fuzz") / name, CORPUS / name
    found.mkdir(parents=True, exist_ok=True)
    limits = [
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
        f"-artifact_prefix={found}/",
    ]
    atheris.Setup([sys.argv[0], *limits, str(found), str(kept)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
