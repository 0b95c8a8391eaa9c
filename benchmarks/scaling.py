"""How time and memory grow: with examples, templates, evaluated cells, arms, trials of a sweep and nodes; the exponent
of time between the two largest sizes.

`python -m benchmarks.scaling [PART ...]`. Every measurement is a process of its own that imports and prepares first and
is timed then; memory is its peak less what it held before. Models and engines take no part: their time grows with the
tokens that they read. Nodes are several raylets on this one machine, which share its cores: figures of the control
plane, not of a cluster. Outcomes are drawn at random here and stand for no measurement."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.data_path import TASK, TEMPLATES, table_of
from paft_ray.config import ModelConfig, load_config
from paft_ray.inference.arrived import Arrived
from paft_ray.inference.engine import ANSWERS, ARRIVING, take_nodes
from paft_ray.inference.evaluator import judge_model
from paft_ray.inference.generate import Generated, accept
from paft_ray.inference.grid import Free, Grid
from paft_ray.metrics import arms_from_table
from paft_ray.metrics.intervals import difference
from paft_ray.models.encoder import make_encoder
from paft_ray.models.local import find_model
from paft_ray.models.resolve import resolve_model
from paft_ray.prompts.gate import gate
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.sampling import PerExample
from paft_ray.prompts.split import leakage_report, split_by_cluster
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.render import write_report
from paft_ray.report.sweep import TrialOutcomes, write_sweep
from paft_ray.stages.registry import REPORTED
from paft_ray.storage.artifacts import OUTCOMES, PROMPT_SET, ROWS, SPEED
from paft_ray.storage.manifests import EVALUATE, PREPARE, SYNTHESIZE
from paft_ray.storage.stage_cache import finish
from paft_ray.storage.store import Store
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import Example, Source
from paft_ray.training.data_order import step_positions
from paft_ray.training.example_builder import ExampleBuilder

CONFIG = load_config("jobs/configs/demo.yaml", [])
Work = Callable[[], object]


def reading(size: int, folder: Path) -> Work:
    """A file of `size` examples, read and checked."""
    path = folder / "rows.jsonl"
    lines = [{**row["fields"], TASK.answer: row["answer"], "n": n} for n, row in enumerate(table_of(size).to_pylist())]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lambda: sum(1 for _ in read_examples(TASK, Source(path=str(path))))


def drawing(size: int, folder: Path) -> Work:
    """2,000 training rows, drawn from a table of `size` examples."""
    return _making_rows(table_of(size), TEMPLATES)


def templating(size: int, folder: Path) -> Work:
    """2,000 training rows of 1,000 examples, under templates drawn from `size`."""
    return _making_rows(table_of(1_000), tuple(PromptTemplate(text=text) for text in _templates(size)))


def splitting(size: int, folder: Path) -> Work:
    """`size` templates through the gate and into a split by clusters, with its proof."""
    texts = _templates(size)

    def work() -> None:
        kept = gate(texts, TASK, max_words=200).kept
        prompts = split_by_cluster(
            [Entry(template=t) for t in kept], fraction=0.2, min_held_out=10, threshold=0.7, seed=0, keep_in_train=None
        )
        leakage_report(prompts, 0.7)

    return work


def figuring(size: int, folder: Path) -> Work:
    """The difference of two arms with its interval, `size` templates x 50 examples."""
    arms = arms_from_table(_outcomes(["sft", "paft"], size, 50))
    return lambda: difference(arms["paft"], arms["sft"], confidence=0.95)


def reporting(size: int, folder: Path) -> Work:
    """The report of `size` arms, 12 templates x 50 examples."""
    run = Store(str(folder / "run"))
    entries = [Entry(template=PromptTemplate(text=text), split="held_out") for text in _templates(12)]
    prompts = PromptSet.of([Entry(template=TEMPLATES[0]), *entries])
    ids = [entry.template.id for entry in entries]
    outcomes = _outcomes(["sft", "paft", *(f"other{n}" for n in range(size - 2))], 12, 50, ids)
    stages = {
        PREPARE: {"outputs": ROWS["test"].write(run, table_of(50))},
        SYNTHESIZE: {"outputs": PROMPT_SET.write(run, prompts)},
        EVALUATE: {"outputs": OUTCOMES.write(run, outcomes) | SPEED.write(run, {}), "engine_starts": 1},
    }
    for stage, manifest in stages.items():
        finish(run, stage, {}, manifest, time_s=1.0, announce=lambda _: None)
    return lambda: write_report(run, config=CONFIG, stages=REPORTED)


def judging(size: int, folder: Path) -> Work:
    """The answers of 12 models to `size` cells as the driver of stage evaluate gets them, a batch at a time: kept, then
    judged. Made-up answers take the engine's place; half of them name a label."""
    models = [str(number) for number in range(12)]
    grid = Grid(
        task=TASK,
        templates=TEMPLATES,
        examples=tuple(Example(**row) for row in table_of(size // (len(models) * len(TEMPLATES))).to_pylist()),
        model=CONFIG.model,
        model_files=find_model("demo", None),
        free=Free(max_tokens=16),
    )
    labels = [ids[0] for ids in grid.encoder.label_ids(False).values()]
    common = {"top_ids": labels, "latency_s": 0.1, "error": "", "replica": "a", "node": "b"}
    said = [[labels[0]], [labels[1]], [504, 2644, 282, 9], [511, 2650, 282, 17]]

    def answer(model: str, cell: int) -> dict[str, Any]:
        key, logprobs = json.dumps([cell, 0, False, [], 0]), [-0.1 * (cell % 7 + 1), -3.0]
        ids = {"key": key, "request": f"{cell:016x}", "weights": model, "token_ids": said[cell % 4]}
        return {**common, **ids, "top_logprobs": logprobs}

    def work() -> None:
        arrived, rows = Arrived(ANSWERS.empty_table()), CONFIG.engine.batch_rows
        for model in models:
            for start in range(0, grid.num_cells, rows):
                cells = range(start, min(start + rows, grid.num_cells))
                batch = pa.Table.from_pylist([answer(model, cell) for cell in cells], schema=ARRIVING)
                arrived.add(take_nodes(batch)[0])
        answered = Generated(
            answers=accept(arrived.table, 0.0),
            num_failed=0,
            failures=[],
            num_kept=0,
            time_s=0.0,
            nodes=(),
            engine_starts=1,
        )
        pa.concat_tables([judge_model(grid, model, answered).outcomes for model in models])

    return work


def sweeping(size: int, folder: Path) -> Work:
    """The report of a sweep of `size` trials."""
    run = Store(str(folder / "run"))
    trials = [
        TrialOutcomes(
            name=f"t{n}",
            size=2 ** (n % 8),
            subset_seed=n // 8,
            validation_loss=1.0,
            outcomes=_outcomes([f"t{n}"], 12, 50),
        )
        for n in range(size)
    ]
    return lambda: write_sweep(
        run, trials, config=CONFIG, starts=(1, 1), counts={"finished": size, "failed": 0, "reused": 0}
    )


def looking(size: int, folder: Path) -> Work:
    """`paft doctor` asks every node of `size`."""
    from ray.cluster_utils import Cluster

    from paft_ray.cli.cluster_probe import gather

    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(size - 1):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    gather(str(folder), [])  # starts a worker process on each
    return lambda: gather(str(folder), [])


PARTS: dict[str, tuple[Callable[[int, Path], Work], tuple[int, ...]]] = {
    "examples read": (reading, (1_000, 10_000, 100_000, 1_000_000)),
    "table that 2,000 rows are drawn from": (drawing, (1_000, 10_000, 100_000, 1_000_000)),
    "templates that 2,000 rows are drawn from": (templating, (1, 100, 1_000, 10_000)),
    "templates gated, clustered, split": (splitting, (300, 1_000, 3_000, 10_000)),
    "templates compared": (figuring, (12, 100, 1_000, 10_000)),
    "cells judged": (judging, (100_000, 590_000, 5_900_000)),
    "arms reported": (reporting, (2, 4, 8, 16)),
    "trials of a sweep reported": (sweeping, (8, 32, 128, 512)),
    "nodes asked by paft doctor": (looking, (1, 2, 4, 8)),
}


def measure(part: str, size: int) -> dict[str, float]:
    """Seconds, and MiB on top of what was held before."""
    with tempfile.TemporaryDirectory() as folder:
        work = PARTS[part][0](size, Path(folder))
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _status("VmRSS")
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "mib": (_status("VmHWM") - before) / 2**10}


def _status(name: str) -> int:
    """A figure of this process's memory, KiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    """Slope of the logarithms between the two largest sizes, where fixed costs weigh least."""
    return float(np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2]))


def main(parts: list[str]) -> None:
    print("| what grows | sizes | seconds | exponent | MiB more |\n|---|---|---|---|---|")
    for part in parts or PARTS:
        sizes = PARTS[part][1]
        found = []
        for size in sizes:
            output = subprocess.run(
                [sys.executable, "-m", "benchmarks.scaling", "--one", part, str(size)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            found.append(json.loads(output.splitlines()[-1]))
        seconds = [one["seconds"] for one in found]
        cells = [
            ", ".join(f"{size:,}" for size in sizes),
            ", ".join(f"{s:.3g}" for s in seconds),
            f"{exponent(sizes, seconds):.2f}",
        ]
        cells.append(", ".join(f"{one['mib']:.0f}" for one in found))
        print(f"| {part} | {' | '.join(cells)} |", flush=True)


def _making_rows(table: pa.Table, templates: tuple[PromptTemplate, ...]) -> Work:
    encoder = make_encoder(TASK, ModelConfig(), resolve_model("demo", None))
    maker = ExampleBuilder(
        table=table,
        templates=templates,
        encoder=encoder,
        draw=PerExample(seed=0),
        seed=0,
        num_positions=10 * len(table),
    )
    return lambda: [maker.rows(step_positions(step, 0, 1, 16)) for step in range(125)]


def _templates(size: int) -> list[str]:
    """Wordings of 20 to 40 words out of 2,000, the same at every call."""
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(3, 9))) for _ in range(2_000)]
    return [
        " ".join(words[w] for w in rng.integers(0, len(words), rng.integers(20, 40))) + " {text}" for _ in range(size)
    ]


def _outcomes(arms: list[str], num_templates: int, num_examples: int, ids: list[str] | None = None) -> pa.Table:
    rng = np.random.default_rng(0)
    ids = ids or [f"t{n}" for n in range(num_templates)]
    cells = num_templates * num_examples
    tables = []
    for arm in arms:
        correct = rng.random(cells) < 0.7
        columns = {
            "arm": [arm] * cells,
            "seed": [0] * cells,
            "template_id": np.repeat(ids, num_examples),
            "example_id": [str(n) for n in range(num_examples)] * num_templates,
            "answer": ["positive"] * cells,
            "correct": correct,
            "parsed": [True] * cells,
            "predicted": np.where(correct, "positive", "negative"),
            "logprob": -rng.random(cells),
            "behavior": correct.astype(np.float32),
            "strict": correct.astype(np.float32),
            "named": np.where(correct, "positive", "negative"),
            "said": np.where(correct, "positive", "negative"),
            "num_tokens": [2] * cells,
            "label_logprobs": list(-rng.random((cells, 2))),
            "label_mass": rng.random(cells),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main(sys.argv[1:])
