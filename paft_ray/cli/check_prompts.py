"""`paft prompts check`: a verdict with its reason for every template of a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from paft_ray.echo import echo
from paft_ray.prompts.checks.rules import broken_rule
from paft_ray.prompts.gate import gated
from paft_ray.prompts.imports import read_any
from paft_ray.prompts.template import PromptTemplate
from paft_ray.sanitize import visible
from paft_ray.tasks.task import Task, load_task

_SHOWN = 100  # characters of a template in a line


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One template of the file."""

    number: int
    """Its place, from 1."""
    id: str
    """Content id."""
    text: str
    system: str | None
    passed: bool
    reason: str | None
    """Of the gate, `duplicate`, or of the rules; None where it passed."""


def check_prompts(path: str, task: str, *, max_words: int, as_json: bool) -> int:
    """Prints a verdict per template; 0 where all passed, else 1. Raises `UserError` for a file or task that cannot be
    read."""
    found = checked(read_any(path), load_task(task), max_words=max_words)
    rejected = Counter(each.reason for each in found if each.reason)
    passed = len(found) - rejected.total()
    if as_json:
        summary = {"read": len(found), "passed": passed, "rejected": dict(rejected)}
        echo(json.dumps({**summary, "judge": None, "templates": [asdict(each) for each in found]}, ensure_ascii=False))
    else:
        for each in found:
            echo(f"{each.number}: {each.reason or 'passed'}: {visible(each.text)[:_SHOWN]!r}")
        reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common())
        echo(f"{passed} of {len(found)} templates passed; rejected: {reasons or 'none'}")
    return int(passed < len(found))


def checked(given: Sequence[PromptTemplate], task: Task, *, max_words: int) -> list[Checked]:
    """What the gate and the rules make of the templates of one file, in their order."""
    found = []
    for number, (template, _, reason) in enumerate(gated(given, task, max_words=max_words), start=1):
        reason = reason or broken_rule(template, task)
        text, system, passed = template.text, template.system, reason is None
        found.append(Checked(number=number, id=template.id, text=text, system=system, passed=passed, reason=reason))
    return found
