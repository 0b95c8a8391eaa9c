"""Switches each invariant off by a small patch and requires that its test turns red.

Every `NN_what.patch` here belongs to invariant NN; its first line names the test: `# test:
tests/unit/test_x.py::test_y`. The tests must be green without a patch. Exit code 1 where a mutant survives, a patch no
longer applies or a test is red without one.

    python tests/mutants/run.py            all
    python tests/mutants/run.py 02 split   those whose file name contains one of the words
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INVARIANTS = {
    1: "the draw depends on its key alone and is uniform",
    2: "every example exactly once per epoch, the same batches at any world size",
    3: "a prompt set of size one is plain supervised fine-tuning",
    4: "a resumed run equals an uninterrupted one",
    5: "held-out templates and near-copies never reach training",
    6: "ZeRO stages, micro-batches and workers agree; loss over global answer tokens",
    7: "rendering inserts field values verbatim",
    8: "exactly the answer and its EOS token carry loss",
    9: "what cannot be parsed is counted wrong",
    10: "a finished stage is not run again, a changed key is refused",
    11: "an exported adapter is non-zero and loads",
    12: "training and inference see the same token ids",
    13: "an output that is not what its stage wrote is refused by name",
    14: "one command at a time writes to a run",
    15: "no prompt set has a template that a person rejected, or a generated one that no calibrated judge is sure of",
    16: "an engine answers a later stage as one of its own would, and is left by none",
    17: "a variation is a pure function of (template, example, key), and its answers are judged as what they stand for",
    18: "what several share, weights, folders, kept answers, is whole, and of what it is taken for",
}
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "runs", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
_TIMEOUT_S = 900


def main(words: list[str]) -> int:
    """0 where every mutant is killed, else 1; prints a table."""
    patches = [p for p in sorted(HERE.glob("*.patch")) if not words or any(word in p.name for word in words)]
    if not patches:
        print(f"no patch in {HERE} matches {words}; leave the words out for all")
        return 1
    with tempfile.TemporaryDirectory(prefix="paft-mutants-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        green, output = _pytest(copy, sorted({_test_of(p) for p in patches}))
        if not green:
            print(f"{output}\nthe tests are red without a patch")
            return 1
        verdicts = {patch: _verdict(copy, patch) for patch in patches}
    _print(verdicts, everything=not words)
    return int(any(verdict != "killed" for verdict in verdicts.values()))


def _verdict(copy: Path, patch: Path) -> str:
    """`killed`, `survived` or why it says nothing; the copy is as before afterwards."""
    apply = ["git", "apply", "--unsafe-paths", f"--directory={copy}", str(patch)]
    if subprocess.run(apply, cwd=copy, capture_output=True).returncode:
        return "does not apply"
    green, output = _pytest(copy, [_test_of(patch)])
    subprocess.run([*apply, "--reverse"], cwd=copy, check=True, capture_output=True)
    if green:
        return "survived"
    return "killed" if "failed" in output.splitlines()[-1] else "broken (no test failed, it did not run)"


def _pytest(copy: Path, tests: list[str]) -> tuple[bool, str]:
    """(all passed, what pytest said) of tests in the copy, with the copy's own package."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "HYPOTHESIS_STORAGE_DIRECTORY": str(copy / ".hypothesis")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S)
    return done.returncode == 0, (done.stdout + done.stderr).strip() or "no output"


def _test_of(patch: Path) -> str:
    first = patch.read_text(encoding="utf-8").splitlines()[0]
    if not first.startswith("# test: "):
        raise SystemExit(f"{patch.name}: the first line must be `# test: PATH::NAME`")
    return first.removeprefix("# test: ").strip()


def _print(verdicts: dict[Path, str], *, everything: bool) -> None:
    for number, what in INVARIANTS.items():
        rows = [p for p in verdicts if p.name.startswith(f"{number:02d}_")]
        if rows or everything:
            print(f"{number:2d}  {what}")
        if not rows and everything:
            print("      no patch yet")
        for patch in rows:
            print(f"      {verdicts[patch]:10s} {patch.stem}  ({_test_of(patch)})")
    print(f"{sum(v == 'killed' for v in verdicts.values())} of {len(verdicts)} mutants killed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
