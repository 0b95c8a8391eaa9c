"""Every model under every column of a suite, with as few engines as there are base models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.engine_pool import shared_engines
from paft_ray.prompts.template import PromptTemplate
from paft_ray.robustness.endpoints import ask_endpoint
from paft_ray.robustness.groups import Group
from paft_ray.robustness.models import GivenModel
from paft_ray.stages.evaluate import Evaluation, asked_cells, evaluate_models
from paft_ray.stages.pipeline import longest_request
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import Speed
from paft_ray.storage.manifests import ModelKey, TrainedModel
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example


def measure(
    groups: Sequence[Group],
    asked: Sequence[GivenModel],
    resolved: ResolvedRun,
    templates: Sequence[PromptTemplate],
    examples: Sequence[Example],
) -> Evaluation:
    """What all models answer: those of the groups, then those that are `asked` at endpoints. Answers are kept in the
    store of `resolved` for good: a later call asks an engine only for what is new of the same cells, an endpoint only
    for what is new. Ray must be initialized. Raises as `evaluate_models` and `ask_endpoint`."""
    cache = AnswerCache.of(resolved.store, "").lasting
    found = _engines(groups, templates, examples, cache) if groups else []
    cells = asked_cells(resolved.config, len(templates), examples)
    for model in asked:
        assert model.endpoint is not None
        (key,) = model.keys
        found.append(
            ask_endpoint(model.endpoint, key, resolved.task, templates, examples, cache, resolved.config, cells)
        )
    return _together(found)


def _engines(
    groups: Sequence[Group], templates: Sequence[PromptTemplate], examples: Sequence[Example], cache: AnswerCache
) -> list[Evaluation]:
    """Of each group: one engine answers for all that have its base."""
    found = []
    for _, members in groupby(groups, key=lambda group: group.resolved.model.path):
        of_base = list(members)
        with shared_engines(of_base[0].resolved.model, max(longest_request(group.resolved) for group in of_base)):
            found += [_of_group(group, templates, examples, cache) for group in of_base]
    return found


def _of_group(
    group: Group, templates: Sequence[PromptTemplate], examples: Sequence[Example], cache: AnswerCache
) -> Evaluation:
    models: dict[ModelKey, TrainedModel | None] = {}
    stores: dict[ModelKey, Store] = {}
    for given in group.models:
        models |= dict.fromkeys(given.keys)
        for key, each in zip(given.keys, given.trained, strict=False):
            models[key], stores[key] = each.model, each.store
    return evaluate_models(group.resolved, models, templates, examples, cache, stores)


def _together(found: Sequence[Evaluation]) -> Evaluation:
    """The evaluations of all groups as one."""
    speed: Speed = {key: cost for each in found for key, cost in each.speed.items()}
    answers = [each.answers for each in found if each.answers is not None]
    manifests: list[Mapping[str, Any]] = [each.manifest for each in found]
    counts = {
        name: sum(manifest[name] for manifest in manifests)
        for name in ("engine_starts", "num_failed", "num_kept", "num_truncated", "num_rows")
    }
    return Evaluation(
        outcomes=pa.concat_tables([each.outcomes for each in found]),
        answers=pa.concat_tables(answers) if answers else None,
        speed=speed,
        manifest={
            **counts,
            "failures": [failure for manifest in manifests for failure in manifest["failures"]],
            "nodes": sorted({node for manifest in manifests for node in manifest["nodes"]}),
            "budget": manifests[0]["budget"],
            "endpoint_tokens": {
                name: tokens for manifest in manifests for name, tokens in manifest.get("endpoint_tokens", {}).items()
            },
        },
    )
