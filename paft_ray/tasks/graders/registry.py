"""Type of a grader, as a task names it -> the grader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from paft_ray.tasks.graders.choice import Choice
from paft_ray.tasks.graders.exact_match import ExactMatch
from paft_ray.tasks.graders.grader import Grader, GraderSettings
from paft_ray.tasks.graders.numeric import Numeric
from paft_ray.tasks.graders.regex import Regex
from paft_ray.tasks.graders.token_f1 import TokenF1

GRADERS: dict[str, type[GraderSettings]] = {
    "choice": Choice,
    "regex": Regex,
    "exact_match": ExactMatch,
    "numeric": Numeric,
    "token_f1": TokenF1,
}
"""One entry for each file of this package that holds a grader."""


def make_grader(kind: str, settings: Mapping[str, Any], labels: tuple[str, ...]) -> Grader:
    """The grader of this type, one of `GRADERS`, with its settings, and with the task's labels where it has some.

    Raises `ValueError` with the key at fault for settings that do not go with it.
    """
    made = GRADERS[kind]
    if labels and "labels" not in made.model_fields:
        raise ValueError(f"labels: grader {kind} takes none; take them away")
    try:
        grader: Any = made.model_validate({**settings, **({"labels": labels} if "labels" in made.model_fields else {})})
    except ValidationError as error:
        raise ValueError("; ".join(map(_explain, error.errors()))) from None
    return grader


def _explain(error: Any) -> str:
    """One clause: the key at fault and what is wrong with it."""
    return f"{'.'.join(map(str, error['loc']))}: {error['msg'].removeprefix('Value error, ')}"
