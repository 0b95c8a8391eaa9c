"""Decisions of people: which templates are in the prompt set whatever the checks of quality say, and which never are.

A rejected template is never in the prompt set. An accepted one is, in spite of any verdict on its quality and of the
number of candidates that were wanted, but for two rules that nobody overrides: what the gate refuses (`gate.rejection`)
and what is near a given held-out template, or of its frame (`split.near_held_out`), stays out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paft_ray.errors import UserError, first_fault, one_line, some
from paft_ray.files.regular import LARGEST_TEXT, read_regular
from paft_ray.prompts.gate import rejection
from paft_ray.prompts.prompt_set import Entry, template_of_row
from paft_ray.prompts.split import near_held_out
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.readers import read_json
from paft_ray.tasks.task import Task

REJECTED = "rejected_by_decision"
"""Reason of a template that a person rejected."""


class Decision(BaseModel):
    """A line of a decisions file."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """Content id of the template."""
    decision: Literal["accept", "reject"]
    text: str | None = None
    """The template itself, so that the line says which one it is where no generator writes it again."""
    system: str | None = None
    frame: str | None = None
    """Frame of the grammar that composed it."""

    @property
    def template(self) -> PromptTemplate | None:
        """The template, where the line holds it."""
        if self.text is None:
            return None
        return PromptTemplate(text=self.text, system=self.system, frame=self.frame)


Decisions = Mapping[str, Decision]
"""Content id -> what was decided."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """Templates after the decisions about them."""

    entries: list[Entry]
    """Candidates for training (and, where no held-out templates are given, for holding out)."""
    left_out: dict[str, str]
    """Content id of an accepted template that stays out -> why."""


def read_decisions(path: str) -> Decisions:
    """The decisions in a JSON Lines file: objects with `id`, `decision` (accept or reject) and optional `text`,
    `system` and `frame` of the template. Raises `UserError` with file and line."""
    try:
        lines = read_regular(path, largest=LARGEST_TEXT).decode("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(
            f"prompts.decisions={path}: cannot be read ({error}); give the file that the page of "
            "`paft prompts review RUN` wrote"
        ) from None
    found: dict[str, Decision] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            decision = _decision(line, f"{path}:{number}")
            if decision.id in found:
                raise UserError(f"{path}:{number}: template {decision.id} comes twice; keep one of the lines")
            found[decision.id] = decision
    if not found:
        raise UserError(f"prompts.decisions={path}: no decisions in the file; decide on a template, or leave it out")
    return found


def _decision(line: str, where: str) -> Decision:
    try:
        found = Decision.model_validate(read_json(line))
    except ValidationError as error:
        reason = first_fault(error, "the line")
    except ValueError as error:
        reason = f"not JSON ({one_line(error)})"
    else:
        template = template_of_row(found.model_dump(), where) if found.text is not None else None
        if template is None or template.id == found.id:
            return found
        reason = f"id: {found.id} is not the content id of its text, which is {template.id}"
    raise UserError(
        f'{where}: {reason[:300]}; each line is {{"id": ID, "decision": "accept" or "reject"}} as the page of '
        "`paft prompts review RUN` writes it"
    )


def check_known(decisions: Decisions, known: Iterable[str], path: str | None) -> None:
    """Raises `UserError` for decisions about templates that neither this run has nor the file holds."""
    ids = set(known)
    if unknown := [name for name, each in decisions.items() if name not in ids and each.template is None]:
        raise UserError(
            f"prompts.decisions={path}: {some(unknown)}: no templates of this run; take these lines out, or give the "
            "file that the page of `paft prompts review RUN` wrote, whose lines hold their templates"
        )


def not_rejected(templates: Sequence[PromptTemplate], decisions: Decisions) -> list[PromptTemplate]:
    """The templates that nobody rejected."""
    return [t for t in templates if t.id not in decisions or decisions[t.id].decision == "accept"]


def decide(
    decisions: Decisions,
    entries: Sequence[Entry],
    held_out: Sequence[Entry],
    candidates: Mapping[str, Entry],
    task: Task,
    *,
    max_words: int,
    similarity: float,
) -> Decided:
    """The entries without rejected ones, and with the accepted ones that may be there.

    `held_out`: given ones, rejected ones already left out. `candidates`: content id -> every template that was written,
    whatever became of it. Accepted templates have `decision` in their provenance.
    """
    kept = {e.template.id: e for e in entries if not _says(decisions, e.template.id, "reject")}
    there: Collection[str] = {*kept, *(e.template.id for e in held_out)}
    left_out = {}
    for name, decision in decisions.items():
        if decision.decision == "reject" or name in there:
            continue
        entry = candidates.get(name) or Entry.of_file(_held(decision), "decisions")
        reason = rejection(entry.template, task, max_words=max_words)
        if reason is None and near_held_out([entry], held_out, similarity):
            reason = "near_held_out"
        if reason is None:
            kept[name] = replace(entry, provenance={**entry.provenance, "decision": "accept"})
        else:
            left_out[name] = reason
    return Decided(entries=list(kept.values()), left_out=left_out)


def mark(
    rows: Iterable[dict[str, Any]], ids: Iterable[str | None], decisions: Decisions, left_out: Collection[str]
) -> None:
    """Writes the decisions into what was recorded of the candidates: `rejected` is then a person's verdict where there
    is one. `ids`: content id of each row's template, None where it holds none."""
    seen: set[str] = set()
    for row, name in zip(rows, ids, strict=True):
        if name is None or name in seen or name not in decisions:
            continue
        seen.add(name)
        if _says(decisions, name, "reject"):
            row["rejected"] = REJECTED
        elif name not in left_out:
            row["rejected"] = None


def _says(decisions: Decisions, name: str, what: str) -> bool:
    return name in decisions and decisions[name].decision == what


def _held(decision: Decision) -> PromptTemplate:
    assert decision.template is not None, "check_known comes first"
    return decision.template
