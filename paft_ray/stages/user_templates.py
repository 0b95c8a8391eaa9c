"""Seed and held-out templates that the configuration names, checked."""

from __future__ import annotations

from paft_ray.config import Config, located
from paft_ray.errors import UserError
from paft_ray.prompts.decisions import Decisions, check_known, not_rejected, read_decisions
from paft_ray.prompts.gate import holds_escapes, rejection, repair
from paft_ray.prompts.prompt_set import check_templates, read_templates
from paft_ray.prompts.template import PromptTemplate
from paft_ray.sanitize import masked
from paft_ray.tasks.task import Task

Templates = tuple[list[PromptTemplate], list[PromptTemplate]]
"""(Seed templates, held-out templates)."""


def user_templates(config: Config, task: Task) -> Templates:
    """(seed templates, held-out templates) of the configuration, checked, without those that a person rejected. Raises
    `UserError`."""
    decisions, given = decisions_of(config), given_templates(config, task)
    if not config.prompts.generators:
        check_known(decisions, [t.id for templates in given for t in templates], config.prompts.decisions)
    seeds, held_out = (not_rejected(templates, decisions) for templates in given)
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
    accepted = {name for name, each in decisions.items() if each.decision == "accept"} - {t.id for t in seeds}
    if not held_out and not config.prompts.generators and len(seeds) + len(accepted) < least:
        raise UserError(
            f"prompts: {len(seeds)} distinct templates and no generators, at least {least} are needed to hold "
            f"{least - 1} out; bring more"
        )
    only_models = bool(config.prompts.generators) and config.prompts.writing_models == config.prompts.generators
    if only_models and not seeds and not decisions:
        raise UserError(
            "prompts: without prompts.seed_templates no judge is trusted, so nothing that the generators write would "
            "be used; name seed templates, or add {type: grammar} to prompts.generators"
        )
    if not seeds and "sft" in config.train.arms:
        raise UserError(
            "prompts: arm sft trains on the first seed template, but prompts.seed_templates is not set; set it "
            "or leave sft out of train.arms"
        )
    return seeds, held_out


def given_templates(config: Config, task: Task) -> Templates:
    """(seed templates, held-out templates) as their files have them. Raises `UserError`."""
    return (
        _templates(config, config.prompts.seed_templates, task.seed_templates, task),
        _templates(config, config.prompts.held_out_templates, task.held_out_templates, task),
    )


def decisions_of(config: Config) -> Decisions:
    """What people decided about templates; empty where no file is named. Raises `UserError`."""
    return {} if config.prompts.decisions is None else read_decisions(config.prompts.decisions)


def rejected_templates(config: Config, task: Task) -> list[PromptTemplate]:
    """The templates that a person rejected, as far as a file holds them. Raises `UserError`."""
    known = {t.id: t for templates in given_templates(config, task) for t in templates}
    rejected = [each for each in decisions_of(config).values() if each.decision == "reject"]
    return [found for each in rejected if (found := each.template or known.get(each.id)) is not None]


def _templates(config: Config, path: str | None, own: str | None, task: Task) -> list[PromptTemplate]:
    if path is None:
        return []
    if path == "builtin":
        if own is None:
            raise UserError(f"prompts: task {task.name} ships no templates; give a JSONL file instead of `builtin`")
        path = own
    return gated_templates(located("templates", path), config, task)


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
    distinct: dict[str, PromptTemplate] = {}
    for template in templates:
        distinct.setdefault(template.id, template)
    return list(distinct.values())
