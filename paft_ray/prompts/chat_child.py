"""Renders one chat template in a process of its own, with limits: it comes with a model, so it is outside code. Run as
a script by `chat.py`.

Reads a JSON object from standard input and writes one: `text` and the names that the template `reads`, or the `error`.
The environment is that of transformers (`chat_template_utils.py`, 5.19), rebuilt because importing transformers takes
seconds; but its clock stands still, and so do Jinja's random choices.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from datetime import datetime
from typing import Any

CPU_S = 3
MEMORY_BYTES = 2**29
LONGEST_TEXT = 2**20  # characters
NOW = datetime(2024, 7, 26)


def main() -> None:
    """Answers one request and never raises, except where a limit ends the process."""
    for kind, limit in ((resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (least, least))
    try:
        request = json.load(sys.stdin)
        sys.path += request["libraries"]
        answer = _render(request["template"], request["names"])
    except MemoryError:
        answer = {"limit": True}
    except Exception as error:  # whatever a template does wrong
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    sys.stdout.write(json.dumps(answer))


def _render(template: str, names: dict[str, Any]) -> dict[str, Any]:
    from jinja2 import meta

    random.seed(0)
    environment = _environment()
    reads = sorted(meta.find_undeclared_variables(environment.parse(template)))
    text = environment.from_string(template).render(**names)
    if len(text) > LONGEST_TEXT:
        return {"limit": True}
    text.encode()  # half a character cannot be tokenized
    return {"text": text, "reads": reads}


def _environment() -> Any:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's text, for masks that are not made here."""

        tags = {"generation"}  # noqa: RUF012 (Jinja's own form)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def raise_exception(message: object) -> None:
        raise TemplateError(str(message))

    def tojson(
        value: object, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": NOW.strftime}
    return environment


if __name__ == "__main__":
    main()
