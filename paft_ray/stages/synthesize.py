"""Stage `prompts`: templates from users and generator models -> gate -> de-duplication -> leak-free split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from paft_ray.artifacts import Manifest, Run, cached
from paft_ray.config import Config, EngineConfig, GeneratorConfig, builtin, engine_key
from paft_ray.errors import UserError
from paft_ray.models import model_identity, resolve_model
from paft_ray.prompts.gate import rejection, repair
from paft_ray.prompts.prompt_set import Entry, check_templates, read_templates
from paft_ray.prompts.request import Request, Written, grammar_share, request
from paft_ray.prompts.split import near, proof, split_by_cluster, with_held_out
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, load_task

Write = Callable[[Sequence[Request], GeneratorConfig, EngineConfig, int], list[Written]]
"""(requests, generator, engine, seed) -> one answer per request; one engine start."""


def write_with_engine(requests: Sequence[Request], generator: GeneratorConfig, engine: EngineConfig, seed: int) -> list[Written]:
    """The real generators: vLLM through Ray Data, imported only where it is used."""
    from paft_ray.inference.synthesis import write_templates

    return write_templates(requests, generator, engine, seed)


def run(config: Config, run: Run, *, force: bool = False, write: Write = write_with_engine) -> Manifest:
    """Writes prompts/prompt_set.parquet, prompts/raw.jsonl (what generators answered) and prompts/split.json (the proof).

    `write`: what asks a generator.
    """
    task = load_task(config.task)
    seeds, held_out = user_templates(config, task)
    key = {
        "prompts": config.prompts.model_dump(mode="json"),
        "seed": config.seed,
        "task": task.model_dump(mode="json"),
        "templates": {"seed": [t.id for t in seeds], "held_out": [t.id for t in held_out]},
        "generators": [model_identity(g.id, g.revision, resolve_model(g.id, g.revision)) for g in config.prompts.generators],
        "engine": engine_key(config.engine),
    }
    return cached(run, "prompts", key, lambda: _build(config, task, seeds, held_out, run, write), force=force)


def user_templates(config: Config, task: Task) -> tuple[list[PromptTemplate], list[PromptTemplate]]:
    """(seed templates, held-out templates) of the configuration, checked. Raises `UserError`."""
    seeds = _templates(config, config.prompts.seed_templates, task.seed_templates, task)
    held_out = _templates(config, config.prompts.held_out_templates, task.held_out_templates, task)
    if not seeds and not config.prompts.generators:
        raise UserError("prompts: neither seed_templates nor generators are given; set prompts.seed_templates=FILE or name a generator")
    if held_out and len(held_out) < config.prompts.min_held_out:
        raise UserError(f"prompts: {len(held_out)} distinct held-out templates given, at least {config.prompts.min_held_out} are needed; add some")
    least = config.prompts.min_held_out + 1
    if not held_out and not config.prompts.generators and len(seeds) < least:
        raise UserError(f"prompts: {len(seeds)} distinct templates and no generators, at least {least} are needed to hold {least - 1} out; bring more")
    if not seeds and "sft" in config.train.arms:
        raise UserError("prompts: arm sft trains on the first seed template, but prompts.seed_templates is not set; set it or leave sft out of train.arms")
    return seeds, held_out


def _templates(config: Config, path: str | None, own: str | None, task: Task) -> list[PromptTemplate]:
    if path is None:
        return []
    if path == "builtin":
        if own is None:
            raise UserError(f"prompts: task {task.name} ships no templates; give a JSONL file instead of `builtin`")
        path = own
    found = str(builtin(*path.removeprefix("builtin:").split("/"))) if path.startswith("builtin:") else path
    return gated_templates(found, config, task)


def gated_templates(path: str, config: Config, task: Task) -> list[PromptTemplate]:
    """Distinct templates of a file, repaired. Raises `UserError` naming the first one that the gate refuses."""
    templates = [repair(template)[0] for template in read_templates(path)]
    check_templates(templates, task.fields, path)
    for number, template in enumerate(templates, start=1):
        if reason := rejection(template, task, max_words=config.prompts.max_words):
            raise UserError(
                f"{path}: template {number} is refused: {reason} ({template.text[:60]!r}); "
                f"mend it, or let `paft prompts import {path} --task {config.task} --out FILE.jsonl` take out all such templates"
            )
    return list({template.id: template for template in templates}.values())


def _build(config: Config, task: Task, seeds: list[PromptTemplate], held_out: list[PromptTemplate], run: Run, write: Write) -> Manifest:
    settings = config.prompts
    fixed = [Entry(template=t, provenance={"source": "held_out"}) for t in held_out]
    entries = [Entry(template=t, provenance={"source": "seed"}) for t in seeds]
    rejected: Counter[str] = Counter()
    if leaks := near(entries, fixed, settings.similarity):
        if seeds and seeds[0].id in leaks:
            raise UserError(f"prompts: the first seed template is a near-copy of a held-out one ({seeds[0].text[:60]!r}); change one of them")
        entries = [e for e in entries if e.template.id not in leaks]
        rejected["near_held_out"] += len(leaks)
    raw: list[dict[str, Any]] = []
    starts = 0
    for number, generator in enumerate(settings.generators):
        share = _share(settings.num_candidates, len(settings.generators), number)
        made, rows, used = _from_generator(config, task, generator, share, seeds, [*entries, *fixed], write)
        starts += used
        raw += rows
        entries += made
    rejected.update(row["rejected"] for row in raw if row["rejected"])
    kept = sum(row["rejected"] is None for row in raw)
    sft = seeds[0].id if seeds else None
    if fixed:
        prompts = with_held_out(entries, fixed, threshold=settings.similarity)
    else:
        prompts = split_by_cluster(
            entries, fraction=settings.held_out_fraction, min_held_out=settings.min_held_out, threshold=settings.similarity, seed=config.seed, keep_in_train=sft
        )
    _announce(settings.num_candidates if settings.generators else 0, kept, raw, rejected)
    run.write_bytes("prompts/raw.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in raw).encode())
    run.write_json("prompts/split.json", proof(prompts, settings.similarity))
    run.write_table("prompts/prompt_set.parquet", prompts.to_table())
    shares = [row["grammar_share"] for row in raw if row["rejected"] is None]
    return {
        "asked": settings.num_candidates if settings.generators else 0,
        "kept": kept,
        "rejected": dict(rejected),
        "num_train": len(prompts.split("train")),
        "num_held_out": len(prompts.split("held_out")),
        "sft_template": sft,
        "engine_starts": starts,
        "grammar_share": round(sum(shares) / len(shares), 3) if shares else None,
    }


def _share(total: int, parts: int, number: int) -> int:
    return total // parts + (number < total % parts)


def _from_generator(
    config: Config, task: Task, generator: GeneratorConfig, target: int, seeds: list[PromptTemplate], others: list[Entry], write: Write
) -> tuple[list[Entry], list[dict[str, Any]], int]:
    """(accepted entries, every raw answer with its reason, engine starts) of one generator; each round asks for twice what is missing."""
    accepted: list[Entry] = []
    raw: list[dict[str, Any]] = []
    rounds = 0
    while len(accepted) < target and rounds < config.prompts.max_attempts:
        first = len(raw)
        requests = [request(task, seeds, config.prompts.few_shot, config.seed, first + i) for i in range(2 * (target - len(accepted)))]
        rounds += 1
        for asked, written in zip(requests, write(requests, generator, config.engine, config.seed + rounds), strict=True):
            template, _ = repair(PromptTemplate(text=written.text))
            unanswered = None if written.finished else "unfinished" if written.text else "failed"
            reason = unanswered or rejection(template, task, max_words=config.prompts.max_words)
            if reason is None and near([Entry(template=template)], [*others, *accepted], config.prompts.similarity):
                reason = "near_duplicate"
            if reason is None and len(accepted) >= target:
                reason = "surplus"
            share = grammar_share(template, task)
            origin = {"strategy": asked.strategy, "axes": asked.axes, "grammar_share": share}
            raw.append({"generator": generator.id, **origin, "text": written.text, "rejected": reason})
            if reason is None:
                provenance = {"source": generator.id, **origin, "attempt": rounds}
                accepted.append(Entry(template=template, provenance=provenance))
    return accepted, raw, rounds


def _announce(asked: int, kept: int, raw: list[dict[str, Any]], rejected: Counter[str]) -> None:
    if not raw:
        return
    reasons = ", ".join(f"{reason} {n}" for reason, n in rejected.most_common())
    print(f"synthesize: asked {asked}, got {kept} from {len(raw)} answers; rejected: {reasons or 'none'}", flush=True)
    for row in raw[:4]:
        print(f"  {row['strategy']}, {row['rejected'] or 'kept'}: {row['text']!r}", flush=True)
