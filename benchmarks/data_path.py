"""Draw + render + encode: rows per second in one process, and memory of the complete Ray Data path at 1k, 10k and 200k
rows.

`python benchmarks/data_path.py`. Memory is the peak private memory (USS) of the reader and of the largest Ray Data task
process, and the peak of the object store; a Ray of its own per size. At most 20,000 rows are read per size: what must
not grow is the memory, whatever the size of the table."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from paft_ray.config import ModelConfig, builtin
from paft_ray.models.encoder import make_encoder
from paft_ray.models.resolve import resolve_model
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.prompts.sampling import PerExample
from paft_ray.tasks.readers import examples_to_table, read_examples
from paft_ray.tasks.task import Example, load_task
from paft_ray.training.data import GlobalOrder, RowSource
from paft_ray.training.example_builder import ExampleBuilder

SIZES = (1_000, 10_000, 200_000)
MOST_READ = 20_000
BATCH = 16
TASK = load_task("demo")
TEMPLATES = tuple(read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl")))


def table_of(num_rows: int) -> pa.Table:
    """The demo rows, repeated with new ids."""
    examples = list(read_examples(TASK, TASK.sources["train"]))
    rows = (
        Example(id=str(i), fields=(e := examples[i % len(examples)]).fields, answer=e.answer) for i in range(num_rows)
    )
    return examples_to_table(rows, TASK.fields)


def rows_per_second(num_rows: int = 4_000) -> dict[str, float]:
    """Speed of each part alone, one process, warm."""
    encoder = make_encoder(TASK, ModelConfig(), resolve_model("demo", None))
    draw = PerExample(seed=0)
    maker = ExampleBuilder(
        table=table_of(num_rows), templates=TEMPLATES, encoder=encoder, draw=draw, seed=0, num_positions=num_rows
    )
    examples = [Example(**row) for row in maker.table.to_pylist()]
    maker.rows(np.arange(64))
    picks = [0] * num_rows

    def drawing() -> None:
        for i, example in enumerate(examples):
            picks[i] = draw.index(epoch=0, example_id=example.id, index_in_epoch=i, num_templates=len(TEMPLATES))

    def rendering() -> None:
        for pick, example in zip(picks, examples, strict=True):
            TEMPLATES[pick].render(example.fields)

    def encoding() -> None:
        for pick, example in zip(picks, examples, strict=True):
            encoder.encode(TEMPLATES[pick], example)

    parts = {
        "draw": drawing,
        "render": rendering,
        "render + encode": encoding,
        "whole row (order, draw, render, encode)": lambda: maker.rows(np.arange(num_rows)),
    }
    speeds = {}
    for name, part in parts.items():
        start = time.perf_counter()
        part()
        speeds[name] = num_rows / (time.perf_counter() - start)
    return speeds


def measure(num_rows: int) -> dict[str, Any]:
    """Reads min(num_rows, MOST_READ) rows through Ray Data as a training worker does; peaks in MiB."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    table = ray.remote(table_of).remote(
        num_rows
    )  # made elsewhere, so that the reader's memory is the data path's alone
    table_mib = ray.get(table).nbytes / 2**20
    source = RowSource(
        table=table,
        encoder=ray.put(make_encoder(TASK, ModelConfig(), resolve_model("demo", None))),
        templates=TEMPLATES,
        draw=PerExample(seed=0),
        seed=0,
        num_positions=num_rows,
    )
    order = GlobalOrder(source=source, num_steps=num_rows // BATCH, global_batch=BATCH, checkpoints="unused")
    peak, done = {"reader_mib": 0.0, "task_mib": 0.0, "store_mib": 0.0}, threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, done))
    watcher.start()
    start, read = time.perf_counter(), 0
    for batch in (
        order.rank_dataset(0, 1, 0)
        .iterator()
        .iter_batches(batch_size=BATCH, batch_format="pyarrow", prefetch_batches=4)
    ):
        read += len(batch.to_pylist())
        if read >= MOST_READ:
            break
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    ray.shutdown()
    return {"rows": num_rows, "read": read, "rows_per_s": read / seconds, "table_mib": table_mib, **peak}


def _watch(peak: dict[str, float], done: threading.Event) -> None:
    import ray

    raylet = next(p for p in psutil.Process().children(recursive=True) if p.name() == "raylet")
    while not done.wait(0.25):
        found = {"reader_mib": psutil.Process().memory_full_info().uss}
        for process in raylet.children(recursive=True):
            try:
                if any("_prepare" in part for part in process.cmdline()):
                    found["task_mib"] = max(found.get("task_mib", 0), process.memory_full_info().uss)
            except psutil.Error:
                continue
        found["store_mib"] = ray.cluster_resources().get("object_store_memory", 0) - ray.available_resources().get(
            "object_store_memory", 0
        )
        for name, value in found.items():
            peak[name] = max(peak[name], value / 2**20)


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
        return
    print("| part, one process | rows/s |\n|---|---|")
    for name, speed in rows_per_second().items():
        print(f"| {name} | {speed:,.0f} |", flush=True)
    print(
        "\n| rows in the table | read | rows/s through Ray Data, start included | table MiB | reader MiB | "
        "largest task MiB | object store MiB |\n"
        "|---|---|---|---|---|---|---|"
    )
    for size in SIZES:
        output = subprocess.run(
            [sys.executable, __file__, str(size)], check=True, capture_output=True, text=True
        ).stdout
        found = json.loads(output.splitlines()[-1])
        print(
            f"| {found['rows']:,} | {found['read']:,} | {found['rows_per_s']:,.0f} | {found['table_mib']:.1f} | "
            f"{found['reader_mib']:.0f} "
            f"| {found['task_mib']:.0f} | {found['store_mib']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
