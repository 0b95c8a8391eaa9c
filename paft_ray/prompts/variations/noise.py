"""Axis `noise`: slips of the keyboard, letter case, punctuation; in the template's own words or in the fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations.keyed import uniforms
from paft_ray.prompts.variations.variant import Posed, Variant
from paft_ray.tasks.example import Example
from paft_ray.tasks.task import Task

VERSION = 1
RATE = 0.05
"""Fraction of the letters that a typo meets, unless another one is asked for."""
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEAR = {
    letter: "".join(row[i] for i in (place - 1, place + 1) if 0 <= i < len(row))
    for row in _ROWS
    for place, letter in enumerate(row)
}
_PUNCTUATION = re.compile(r"(?<![\d])[!\"(),\-.:;?`]+(?!\d)|(?<!\w)'|'(?!\w)")
"""But for marks next to a digit, which may be a part of a number, and apostrophes within words."""


def variants(task: Task, templates: Sequence[PromptTemplate], seed: int, *, rate: float = RATE) -> list[Variant]:
    """Each template under each level. What a template says of labels and of the answer's format stays. `rate`:
    fraction of the letters that a typo meets."""
    percent = f"{100 * rate:g} %"
    levels: tuple[tuple[str, Noise], ...] = (
        (f"typos in {percent} of the template's letters", Noise(kind="typos", rate=rate, keep=kept(task))),
        (f"typos in {percent} of the fields' letters", Noise(kind="typos", rate=rate, in_fields=True)),
        ("fields in small letters", Noise(kind="lower", in_fields=True)),
        ("fields in capitals", Noise(kind="upper", in_fields=True)),
        ("fields without punctuation", Noise(kind="bare", in_fields=True)),
    )
    return [
        Variant.of(template, axis="noise", level=level, version=VERSION, change=noise, seed=seed)
        for template in templates
        for level, noise in levels
    ]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """One kind of noise, drawn anew for every (template, example)."""

    kind: str
    """`typos`, `lower`, `upper` or `bare` (without punctuation)."""
    rate: float = RATE
    """Of typos."""
    in_fields: bool = False
    """Else in what the template itself says."""
    keep: tuple[str, ...] = ()
    """Texts of the template that stay."""

    def __call__(self, template: PromptTemplate, example: Example, seed: int) -> Posed:
        """The cell as it is asked; the answer stays."""
        draw = uniforms("noise", VERSION, self.kind, self.in_fields, seed, template.id, example.id)
        if self.in_fields:
            fields = {name: self._noisy(text, draw) for name, text in sorted(example.fields.items())}
            return Posed(template=template, example=replace(example, fields={n: fields[n] for n in example.fields}))
        text = template.reworded(lambda own: keeping(own, self.keep, lambda free: self._noisy(free, draw)))
        return Posed(template=PromptTemplate(text=text, system=template.system), example=example)

    def _noisy(self, text: str, draw: Callable[[], float]) -> str:
        if self.kind == "typos":
            return typos(text, self.rate, draw)
        if self.kind == "bare":
            return re.sub(r"[ ]{2,}", " ", _PUNCTUATION.sub(" ", text)).strip() or text
        return text.lower() if self.kind == "lower" else text.upper()


def typos(text: str, rate: float, draw: Callable[[], float]) -> str:
    """The text with a slip at each of its ASCII letters with probability `rate`: two letters swapped, one left out,
    doubled, or its neighbor on the keyboard, all four alike."""
    out: list[str] = []
    place = 0
    while place < len(text):
        letter = text[place]
        following = text[place + 1 : place + 2]
        place += 1
        if not (letter.isascii() and letter.isalpha()) or draw() >= rate:
            out.append(letter)
            continue
        slip = int(4 * draw())
        if slip == 0 and following.isascii() and following.isalpha():
            out += [following, letter]
            place += 1
        elif slip == 1:
            continue
        elif slip == 2:
            out += [letter, letter]
        else:
            near = _NEAR[letter.lower()]
            other = near[int(len(near) * draw())]
            out.append(other.upper() if letter.isupper() else other)
    return "".join(out)


def kept(task: Task) -> tuple[str, ...]:
    """What a template must say as it is, so that an answer can be what the grader reads."""
    return (*task.label_texts, *filter(None, [task.answer_format]))


def keeping(text: str, keep: Sequence[str], change: Callable[[str], str]) -> str:
    """The text changed, but for where one of the `keep` stands as a word, in whatever case."""
    if not keep:
        return change(text)
    words = "|".join(re.escape(word) for word in sorted(keep, key=len, reverse=True))
    pieces = re.split(rf"((?<!\w)(?:{words})(?!\w))", text, flags=re.IGNORECASE)
    return "".join(piece if number % 2 else change(piece) for number, piece in enumerate(pieces))
