"""The Jinja templates of the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from paft_ray.config import builtin


def template_environment(finalize: Callable[[Any], Any], **filters: Callable[..., Any]) -> Environment:
    """The environment of this folder's templates: what is not there raises, what is there is escaped.

    `finalize`: applied to everything that is inserted.
    """
    environment = Environment(
        loader=FileSystemLoader(str(builtin("report"))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters.update(filters)
    return environment
