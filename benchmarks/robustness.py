"""`paft robustness` of one model against lm-evaluation-harness with vLLM on the same prompts, as its group `score` asks
(a task for each template, one process), and as NeMo Skills' `robust_eval` starts its jobs (a process for each
template), extrapolated from PROCESSES of them.

`python -m benchmarks.robustness`; asks for a CPU engine. The demo's 24 held-out templates x 40 rows, the model demo:
the choice among the labels and the unconstrained answer, which the peers ask as two tasks. Whole commands are timed,
reports included. Both under the engine settings of paft_ray/inference/vllm_args.py."""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environments import environment_of
from benchmarks.evaluation import Work, baseline, write_task
from benchmarks.results import paired, record
from paft_ray.config import Config
from paft_ray.models.resolve import resolve_model
from paft_ray.robustness.suites import make_suite
from paft_ray.stages.prepare import first_in_proportion
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import load_task

NUM_ROWS, PROCESSES = 40, 3


def prepare(folder: Path) -> Work:
    """The peers' tasks, of the cells that `paft robustness` asks."""
    task = load_task("demo")
    suite = make_suite([], task, Config(name="robustness", task="demo"))
    rows = first_in_proportion(list(read_examples(task, task.sources["test"])), NUM_ROWS, 0, by_answer=True)
    (folder / "tasks").mkdir()
    for number, template in enumerate(suite.plain):
        write_task(folder / "tasks", number, template, rows, task.label_texts)
    return Work(
        folder=folder,
        settings=(),
        models={"demo": resolve_model("demo", None)},
        templates=tuple(template.id for template in suite.plain),
    )


def ours(folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds of the command, and the accuracy of the choice under each template."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)  # its answers would be reused
    command = [sys.executable, "-m", "paft_ray", "robustness", "demo", "--task", "demo", "--rows", str(NUM_ROWS)]
    begin = time.perf_counter()
    subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    right: dict[str, list[bool]] = {}
    for row in Store(str(out)).read_table("outcomes.parquet").to_pylist():
        right.setdefault(row["template_id"], []).append(row["correct"])
    return seconds, {template: statistics.mean(found) for template, found in right.items()}


def main(pairs: int) -> None:
    python = environment_of("lm-eval")
    with tempfile.TemporaryDirectory() as scratch:
        measure(prepare(Path(scratch)), python, pairs)


def measure(work: Work, python: str, pairs: int) -> None:
    """Prints and records the ratios, and how far the accuracies are apart."""
    whole = range(len(work.templates))
    single = [baseline(work, python, work.models, range(n, n + 1), "tg")[0] for n in range(PROCESSES)]
    every = statistics.median(single) * len(whole)
    seconds: list[float] = []
    peer_seconds: list[float] = []
    for _ in range(pairs):
        spent, accuracies = ours(work.folder)
        peer_spent, peer_accuracies = baseline(work, python, work.models, whole, "tg")
        seconds.append(spent)
        peer_seconds.append(peer_spent)
        print(
            f"robustness: {spent:.0f} s, lm-eval {peer_spent:.0f} s; {_apart(accuracies, peer_accuracies)}", flush=True
        )
    what = f"robustness of a model, {len(whole)} templates x {NUM_ROWS} rows, choice and answer"
    one, many = "lm-evaluation-harness, a task per template", f"a process per template, extrapolated from {PROCESSES}"
    record(
        [
            paired(what, seconds, peer_seconds, peer_name=one, unit="s", more_is_better=False),
            paired(what, seconds, [every] * pairs, peer_name=many, unit="s", more_is_better=False),
        ]
    )


def _apart(accuracies: dict[str, float], peer: dict[tuple[str, str], float]) -> str:
    gaps: Sequence[float] = [abs(accuracies[template] - found) for (_, template), found in peer.items()]
    return f"accuracies differ by {statistics.mean(gaps):.3f} in the mean, {max(gaps):.3f} at most"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness")
    parser.add_argument("--pairs", type=int, default=3)
    main(parser.parse_args().pairs)
