"""The name of all that decides the weights of a training. Needs neither Ray nor torch."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa

from paft_ray.config import input_key, weights_key
from paft_ray.prompts.grouping import groups_key
from paft_ray.storage.versions import decided_by
from paft_ray.training.best_step import LabelRows
from paft_ray.training.job import Training


def fingerprint(training: Training, labels: LabelRows | None = None) -> str:
    """16 hex digits over all that decides the weights; resources, ZeRO stage and checkpoint settings are left out.
    Under another major or minor version of a library that decides weights, no training resumes.

    `labels`: rows that decide which checkpoint is exported.
    """
    parts = {
        "task": training.task.model_dump(mode="json"),
        "data": _table_hash(training.data),
        "templates": [template.id for template in training.templates.templates],
        "train": weights_key(training.config),
        "model": dict(training.model_files.identity),
        "encoding": input_key(training.model),
        "seed": training.seed,
        **groups_key(training.templates, training.config.sampling.over),
        **decided_by("train", training.results_version),
    }
    if labels:
        parts["labels"] = [
            [row["example_id"], row["template"], row["prompt_ids"], row["answer_ids"]] for row in labels.rows
        ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _table_hash(table: pa.Table) -> str:
    """SHA-256 of a table's rows and schema, however they are chunked."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()
