"""Suites: named sets of templates and variations that models are measured under."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from paft_ray.config import Config, located
from paft_ray.errors import UserError
from paft_ray.generators.grammar.compose import usable_templates
from paft_ray.generators.grammar.formats import formats, label_orders
from paft_ray.log import get_logger
from paft_ray.prompts.sampling import keyed_order
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations import noise, options, system
from paft_ray.prompts.variations.variant import TEMPLATES, Variant
from paft_ray.robustness.seen import NOTHING, Seen
from paft_ray.stages.user_templates import gated_templates
from paft_ray.tasks.task import Task

_log = get_logger(__name__)
VERSION = 2
"""Of what the names stand for; it stands in the results."""
_NUM_TEMPLATES = 24
_NUM_BASES = 6
"""Templates that each axis varies."""


def _format(
    task: Task, templates: Sequence[PromptTemplate], seed: int, *, without: Container[str] = ()
) -> list[Variant]:
    return formats(task, len(templates), seed, without=without)


def _options(
    task: Task, templates: Sequence[PromptTemplate], seed: int, *, without: Container[str] = ()
) -> list[Variant]:
    """Of options that are fields, else of labels that are listed."""
    return options.variants(task, templates, seed) or label_orders(task, len(templates), seed, without=without)


Axis = Callable[[Task, Sequence[PromptTemplate], int], list[Variant]]
AXES: Mapping[str, Axis] = {
    "format": _format,
    "options": _options,
    "noise": noise.variants,
    "system": system.variants,
}
"""Axis -> (task, templates to vary, seed) -> each template under each level; none where it does not go with the
task."""
_COMPOSED: Mapping[str, Callable[..., list[Variant]]] = {"format": _format, "options": _options}
"""Those that take templates of the grammar, `without` some of its frames."""
ALL, _NOISE = "all", "noise="
NAMES = (TEMPLATES, *AXES, ALL)
FILES = (".jsonl", ".parquet")
"""How the names of files of templates end."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What every model is asked under."""

    names: tuple[str, ...]
    """The axes."""
    plain: tuple[PromptTemplate, ...]
    """Templates that nothing is done to: the headline figures are over these."""
    variants: tuple[Variant, ...]

    @property
    def templates(self) -> tuple[PromptTemplate, ...]:
        """All columns: the plain templates, then the variants."""
        return (*self.plain, *self.variants)

    def to_table(self) -> pa.Table:
        """A row for each column: `template_id` as in outcomes, `axis`, `level`, `base` (what is varied: the id
        of a template, or a frame of the grammar), `system` and `text`."""
        rows = [
            {
                "template_id": template.id,
                "axis": getattr(template, "axis", TEMPLATES),
                "level": getattr(template, "level", None),
                "base": getattr(template, "base", None),
                "system": template.system,
                "text": template.text,
            }
            for template in self.templates
        ]
        return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in rows[0]]))


def make_suite(given: Sequence[str], task: Task, config: Config, seen: Seen = NOTHING) -> Suite:
    """The suite of these names and files. A file of templates, else the held-out ones of a run whose arms are measured,
    else the task's, else composed ones are the plain templates: all of them where `templates` is asked for, else those
    that the axes vary. What an arm was trained on (`seen`) is left out, but for templates of a file. An axis that does
    not go with the task is left out of `all` with a line.

    Raises `UserError` for a name or file that is none, for an axis that is asked for and does not go with the task, and
    where templates have to be composed and the task's words do not fit into sentences.
    """
    axes: dict[str, Axis] = {**AXES, **{axis: partial(make, without=seen.frames) for axis, make in _COMPOSED.items()}}
    if rate := _noise_rate(given):
        axes["noise"] = partial(noise.variants, rate=rate)
    given = ["noise" if each.startswith(_NOISE) else each for each in given]
    files = [each for each in given if each not in NAMES]
    names = [each for each in given if each in NAMES] or [TEMPLATES]
    if len(files) > 1:
        raise UserError(f"--suite {files[1]}: one file of templates is taken; put them into one")
    if files and not files[0].endswith(FILES):
        raise UserError(f"--suite {files[0]}: no suite; allowed: {', '.join(NAMES)}, or a .jsonl file of templates")
    templates = _templates(files[0] if files else None, task, config, seen)
    bases = [templates[i] for i in sorted(keyed_order([t.id for t in templates], config.seed, "bases")[:_NUM_BASES])]
    found = {
        axis: _varied(axis, make, task, bases, config, seen, must=axis in names)
        for axis, make in axes.items()
        if {axis, ALL} & {*names}
    }
    whole = bool({TEMPLATES, ALL} & {*names})
    return Suite(
        names=(*([TEMPLATES] if whole else []), *(axis for axis, variants in found.items() if variants)),
        plain=tuple(templates if whole else bases),
        variants=tuple(variant for variants in found.values() for variant in variants),
    )


def _noise_rate(given: Sequence[str]) -> float | None:
    """The rate of `noise=RATE`; None where none is given. Raises `UserError` for one that is no fraction."""
    rates = [each.removeprefix(_NOISE) for each in given if each.startswith(_NOISE)]
    if not rates:
        return None
    try:
        found = float(rates[-1])
    except ValueError:
        found = 0.0
    if not 0 < found < 1:
        raise UserError(
            f"--suite {_NOISE}{rates[-1][:20]}: write the fraction of letters that a typo meets, such as noise=0.1"
        )
    return found


def _varied(
    axis: str, make: Axis, task: Task, bases: Sequence[PromptTemplate], config: Config, seen: Seen, *, must: bool
) -> list[Variant]:
    """The variants of an axis; none, with a line, where it does not go with the task and was not asked for by name."""
    reason = "it has neither options nor a short list of labels"
    if seen.frames and axis in _COMPOSED:
        reason += ", or the runs of these models trained on every frame of the grammar"
    try:
        found = _fitting(make(task, bases, config.seed), config)
    except UserError as error:
        found, reason = [], str(error)
    if not found and must:
        raise UserError(f"--suite {axis}: does not go with task {task.name}: {reason}")
    if not found:
        _log.info(f"[robustness] suite {axis} is left out: {reason}")
    return found


def _templates(file: str | None, task: Task, config: Config, seen: Seen) -> list[PromptTemplate]:
    """The plain templates, in the order of their ids."""
    similarity, max_words = config.prompts.similarity, config.prompts.max_words
    if file is not None:
        found = gated_templates(file, config, task)
        if trained := len(found) - len(seen.unseen(found, similarity)):
            _log.warning(
                f"[robustness] {file}: {trained} of {len(found)} templates are near training templates of the runs of "
                "these models, or of their frames"
            )
    elif not (found := seen.held_out(task, similarity=similarity, max_words=max_words)):
        if task.held_out_templates:
            found = gated_templates(located("templates", task.held_out_templates), config, task)
            found = seen.unseen(found, similarity)
        else:
            most = 2 * _NUM_TEMPLATES  # some may be near what a model was trained on
            found = usable_templates(task, most, config.seed, max_words=max_words, without=seen.frames)
            found = seen.unseen(found, similarity)[:_NUM_TEMPLATES]
    if not found:
        raise UserError(f"task {task.name}: no template to ask under; give a .jsonl file with --suite FILE")
    return sorted(found, key=lambda template: template.id)


def _fitting(variants: Sequence[Variant], config: Config) -> list[Variant]:
    """Those whose text is as long as a template may be, by complete bases, so that every level has the same ones."""
    refused = {v.base for v in variants if len(v.text.split()) > config.prompts.max_words}
    return [variant for variant in variants if variant.base not in refused]
