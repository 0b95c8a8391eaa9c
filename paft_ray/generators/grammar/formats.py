"""Axes `format` and, for labels that are no options, `options`: the same request in other formats, composed with its
wording held (FormatSpread's idea, Sclar et al. 2024, arXiv 2310.11324)."""

from __future__ import annotations

from collections.abc import Callable, Container

from paft_ray.generators.grammar.compose import compose, drawn, ordered_frames
from paft_ray.generators.grammar.frames import Frame
from paft_ray.generators.grammar.words import Words, words_of
from paft_ray.prompts.sampling import PerExample
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations.noise import keeping, kept
from paft_ray.prompts.variations.variant import Variant
from paft_ray.tasks.task import Task

VERSION = 1
_FORMAT = (
    *("order", "gap", "bare", "around", "heading", "option", "option title", "asked between"),
    *("labels", "label order", "marks", "allowed line", "allowed last", "cue line", "own line", "no cue"),
)
"""Choices of the grammar that are of the format: separators, headings, lists, line breaks."""
_CASES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("as it is", str),
    ("as it is", str),
    ("small letters", str.lower),
    ("capitals", str.upper),
)
_NUM_FORMATS = 6
_FIRST_FORMAT = 500
"""Number of the template whose choices are the first format: none that requests take."""
_MOST_TRIES = 500


def formats(task: Task, num_frames: int, seed: int, *, without: Container[str] = ()) -> list[Variant]:
    """`num_frames` requests, each in the same formats; labels are never written in another case. `without`: frames that
    are not used. Raises `UserError` where the task's words do not fit into sentences."""
    words = words_of(task)
    found: list[Variant] = []
    for number, frame in enumerate(ordered_frames(words, seed, without)[:num_frames]):
        for form in range(_NUM_FORMATS):
            composed = compose(words, frame, seed, number, dict.fromkeys(_FORMAT, _FIRST_FORMAT + form))
            found.append(_variant(task, composed, frame, form, seed))
    return found


def _variant(task: Task, composed: PromptTemplate, frame: Frame, form: int, seed: int) -> Variant:
    how = PerExample(seed=seed).index(
        epoch=0, example_id=f"format case {form}", index_in_epoch=0, num_templates=len(_CASES)
    )
    case, change = _CASES[how]
    text = composed.reworded(lambda own: keeping(own, kept(task), change))
    level = f"format {form + 1}" + ("" if change is str else f", {case}")
    return Variant(text=text, axis="format", level=level, base=_base(frame), version=VERSION, seed=seed)


def _base(frame: Frame) -> str:
    """What is varied: the request of a frame, which is no plain template of a suite."""
    return f"frame {frame.id}"


def label_orders(task: Task, num_frames: int, seed: int, *, without: Container[str] = ()) -> list[Variant]:
    """`num_frames` requests that list the labels, each with the labels in every order that begins with another one.
    None where the task has options, or labels that are not listed. Raises `UserError` as `formats`."""
    words = words_of(task)
    if words.options or not words.labels or not words.are_listed:
        return []
    orders = _orders(len(words.labels), seed)
    found: list[Variant] = []
    for frame in ordered_frames(words, seed, without):
        texts = _listing(words, frame, seed, orders)
        if texts is None:
            continue
        base = _base(frame)
        found += [
            Variant(text=text.text, axis="options", level=f"labels from {label}", base=base, version=VERSION, seed=seed)
            for text, label in zip(texts, words.labels, strict=True)
        ]
        if len(found) == num_frames * len(words.labels):
            break
    return found


def _orders(num_labels: int, seed: int) -> list[int]:
    """For each label the number whose choice of the first label it is."""
    found: dict[int, int] = {}
    for number in range(_MOST_TRIES):
        found.setdefault(drawn(seed, "label order", number, num_labels), number)
    return [found[label] for label in range(num_labels)]


def _listing(words: Words, frame: Frame, seed: int, orders: list[int]) -> list[PromptTemplate] | None:
    """The first template of a frame that lists the labels, in each order; None where it has none."""
    for number in range(len(orders) * 8):
        texts = [compose(words, frame, seed, number, {"label order": order}) for order in orders]
        if len({text.id for text in texts}) == len(texts):
            return texts
    return None
