"""Text of a Jinja template that holds nothing but names of fields: read, never rendered.

Allowed are `{{ name }}` with attributes and constant keys, with whitespace trimmed (`| trim`, `.strip()`, `{{-`),
quoted text (`{{ "text" }}`), the template's own constant answer choices (`{{ answer_choices[0] }}`, or all of them
joined) and comments. Anything else, such as a condition, a loop, another filter or a call, makes the template unusable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from paft_ray.prompts.published.found import Unusable
from paft_ray.prompts.published.names import REFERENCE, Names

_OPENING = re.compile(r"\{[{%#]")
_QUOTED = r"\"[^\"\\]*\"|'[^'\\]*'"
_TRIM = r"(?:\s*\|\s*trim|\.[lr]?strip\(\))?"
_EXPRESSION = re.compile(
    r"\{\{-?\s*(?:"
    rf"(?P<joined>{_QUOTED})\.join\(answer_choices\)|answer_choices\s*\|\s*join\((?P<joined_by>{_QUOTED})\)"
    rf"|answer_choices\s*\[(?P<choice>\d)\]|(?P<name>{REFERENCE}){_TRIM}|(?P<text>{_QUOTED})"
    r")\s*-?\}\}"
)
_ANSWER = re.compile(r"answer_choices\s*\[")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_SHOWN = 60


def plain_text(jinja: str, names: Names, choices: Sequence[str] = ()) -> str:
    """The template in our form, `{field}` for each name. `choices`: what `answer_choices` stands for. Raises
    `Unusable`."""
    pieces, end, trims = [], 0, False
    while opening := _OPENING.search(jinja, end):
        start = opening.start()
        literal = jinja[end:start]
        expression = (_COMMENT if opening.group() == "{#" else _EXPRESSION).match(jinja, start)
        if expression is None:
            raise _unusable(jinja[start:])
        literal = literal.lstrip() if trims else literal
        pieces.append(_escaped(literal.rstrip() if jinja[start + 2 : start + 3] == "-" else literal))
        if opening.group() == "{{":
            pieces.append(_value(expression, names, choices))
        trims, end = len(expression.group()) > 5 and expression.group()[-3] == "-", expression.end()
    rest = jinja[end:]
    return "".join([*pieces, _escaped(rest.lstrip() if trims else rest)])


def _value(expression: re.Match[str], names: Names, choices: Sequence[str]) -> str:
    """What stands for an expression in our form."""
    separator = expression["joined"] or expression["joined_by"]
    if separator:
        return _escaped(separator[1:-1].join(choices)) if choices else _no_choices()
    if expression["choice"]:
        number = int(expression["choice"])
        return _escaped(choices[number]) if number < len(choices) else _no_choices()
    if expression["text"]:
        return _escaped(expression["text"][1:-1])
    return f"{{{names.field(expression['name'])}}}"


def _no_choices() -> str:
    raise Unusable("expression", "answer_choices that are not constant")


def _unusable(rest: str) -> Unusable:
    if rest.startswith("{%"):
        return Unusable("logic", rest[:_SHOWN].partition("%}")[0] + "%}")
    shown = rest[:_SHOWN].partition("}}")[0] + "}}"
    return Unusable("answer_in_prompt" if _ANSWER.search(shown) else "expression", shown)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
