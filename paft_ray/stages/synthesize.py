"""Stage `synthesize`: templates from users and generator models -> gate -> de-duplication -> leak-free split."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict
from functools import partial
from typing import Any

from paft_ray.config import Config, GeneratorConfig, engine_key, generator_key, prompts_key
from paft_ray.errors import UserError
from paft_ray.generators.candidates import recorded
from paft_ray.generators.grammar.fill import fill_up
from paft_ray.generators.quality.review import Signals
from paft_ray.generators.rounds import Write, Writer, ask_generators, write_with_model
from paft_ray.log import get_logger, stage_label
from paft_ray.models.chat_frame import chat_frame
from paft_ray.prompts.decisions import Decided, Decisions, check_known, decide, mark
from paft_ray.prompts.gate import repair
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.selection import Coverage, coverage
from paft_ray.prompts.split import leakage_report, near_held_out, split_by_cluster, with_held_out
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report.quality import num_accepted, quality_sentences
from paft_ray.sanitize import masked
from paft_ray.stages.candidate_review import CandidateReview
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.user_templates import decisions_of, given_templates, rejected_templates, user_templates
from paft_ray.storage.artifacts import DECISIONS, LEAKAGE_REPORT, PROMPT_SET, RAW_ANSWERS, ROWS
from paft_ray.storage.manifests import SYNTHESIZE
from paft_ray.storage.quality import QUALITY, Quality
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from paft_ray.storage.versions import decided_by
from paft_ray.tasks.readers import examples_from_table
from paft_ray.tasks.task import Example, Task

_log = get_logger(__name__)
_SHOWN = 4  # answers; the others with --verbose
RESULTS_VERSION = 7
"""Raised where a change of the code changes results (`scripts/results_versions.py`)."""


def run(
    resolved: ResolvedRun, *, force: bool = False, write: Write | None = None, signals: Signals | None = None
) -> Manifest:
    """Writes prompt_set.parquet, raw.jsonl (what generators answered), split.json (the proof), quality.json where
    models wrote (what was found of it) and, where people decided about templates, decisions.jsonl into synthesize/.

    `write`: what asks a generator; None: the real ones. `signals`: what reviews candidates; None: the judges of the
    configuration.
    """
    config, task, run = resolved.config, resolved.task, resolved.store
    seeds, held_out = user_templates(config, task)
    key = {
        **decided_by(_decided_as(config), RESULTS_VERSION),
        "prompts": prompts_key(config.prompts),
        "seed": config.seed,
        "task": resolved.task_key,
        "templates": {"seed": [t.id for t in seeds], "held_out": [t.id for t in held_out], **_grouped(seeds, held_out)}
        | _verdicts(decisions_of(config)),
        "generators": [_identity(resolved, generator) for generator in config.prompts.generators],
        "engine": engine_key(config.engine),
    }
    if (judge := config.prompts.judging_model) is not None:
        key["judge"] = _identity(resolved, judge)
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
        lambda: _build(resolved, seeds, held_out, write or _writing(resolved), signals),
        force=force,
        accept=resolved.accept,
    )


def _grouped(*files: list[PromptTemplate]) -> dict[str, dict[str, str]]:
    """The groups and frames of the templates, by id: part of the key where a file names one."""
    given = [template for templates in files for template in templates]
    groups = {t.id: t.group for t in given if t.group is not None}
    frames = {t.id: t.frame for t in given if t.frame is not None}
    return {name: found for name, found in (("groups", groups), ("frames", frames)) if found}


def _verdicts(decisions: Decisions) -> dict[str, dict[str, str]]:
    """What people decided, by id: part of the key where they did."""
    return {"decisions": {name: each.decision for name, each in sorted(decisions.items())}} if decisions else {}


def _decided_as(config: Config) -> str:
    """The entry of `versions.DECIDING`: no engine decides what endpoints and users write."""
    return "synthesize with a local model" if config.prompts.local_models else "synthesize"


def _writing(resolved: ResolvedRun) -> Write:
    from paft_ray.inference.answer_cache import AnswerCache

    return partial(
        write_with_model,
        cache=AnswerCache.of(resolved.store, SYNTHESIZE),
        model_of=resolved.generator_model,
        insecure_hosts=resolved.config.insecure_hosts,
    )


def _identity(resolved: ResolvedRun, generator: GeneratorConfig) -> dict[str, Any]:
    if generator.type != "vllm":
        return generator_key(generator)
    model = resolved.generator_model(generator)
    return {**model.identity, "chat_frame": chat_frame(model, {})}


def _build(
    resolved: ResolvedRun,
    seeds: list[PromptTemplate],
    held_out: list[PromptTemplate],
    write: Write,
    signals: Signals | None,
) -> Manifest:
    config, task, run = resolved.config, resolved.task, resolved.store
    settings = config.prompts
    fixed = [Entry.of_file(t, "held_out") for t in held_out]
    entries, leaks = _without_leaks(seeds, fixed, settings.similarity)
    review = CandidateReview(
        resolved=resolved,
        seeds=[entry.template for entry in entries],
        unseen=[*held_out, *rejected_templates(config, task)],
        write=write,
        signals=signals,
    )
    known = [*entries, *fixed]
    writers = ask_generators(config, task, seeds, known, _shared_examples(config, run), write, review)
    found = review.quality(writers) if writers else None
    writers += fill_up(config, task, seeds, known, writers)
    raw = [row for writer in writers for row in writer.raw]
    entries += [entry for writer in writers for entry in writer.accepted]
    decisions = decisions_of(config)
    decided = _decided(config, task, decisions, entries, fixed, raw)
    entries = decided.entries
    rejected = Counter({"near_held_out": leaks} if leaks else {})
    rejected.update(row["rejected"] for row in raw if row["rejected"])
    sft = seeds[0].id if seeds else None
    prompts = _split(config, entries, fixed, keep_in_train=sft)
    counts = _counts(config, writers, raw)
    counts["engine_starts"] += review.spending.engine_starts
    covered = _coverage(prompts, raw, settings.similarity)
    outputs = RAW_ANSWERS.write(run, raw) | LEAKAGE_REPORT.write(run, leakage_report(prompts, settings.similarity))
    outputs |= QUALITY.write(run, found) if found else {}
    if decisions:
        outputs |= DECISIONS.write(run, [each.model_dump(exclude_none=True) for each in decisions.values()])
        counts["decisions"] = _counted(decisions, decided, prompts, found)
    _announce(counts, raw, rejected, quality_sentences(found, num_accepted=num_accepted(counts)))
    return {
        **counts,
        "rejected": dict(rejected),
        "num_train": len(prompts.split("train")),
        "num_held_out": len(prompts.split("held_out")),
        "sft_template": sft,
        "coverage": asdict(covered),
        "outputs": outputs | PROMPT_SET.write(run, prompts),
    }


def _shared_examples(config: Config, run: Store) -> list[Example]:
    """Training rows that requests show."""
    number = config.prompts.num_shared_examples
    return examples_from_table(ROWS["train"].read(run).slice(0, number)) if number else []


def _decided(
    config: Config,
    task: Task,
    decisions: Decisions,
    entries: list[Entry],
    fixed: list[Entry],
    raw: list[dict[str, Any]],
) -> Decided:
    """The entries after what people decided, which is written into `raw`, too. Raises `UserError` for a decision about
    a template that is nowhere."""
    if not decisions:
        return Decided(entries=entries, left_out={})
    written, (seeds, held_out) = recorded(raw), given_templates(config, task)
    ids = [entry.template.id if entry else None for entry in written]
    candidates = {t.id: Entry.of_file(t, "seed") for t in seeds}
    for entry in filter(None, written):
        candidates.setdefault(entry.template.id, entry)
    check_known(decisions, [*candidates, *(t.id for t in held_out)], config.prompts.decisions)
    decided = decide(
        decisions,
        entries,
        fixed,
        candidates,
        task,
        max_words=config.prompts.max_words,
        similarity=config.prompts.similarity,
    )
    mark(raw, ids, decisions, decided.left_out)
    return decided


def _counted(decisions: Decisions, decided: Decided, prompts: PromptSet, found: Quality | None) -> Manifest:
    """What people decided, how many templates of models are used for it, and which accepted templates stay out all the
    same."""
    used = {entry.template.id for entry in prompts.split("train").entries}
    accepted = {name for name, each in decisions.items() if each.decision == "accept"}
    rescued = {each.id for each in (found.candidates if found else ()) if not each.passed} & accepted & used
    given = Counter(each.decision for each in decisions.values())
    label = stage_label("synthesize")
    _log.info(f"{label} decisions: {given['accept']} accepted, {given['reject']} rejected")
    for name, reason in decided.left_out.items():
        _log.warning(f"{label} template {name} was accepted and stays out: {reason}")
    return {
        "accepted": given["accept"],
        "rejected": given["reject"],
        "of_models": len(rescued),
        "left_out": decided.left_out,
    }


def _without_leaks(seeds: list[PromptTemplate], fixed: list[Entry], similarity: float) -> tuple[list[Entry], int]:
    """(seed templates that are no near-copies of held-out ones, number of the others). Raises `UserError` where the
    first seed template, which arm sft trains on, is one of the others."""
    entries = [Entry.of_file(t, "seed") for t in seeds]
    leaks = near_held_out(entries, fixed, similarity)
    if leaks and seeds and seeds[0].id in leaks:
        raise UserError(
            "prompts: the first seed template is a near-copy of a held-out one "
            f"({masked(seeds[0].text)[:60]!r}); change one of them"
        )
    return [entry for entry in entries if entry.template.id not in leaks], len(leaks)


def _split(config: Config, entries: list[Entry], fixed: list[Entry], *, keep_in_train: str | None) -> PromptSet:
    """The prompt set: held-out templates as they were given, else complete clusters of near-copies."""
    settings = config.prompts
    if fixed:
        return with_held_out(entries, fixed, threshold=settings.similarity)
    return split_by_cluster(
        entries,
        fraction=settings.held_out_fraction,
        min_held_out=settings.min_held_out,
        threshold=settings.similarity,
        seed=config.seed,
        keep_in_train=keep_in_train,
    )


def _coverage(prompts: PromptSet, raw: list[dict[str, Any]], similarity: float) -> Coverage:
    """How different the training templates are, and how far the candidates that were fit but not chosen are from
    them."""
    rows = [row for row in raw if row["rejected"] == "surplus"]
    surplus = [repair(PromptTemplate(text=row["text"], system=row.get("system")))[0] for row in rows]
    found = coverage(prompts.split("train").templates, threshold=similarity, candidates=surplus)
    text = f"{found.num_templates} training templates in {found.num_clusters} clusters of near-copies"
    if found.mean_nearest is not None and found.min_nearest is not None:
        text += f"; nearest other one {found.mean_nearest:.2f} away on average, {found.min_nearest:.2f} at least"
    if found.radius is not None:
        text += f"; no surplus candidate farther than {found.radius:.2f} from one"
    _log.info(f"{stage_label('synthesize')} {text}")
    return found


def _counts(config: Config, writers: list[Writer], raw: list[dict[str, Any]]) -> Manifest:
    """What the generators were asked for and what they gave."""
    kept = [row for row in raw if row["rejected"] is None]
    fractions = [row["grammar_share"] for row in kept if row["strategy"] != "grammar"]
    return {
        "asked": config.prompts.num_wanted,
        "kept": len(kept),
        "generators": [writer.yields for writer in writers],
        "engine_starts": sum(writer.engine_starts for writer in writers),
        "grammar_share": round(sum(fractions) / len(fractions), 3) if fractions else None,
    }


def _announce(counts: Manifest, raw: list[dict[str, Any]], rejected: Counter[str], quality: list[str]) -> None:
    if not raw:
        return
    reasons = ", ".join(f"{reason} {n}" for reason, n in rejected.most_common())
    label = stage_label("synthesize")
    got = f"asked {counts['asked']}, got {counts['kept']} from {len(raw)} candidates"
    _log.info(f"{label} {got}; rejected: {reasons or 'none'}")
    for each in counts["generators"]:
        asked = f"{each['requests']} requests, {each['answers']} answers"
        cost = f"{each['tokens']} tokens, {each['time_s']:.0f} s"
        found = f"{each['candidates']} candidates, {each['passed']} passed, {each['kept']} of {each['asked']} kept"
        _log.info(f"{label} {each['source']}: {asked}, {cost}; {found}")
    for sentence in quality:
        _log.info(f"{label} {sentence}")
    for number, row in enumerate(raw):
        level = logging.INFO if number < _SHOWN else logging.DEBUG
        _log.log(level, f"{label} {row['strategy']}, {row['rejected'] or 'kept'}: {row['text']!r}")
