"""A small made-up run in which every stage is finished, for tests that damage it. Needs neither Ray nor torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from paft_ray.config import Config, parse_config
from paft_ray.models.identity import model_identity
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.registry import STAGES
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import ROWS, SCORE_TABLE
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example, load_task
from paft_ray.training.audit_log import SCHEMA, audit_store
from tests.support import made_stage as stages
from tests.support.made_outcomes import outcome_row, outcome_table
from tests.support.tiny_adapter import weights_files, write_base

ARMS = ("sft", "paft")
NUM_HELD_OUT, NUM_ROWS = 12, 8


def run_config(folder: Path, name: str) -> Config:
    """Of the run; the base model is a folder next to it."""
    train = {"arms": list(ARMS), "num_epochs": None, "num_steps": 2, "global_batch": 4, "micro_batch": 4}
    return parse_config(
        {
            "name": name,
            "task": "demo",
            "storage": str(folder),
            "model": {"id": str(folder / "base")},
            "score": {"num_examples": 4},
            "train": train,
            "report": {"num_bootstrap": 50},
        },
        source="test",
    )


def finished_run(folder: Path, name: str = "run") -> Store:
    """The run `name` in a folder."""
    if not (folder / "base").exists():
        write_base(folder / "base")
    config, run = run_config(folder, name), Store(str(folder / name))
    resolved = ResolvedRun.of(config, run)
    resolved.write()
    rows = [Example(id=f"e{n}", fields={"text": f"film {n}"}, answer="positive") for n in range(NUM_ROWS)]
    stages.prepared(run, {"train": rows, "validation": rows, "test": rows})
    templates = [PromptTemplate(text=f"Template {n}: {{text}}") for n in range(NUM_HELD_OUT + 3)]
    prompts = PromptSet.of(
        Entry(template=t, split="train" if n < 3 else "held_out", cluster=n) for n, t in enumerate(templates)
    )
    stages.synthesized(run, prompts, sft_template=templates[0].id)
    scores = [{"template_id": t.id, "accuracy": 0.5, "mean_logprob": -1.0} for t in templates[:3]]
    outputs = SCORE_TABLE.write(run, pa.Table.from_pylist(scores))
    stages.finish_stage(run, "score", outputs, best=templates[0].id, best_accuracy=0.5)
    _trained(run, config, prompts, templates[0].id)
    stages.evaluated(run, _outcomes(prompts), {ModelKey.BASE: {"tokens_per_answer": 2.0, "seconds_per_answer": 0.1}})
    STAGES["report"].make(resolved)
    return run


def _trained(run: Store, config: Config, prompts: PromptSet, sft: str) -> None:
    train, base = prompts.split("train"), str(config.model.id)
    sets = {"sft": train.only([sft]), "paft": train}
    key: dict[str, Any] = {
        **stages.train_key(config),
        "prompts": {arm: chosen.content_hash for arm, chosen in sets.items()},
        "data": ROWS["train"].key(run),
    }
    key["model"] = {**key["model"], "identity": model_identity(base, None, base)}
    models = []
    for arm, chosen in sets.items():
        name = ModelKey(arm, 0)
        own = {**key, "prompts": chosen.content_hash, "seed": 0}
        files = weights_files(len(arm))
        models.append(
            stages.trained_arm(run, name, kind="weights", files=files, key=own, num_templates=len(chosen), num_steps=2)
        )
        audit_store(run.below(f"train/{name}"), stages.FINGERPRINT).write_table(
            "steps-00000000-00000002.parquet", SCHEMA.empty_table()
        )
    stages.trained(run, models, key=key, peak_memory_gib=1.0)


def _outcomes(prompts: PromptSet) -> pa.Table:
    return outcome_table(
        [
            outcome_row(arm, template.id, f"e{n}", "positive", "positive" if n < right else "negative", seed=seed)
            for arm, seed, right in (("base", -1, 3), ("sft", 0, 5), ("paft", 0, 7))
            for template in prompts.split("held_out").templates
            for n in range(NUM_ROWS)
        ],
        load_task("demo").label_texts,
    )
