"""The Jinja templates of the report and of the other pages."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from paft_ray.config import Config, builtin
from paft_ray.sanitize import visible


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


def render_page(
    template: str,
    config: Config,
    *,
    script: str,
    filters: Mapping[str, Callable[..., Any]],
    colors: Sequence[str] = (),
    **values: Any,
) -> str:
    """The HTML text of one self-contained page: outside text escaped, its hidden characters written out, script and
    style admitted by their hashes alone.

    `script`: file of this folder; `colors`: of the arms; `values`: what the template names.
    """
    environment = template_environment(_shown, **filters)
    css = environment.get_template("style.css.j2").render(colors=colors)
    code = builtin("report", script).read_text(encoding="utf-8")
    return environment.get_template(template).render(
        css=Markup(css),  # noqa: S704 - our own file, no outside text in it
        css_hash=_policy_hash(css),
        script=Markup(code),  # noqa: S704 - likewise
        script_hash=_policy_hash(code),
        config=config,
        config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        **values,
    )


def _shown(value: Any) -> Any:
    """Outside text with its hidden characters written out."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)


def _policy_hash(text: str) -> str:
    """The element with this content, as a Content-Security-Policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
