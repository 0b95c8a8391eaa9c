"""Stage `synthesize`: templates from users and generator models -> gate -> de-duplication -> leak-free split."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from paft_ray.config import Config, GeneratorConfig, builtin, engine_key, generator_key, prompts_key
from paft_ray.errors import UserError
from paft_ray.generators.rounds import Write, Writer, ask_generators, write_with_model
from paft_ray.log import get_logger, stage_label
from paft_ray.models.chat_frame import chat_frame
from paft_ray.prompts.gate import holds_escapes, rejection, repair
from paft_ray.prompts.prompt_set import Entry, check_templates, read_templates
from paft_ray.prompts.split import leakage_report, near, split_by_cluster, with_held_out
from paft_ray.prompts.template import PromptTemplate
from paft_ray.sanitize import masked
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.artifacts import LEAKAGE_REPORT, PROMPT_SET, RAW_ANSWERS, ROWS
from paft_ray.storage.manifests import SYNTHESIZE
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from paft_ray.storage.versions import decided_by
from paft_ray.tasks.readers import examples_from_table
from paft_ray.tasks.task import Task

_log = get_logger(__name__)
RESULTS_VERSION = 1
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""


def run(resolved: ResolvedRun, *, force: bool = False, write: Write | None = None) -> Manifest:
    """Writes prompt_set.parquet, raw.jsonl (what generators answered) and split.json (the proof) into synthesize/.

    `write`: what asks a generator; None: the real ones.
    """
    config, task, run = resolved.config, resolved.task, resolved.store
    seeds, held_out = user_templates(config, task)
    key = {
        **decided_by(_decided_as(config), RESULTS_VERSION),
        "prompts": prompts_key(config.prompts),
        "seed": config.seed,
        "task": resolved.task_key,
        "templates": {"seed": [t.id for t in seeds], "held_out": [t.id for t in held_out]},
        "generators": [_identity(resolved, generator) for generator in config.prompts.generators],
        "engine": engine_key(config.engine),
    }
    if config.prompts.num_shared_examples:
        if not run.exists("prepare/train.parquet"):
            raise UserError(
                f"run {run.name}: prompts.num_shared_examples shows training rows, and there are none yet; run stage "
                "prepare first"
            )
        key["data"] = ROWS["train"].key(run)
    return cached(
        run,
        SYNTHESIZE,
        key,
        lambda: _build(config, task, seeds, held_out, run, write or _writing(resolved)),
        force=force,
        accept=resolved.accept,
    )


def _decided_as(config: Config) -> str:
    """The entry of `versions.DECIDING`: no engine decides what endpoints and users write."""
    return "synthesize with a local model" if config.prompts.local_generators else "synthesize"


def _writing(resolved: ResolvedRun) -> Write:
    from paft_ray.inference.answer_cache import AnswerCache

    return partial(
        write_with_model,
        parts=AnswerCache.of(resolved.store, SYNTHESIZE),
        model_of=resolved.generator_model,
        insecure_hosts=resolved.config.insecure_hosts,
    )


def _identity(resolved: ResolvedRun, generator: GeneratorConfig) -> dict[str, Any]:
    if generator.endpoint is not None:
        return generator_key(generator)
    model = resolved.generator_model(generator)
    return {**model.identity, "chat_frame": chat_frame(model, {})}


def user_templates(config: Config, task: Task) -> tuple[list[PromptTemplate], list[PromptTemplate]]:
    """(seed templates, held-out templates) of the configuration, checked. Raises `UserError`."""
    seeds = _templates(config, config.prompts.seed_templates, task.seed_templates, task)
    held_out = _templates(config, config.prompts.held_out_templates, task.held_out_templates, task)
    if not seeds and not config.prompts.generators:
        raise UserError(
            "prompts: neither seed_templates nor generators are given; set prompts.seed_templates=FILE or name a "
            "generator"
        )
    if held_out and len(held_out) < config.prompts.min_held_out:
        raise UserError(
            f"prompts: {len(held_out)} distinct held-out templates given, at least {config.prompts.min_held_out} "
            "are needed; add some"
        )
    least = config.prompts.min_held_out + 1
    if not held_out and not config.prompts.generators and len(seeds) < least:
        raise UserError(
            f"prompts: {len(seeds)} distinct templates and no generators, at least {least} are needed to hold "
            f"{least - 1} out; bring more"
        )
    if not seeds and "sft" in config.train.arms:
        raise UserError(
            "prompts: arm sft trains on the first seed template, but prompts.seed_templates is not set; set it "
            "or leave sft out of train.arms"
        )
    return seeds, held_out


def _templates(config: Config, path: str | None, own: str | None, task: Task) -> list[PromptTemplate]:
    if path is None:
        return []
    if path == "builtin":
        if own is None:
            raise UserError(f"prompts: task {task.name} ships no templates; give a JSONL file instead of `builtin`")
        path = own
    if path.startswith("builtin:") and ".." in path.split("/"):
        raise UserError(
            f"templates {path}: leads out of the package; give the path of a file of your own without builtin:"
        )
    found = str(builtin(*path.removeprefix("builtin:").split("/"))) if path.startswith("builtin:") else path
    return gated_templates(found, config, task)


def gated_templates(path: str, config: Config, task: Task) -> list[PromptTemplate]:
    """Distinct templates of a file, repaired. Raises `UserError` naming the first one that the gate refuses."""
    given = read_templates(path)
    escaped = holds_escapes(given)
    templates = [repair(template, escaped=escaped)[0] for template in given]
    check_templates(templates, task.fields, path)
    for number, template in enumerate(templates, start=1):
        if reason := rejection(template, task, max_words=config.prompts.max_words):
            raise UserError(
                f"{path}: template {number} is refused: {reason} ({masked(template.text)[:60]!r}); "
                f"fix it, or let `paft prompts import {path} --task {config.task} --out FILE.jsonl` remove "
                "all such templates"
            )
    return list({template.id: template for template in templates}.values())


def _build(
    config: Config, task: Task, seeds: list[PromptTemplate], held_out: list[PromptTemplate], run: Store, write: Write
) -> Manifest:
    settings = config.prompts
    fixed = [Entry(template=t, provenance={"source": "held_out"}) for t in held_out]
    entries = [Entry(template=t, provenance={"source": "seed"}) for t in seeds]
    rejected: Counter[str] = Counter()
    if leaks := near(entries, fixed, settings.similarity):
        if seeds and seeds[0].id in leaks:
            raise UserError(
                "prompts: the first seed template is a near-copy of a held-out one "
                f"({masked(seeds[0].text)[:60]!r}); change one of them"
            )
        entries = [e for e in entries if e.template.id not in leaks]
        rejected["near_held_out"] += len(leaks)
    examples = (
        examples_from_table(ROWS["train"].read(run).slice(0, settings.num_shared_examples))
        if settings.num_shared_examples
        else []
    )
    writers = ask_generators(config, task, seeds, [*entries, *fixed], examples, write)
    raw = [row for writer in writers for row in writer.raw]
    entries += [entry for writer in writers for entry in writer.accepted]
    rejected.update(row["rejected"] for row in raw if row["rejected"])
    kept = sum(row["rejected"] is None for row in raw)
    sft = seeds[0].id if seeds else None
    if fixed:
        prompts = with_held_out(entries, fixed, threshold=settings.similarity)
    else:
        prompts = split_by_cluster(
            entries,
            fraction=settings.held_out_fraction,
            min_held_out=settings.min_held_out,
            threshold=settings.similarity,
            seed=config.seed,
            keep_in_train=sft,
        )
    _announce(settings.num_candidates if settings.generators else 0, kept, writers, raw, rejected)
    outputs = RAW_ANSWERS.write(run, raw) | LEAKAGE_REPORT.write(run, leakage_report(prompts, settings.similarity))
    outputs |= PROMPT_SET.write(run, prompts)
    shares = [row["grammar_share"] for row in raw if row["rejected"] is None]
    return {
        "asked": settings.num_candidates if settings.generators else 0,
        "kept": kept,
        "rejected": dict(rejected),
        "num_train": len(prompts.split("train")),
        "num_held_out": len(prompts.split("held_out")),
        "sft_template": sft,
        "generators": [
            {"source": w.generator.label, "asked": w.target, "kept": len(w.accepted), "tokens": w.tokens}
            for w in writers
        ],
        "engine_starts": sum(writer.rounds for writer in writers if writer.generator.endpoint is None),
        "grammar_share": round(sum(shares) / len(shares), 3) if shares else None,
        "outputs": outputs,
    }


def _announce(asked: int, kept: int, writers: list[Writer], raw: list[dict[str, Any]], rejected: Counter[str]) -> None:
    if not raw:
        return
    reasons = ", ".join(f"{reason} {n}" for reason, n in rejected.most_common())
    label = stage_label("synthesize")
    _log.info(f"{label} asked {asked}, got {kept} from {len(raw)} answers; rejected: {reasons or 'none'}")
    for writer in writers if len(writers) > 1 else ():
        _log.info(f"{label} {writer.generator.label}: asked {writer.target}, got {len(writer.accepted)}")
    for row in raw[:4]:
        _log.info(f"{label} {row['strategy']}, {row['rejected'] or 'kept'}: {row['text']!r}")
    for row in raw[4:]:
        _log.debug(f"{label} {row['strategy']}, {row['rejected'] or 'kept'}: {row['text']!r}")
