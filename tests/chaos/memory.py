"""Memory over a long time: 1,000,000 rows streamed to one training worker, and 20 stages one after another in one Ray
session.

`python -m tests.chaos.memory rows|stages`, a Ray of its own each. Prints a table in MiB; exit code 1 where the
last quarter needs more than the second one by over a tenth (and over 32 MiB: below that it is noise).
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.chaos.cluster import ROOT
from tests.chaos.tiny import SETTINGS, save_tiny_model

NUM_ROWS, NUM_STAGES = 1_000_000, 20
_TABLE_ROWS, _SHARE, _SAMPLES = 20_000, 16, 40
_GROWTH, _NOISE_MIB = 1.1, 32.0


def main(what: str) -> int:
    """Exit code."""
    samples = {"rows": rows, "stages": stages}[what]()
    columns: list[str] = []
    found: list[dict[str, float]] = []
    for label, sample in samples:
        if not columns:
            columns = list(sample)
            print(f"| {what} | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
        found.append(sample)
        print(f"| {label} | " + " | ".join(f"{sample[c]:.0f}" for c in columns) + " |", flush=True)
    grown = [c for c in columns if not flat([sample[c] for sample in found])]
    print(f"grew: {', '.join(grown)}" if grown else "flat")
    return int(bool(grown))


def flat(mib: list[float]) -> bool:
    """Whether the last quarter's largest is not above the second one's; the first is the start. Not the mean: how many
    tasks are seen at work varies."""
    quarter = max(1, len(mib) // 4)
    early, late = (max(part) for part in (mib[quarter : 2 * quarter], mib[-quarter:]))
    return late <= max(_GROWTH * early, early + _NOISE_MIB)


def rows() -> Iterator[tuple[str, dict[str, float]]]:
    """Memory of reader, largest task process and object store while NUM_ROWS rows are read."""
    import ray

    from benchmarks.data_path import TASK, TEMPLATES, table_of
    from paft_ray.config import ModelConfig
    from paft_ray.models.encoder import make_encoder
    from paft_ray.models.resolve import resolve_model
    from paft_ray.prompts.sampling import PerExample
    from paft_ray.training.data import GlobalOrder, RowSource, step_rows

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    source = RowSource(
        table=ray.remote(table_of).remote(_TABLE_ROWS),
        encoder=ray.put(make_encoder(TASK, ModelConfig(), resolve_model("demo", None))),
        templates=TEMPLATES,
        draw=PerExample(seed=0),
        seed=0,
        num_positions=NUM_ROWS,
    )
    order = GlobalOrder(source=source, num_steps=NUM_ROWS // _SHARE, global_batch=_SHARE, checkpoints="unused")
    expected = 0
    for batch in step_rows(order.rank_dataset(0, 1, 0).iterator(), _SHARE):
        assert [row["position"] for row in batch] == list(range(expected, expected + _SHARE)), (
            f"rows lost or repeated at {expected}"
        )
        expected += _SHARE
        if expected % (NUM_ROWS // _SAMPLES) < _SHARE:
            yield f"{expected:,}", memory("_prepare")
    assert expected == NUM_ROWS
    ray.shutdown()


def stages() -> Iterator[tuple[str, dict[str, float]]]:
    """Memory after each of NUM_STAGES stages, all of one session."""
    from paft_ray.cli.session import ray_session
    from paft_ray.config import load_config
    from paft_ray.stages.pipeline import run_stage
    from paft_ray.stages.registry import ALL, stages_of
    from paft_ray.stages.resolved_run import ResolvedRun
    from paft_ray.storage.store import Store

    with tempfile.TemporaryDirectory(prefix="paft-memory-") as folder:
        save_tiny_model(Path(folder) / "model")
        config = load_config(
            str(ROOT / "jobs/configs/demo.yaml"), [*SETTINGS, f"storage={folder}/runs", f"model.id={folder}/model"]
        )
        resolved = ResolvedRun.of(config, Store.open(config.storage, config.name)).with_models()
        with ray_session():
            for number, stage in zip(range(1, NUM_STAGES + 1), itertools.cycle(stages_of(ALL, config))):
                run_stage(stage, resolved, force=True)
                yield f"{number} {stage.name}", memory("ray::")


def memory(worker: str) -> dict[str, float]:
    """MiB: private memory of this process, of the largest and of all Ray processes whose title holds `worker`; used
    object store."""
    import ray

    this = psutil.Process()
    sizes = [0.0]
    for process in this.children(recursive=True):
        try:
            if any(worker in part for part in process.cmdline()):
                sizes.append(process.memory_full_info().uss / 2**20)
        except psutil.Error:
            continue
    store = ray.cluster_resources().get("object_store_memory", 0) - ray.available_resources().get(
        "object_store_memory", 0
    )
    return {
        "driver": this.memory_full_info().uss / 2**20,
        "largest worker": max(sizes),
        "all workers": sum(sizes),
        "object store": store / 2**20,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
