"""Files of templates, our own and published ones, through the gate: `paft prompts import`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paft_ray.errors import UserError
from paft_ray.files.regular import LARGEST_TEXT, read_regular
from paft_ray.prompts.gate import GateResult, gate
from paft_ray.prompts.prompt_set import is_template_row, read_templates, template_of_row
from paft_ray.prompts.published.answer_format import other_form
from paft_ray.prompts.published.found import Found
from paft_ray.prompts.published.lm_eval import is_lm_eval, lm_eval
from paft_ray.prompts.published.names import Names
from paft_ray.prompts.published.nemo_skills import is_nemo_skills, nemo_skills
from paft_ray.prompts.published.plain_yaml import read_plain_yaml
from paft_ray.prompts.published.prompt_suite import csv_rows, is_prompt_suite, is_prompt_suite_csv, prompt_suite
from paft_ray.prompts.published.promptsource import is_promptsource, promptsource
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.readers import read_json
from paft_ray.tasks.task import Task

_Read = Callable[[Any, Names, Path], list[Found]]
_YAML: tuple[tuple[Callable[[Any], bool], _Read], ...] = (
    (is_promptsource, promptsource),
    (is_lm_eval, lm_eval),
    (is_nemo_skills, nemo_skills),
    (is_prompt_suite, prompt_suite),
)
"""(whether a value is of a format, what reads it)."""
_KINDS = (".jsonl", ".json", ".txt", ".csv", ".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A template that was not kept."""

    file: str
    name: str
    """In its file: a name or a number."""
    reason: str
    detail: str
    """What in the template the reason is about; may be empty."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Imported(GateResult):
    """What came of all the files, each template once."""

    rejections: list[Rejection]


def import_templates(paths: Sequence[str], task: Task, max_words: int, renames: Sequence[str] = ()) -> Imported:
    """What the gate makes of files: JSONL (`text`, optional `system` and `group`), JSON (texts or such objects), text
    (one template per line), or what lm-evaluation-harness, NeMo Skills, PromptSource and PromptSuite publish, which the
    content tells.

    `renames`: `THEIR=OURS`, their name of a field. Raises `UserError` with file and line where a file cannot be read.
    """
    names = Names.of(task, renames)
    kept: dict[str, PromptTemplate] = {}
    verdicts: list[str | None] = []
    repaired: Counter[str] = Counter()
    rejections = []
    for path in paths:
        found = _read(path, names)
        result = gate([each.template for each in found if each.template], task, max_words=max_words)
        repaired.update(result.repaired)
        gated, through = iter(result.verdicts), iter(result.kept)
        for each in found:
            reason = each.reason or next(gated)
            template = None if reason else next(through)
            if template is not None and template.id in kept:
                reason = "duplicate"
            elif template is not None:
                kept[template.id] = template
            verdicts.append(reason)
            if reason:
                rejections.append(
                    Rejection(file=path, name=each.name, reason=reason, detail=each.detail, text=each.text)
                )
    return Imported(kept=list(kept.values()), verdicts=verdicts, repaired=dict(repaired), rejections=rejections)


def read_any(path: str) -> list[PromptTemplate]:
    """Templates of a file of our own, not yet parsed: JSONL, JSON or text. Raises `UserError` as `import_templates`."""
    if path.endswith(".jsonl"):
        return read_templates(path)
    if not path.endswith((".json", ".txt")):
        raise UserError(f"templates {path}: unknown kind of file; allowed: .jsonl, .json, .txt")
    return _listed(_value(path), path)


def _read(path: str, names: Names) -> list[Found]:
    """The templates of a file. Raises `UserError`."""
    if path.endswith(".jsonl"):
        return _ours(read_templates(path))
    if path.endswith((".yaml", ".yml")) or not Path(path).suffix:
        return _published(read_plain_yaml(Path(path)), names, path)
    if not path.endswith(_KINDS):
        raise UserError(f"templates {path}: unknown kind of file; allowed: {', '.join(_KINDS)}")
    if path.endswith(".csv"):
        text = _text(path)
        if not is_prompt_suite_csv(text):
            raise UserError(f"templates {path}: no export of PromptSuite; give one, or .jsonl rows with `text`")
        return _published(csv_rows(text, Path(path)), names, path)
    value = _value(path)
    if is_prompt_suite(value):
        return _checked(prompt_suite(value, names, Path(path)), names.task)
    return _ours(_listed(value, path))


def _published(value: Any, names: Names, path: str) -> list[Found]:
    for is_it, read in _YAML:
        if is_it(value):
            return _checked(read(value, names, Path(path)), names.task)
    raise UserError(
        f"templates {path}: no known format; allowed: a task of lm-evaluation-harness (doc_to_text), a prompt of NeMo "
        "Skills (user), templates of PromptSource (templates: jinja), an export of PromptSuite (prompt format)"
    )


def _checked(found: Sequence[Found], task: Task) -> list[Found]:
    """Published templates without those whose answer this task's grader does not read."""
    return [
        Found(name=each.name, text=each.text, reason=reason)
        if each.template is not None and (reason := other_form(each.template, task))
        else each
        for each in found
    ]


def _ours(templates: Sequence[PromptTemplate]) -> list[Found]:
    return [
        Found(name=f"template {number}", text=template.text, template=template)
        for number, template in enumerate(templates, start=1)
    ]


def _text(path: str) -> str:
    try:
        return read_regular(path, largest=LARGEST_TEXT).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(
            f"templates {path}: cannot be read ({error}); give a UTF-8 file of a kind that is allowed: "
            f"{', '.join(_KINDS)}"
        ) from None


def _value(path: str) -> Any:
    """The lines of a text, or the value in a JSON file. Raises `UserError`."""
    text = _text(path)
    if path.endswith(".txt"):
        return [line for line in text.splitlines() if line.strip()]
    try:
        return read_json(text)
    except ValueError as error:
        raise UserError(
            f"{path}:{getattr(error, 'lineno', 1)}: not JSON ({error}); give a list of texts, or of objects with `text`"
        ) from None


def _listed(found: Any, path: str) -> list[PromptTemplate]:
    rows = [row if isinstance(row, dict) else {"text": row} for row in found] if isinstance(found, list) else []
    if not rows or not all(map(is_template_row, rows)):
        raise UserError(
            f"templates {path}: no list of texts, or of objects with `text` (and optional `system` and `group`), in "
            "the file; fix it"
        )
    return [template_of_row(row, f"{path}: template {number}") for number, row in enumerate(rows, start=1)]
