"""Templates composed without a model: a frame, what is given, the answers and a cue, fixed by (seed, number)."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from paft_ray.generators.grammar.frames import FRAMES, Frame
from paft_ray.generators.grammar.parts import Pick, answers, cue, given, options
from paft_ray.generators.grammar.words import Words, words_of
from paft_ray.prompts.gate import rejection
from paft_ray.prompts.sampling import PerExample, keyed_order
from paft_ray.prompts.selection import diverse
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task

_TOKEN = re.compile(r"<(do|Do|Please do|it|below)>")
_POOL = 4  # templates from which one is chosen
_OVER = 2  # composed for each one that is asked for: the gate may refuse some


def diverse_templates(task: Task, num: int, seed: int, *, without: Container[str] = ()) -> list[PromptTemplate]:
    """`num` distinct templates with their frames, fewer where the grammar has no more; those that differ most come
    first, chosen from four times as many. `without`: frames that are not used. Raises `UserError` as `words_of`."""
    words, wanted = words_of(task), _POOL * max(num, len(FRAMES))
    frames, pool = ordered_frames(words, seed, without), dict[str, PromptTemplate]()
    if not frames:
        return []
    for number in range(2 * wanted):
        found = compose(words, frames[number % len(frames)], seed, number)
        pool.setdefault(found.id, found)
    candidates = list(pool.values())[:wanted]
    return [candidates[i] for i in diverse(candidates, num)]


def usable_templates(
    task: Task, num: int, seed: int, *, max_words: int, without: Container[str] = ()
) -> list[PromptTemplate]:
    """The first `num` of twice as many composed templates that come through the gate, fewer where fewer do. `without`:
    frames that are not used. Raises `UserError` as `words_of`."""
    composed = diverse_templates(task, _OVER * num, seed, without=without)
    return [each for each in composed if rejection(each, task, max_words=max_words) is None][:num]


def ordered_frames(words: Words, seed: int, without: Container[str] = ()) -> list[Frame]:
    """The frames that suit the task but for those `without`, in an order fixed by the seed."""
    frames = [frame for frame in FRAMES if _fits(frame, words)]
    ordered = (frames[i] for i in keyed_order([frame.id for frame in frames], seed, "frames"))
    return [frame for frame in ordered if frame.id not in without]


def compose(
    words: Words, frame: Frame, seed: int, number: int, other: Mapping[str, int] | None = None
) -> PromptTemplate:
    """Template `number` of a seed, with this frame. `other`: name of a choice -> the number whose choice is taken."""
    others = other or {}

    def pick(name: str, ways: int) -> int:
        return drawn(seed, name, others.get(name, number), ways)

    text = re.sub(r"\n{3,}", "\n\n", _text(frame, words, pick))
    return PromptTemplate(text=text.lstrip().rstrip(" "), frame=frame.id)


def drawn(seed: int, name: str, number: int, ways: int) -> int:
    """What template `number` of a seed takes of the `ways` of a choice, in [0, ways)."""
    key = f"grammar {name} {number}"
    return PerExample(seed=seed).index(epoch=0, example_id=key, index_in_epoch=0, num_templates=ways)


def _fits(frame: Frame, words: Words) -> bool:
    return frame.scope == "any" or (not words.options if frame.scope == "plain" else bool(words.labels))


def _text(frame: Frame, words: Words, pick: Pick) -> str:
    """The parts in one of their orders."""
    first = frame.place == "first" or (frame.place == "any" and pick("order", 2) == 0)
    ask, close = (_filled(part, words, pick, first=first) for part in (frame.ask, frame.close))
    material, choices, allowed = given(words, pick), options(words, pick) if words.options else "", answers(words, pick)
    asked = _joined(ask, allowed, pick)
    if not first:
        between = choices and ask and pick("asked between", 3) == 0
        parts = [material, asked, choices] if between else [material, choices, asked]
    elif allowed and (frame.close or ask.endswith(":") or pick("allowed last", 3) == 0):
        parts = [ask, material, choices, allowed.lstrip()]
    else:
        parts = [asked, material, choices]
    ends = not frame.close and parts[-1] == asked and "\n" not in asked  # with a sentence
    if ends and pick("no cue", 3) == 0:
        return _gap(ask, allowed, pick).join(filter(None, parts)) + "\n" * pick("own line", 2)
    return _gap(ask, allowed, pick).join(filter(None, [*parts, close or cue(words, pick)]))


def _gap(ask: str, allowed: str, pick: Pick) -> str:
    """What stands between parts: an empty line where one of them is of several lines."""
    return "\n\n" if "\n" in ask + allowed.lstrip() else "\n" * (1 + pick("gap", 2))


def _joined(ask: str, allowed: str, pick: Pick) -> str:
    """The request with the allowed answers behind it."""
    if not ask or not allowed:
        return ask or allowed.lstrip()
    if allowed.startswith("\n") or "\n" in ask:
        return f"{ask}\n{allowed.lstrip()}"
    return f"{ask}{(' ', chr(10))[pick('allowed line', 2)]}{allowed}"


def _filled(text: str, words: Words, pick: Pick, *, first: bool) -> str:
    """A part of a frame with the task's words; each is put in once, so none can be taken for a place of another."""
    capital = words.do[0].upper() + words.do[1:]
    values = {
        "do": words.do,
        "Do": capital,
        "Please do": f"Please {words.do}" if pick("please", 2) else capital,
        "it": words.it,
        "below": "below" if first else "above",
    }
    return _TOKEN.sub(lambda found: values[found.group(1)], text)
