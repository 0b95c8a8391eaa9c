"""Parts of a composed template: ways to show what is given, to list answers and to lead to the answer."""

from __future__ import annotations

from collections.abc import Callable

from paft_ray.generators.grammar.words import Words, heading, listed

Pick = Callable[[str, int], int]
"""(name of a choice, number of ways) -> one of them, in [0, number)."""


def given(words: Words, pick: Pick) -> str:
    """The fields that are no options, with or without headings."""
    if not words.context:
        return ""
    if len(words.context) == 1 and pick("bare", 3) == 0:
        (field,) = words.context
        around = ("{0}", '"{0}"', "---\n{0}\n---", "> {0}", "{0}")[pick("around", 5)]
        return around.replace("{0}", f"{{{field}}}")
    style = pick("heading", 8)
    pieces = [_headed(heading(noun), f"{{{field}}}", style) for field, noun in words.context.items()]
    return ("\n\n" if style in (1, 4) else "\n").join(pieces)


def _headed(noun: str, slot: str, style: int) -> str:
    """A field behind its heading."""
    tag = noun.lower().replace(" ", "_")
    return (
        f"{noun}: {slot}",
        f"{noun}:\n{slot}",
        f"{noun.upper()}: {slot}",
        f"**{noun}:** {slot}",
        f"### {noun}\n{slot}",
        f"- {noun}: {slot}",
        f"*{noun}:* {slot}",
        f"<{tag}>{slot}</{tag}>" if tag.isidentifier() else f"{noun}: {slot}",
    )[style]


_OPTION_TITLES = (
    "",
    "",
    "Options:",
    "Choices:",
    "Alternatives:",
    "Candidates:",
    "Possible answers:",
    "Pick one of these:",
)


def options(words: Words, pick: Pick) -> str:
    """The fields that are options, each behind its label, on lines of their own."""
    style, title = pick("option", 10), _OPTION_TITLES[pick("option title", len(_OPTION_TITLES))]
    lines = [
        (
            f"{label}: {{{field}}}",
            f"{label}. {{{field}}}",
            f"{label}) {{{field}}}",
            f"({label}) {{{field}}}",
            f"Option {label}: {{{field}}}",
            f"Choice {label}: {{{field}}}",
            f"- {label}: {{{field}}}",
            f"{heading(noun)} ({label}): {{{field}}}",
            f"**{label}.** {{{field}}}",
            f"{label} - {{{field}}}",
        )[style]
        for label, (field, noun) in words.options.items()
    ]
    return "\n".join([title] * bool(title) + lines)


def answers(words: Words, pick: Pick) -> str:
    """Which answers are allowed, or which format a free one has; `""` where nothing has to be said. What begins with a
    line break stands on lines of its own."""
    if words.options:
        return _marks(words, pick)
    if words.labels:
        return _labels(words, pick)
    if not words.answer_format:
        return ""
    leads = (
        "{0}",
        "{0}",
        "Note: {0}",
        "Important: {0}",
        "Format of the answer: {0}",
        "Do not forget: {0}",
        "One rule applies: {0}",
        "A word on formatting: {0}",
        "Please mind how the answer is written: {0}",
        "Keep to the following convention: {0}",
        "Readers expect a certain layout: {0}",
        "A program will mark the answer, so keep to its form: {0}",
    )
    return leads[pick("format", len(leads))].replace("{0}", words.answer_format)


def _labels(words: Words, pick: Pick) -> str:
    if not words.are_listed:
        return ("Answer with the label alone.", "Give the label only.", "Name one label.")[pick("labels", 3)]
    if words.names_labels and pick("labels named", 4) == 0:
        return ""
    order = pick("label order", len(words.labels))
    labels = [*words.labels[order:], *words.labels[:order]]
    either, commas = listed(labels, "or"), ", ".join(labels)
    ways = (
        f"Possible answers: {commas}.",
        f"Answer with {either}.",
        f"The answer must be {either}.",
        f"Choose from the following labels: {commas}.",
        "\nOptions:\n" + "\n".join(f"- {label}" for label in labels),
        f"\nAllowed values: [{commas}]",
        f"Write {either} and nothing else.",
        "Say " + listed([f'"{label}"' for label in labels], "or") + ".",
        f"Reply with nothing but the label: {' / '.join(labels)}.",
        f"\nLabels: {' | '.join(labels)}",
        f"Only these replies are accepted: {commas}.",
        f"There are {words.count} possibilities: {listed(labels, 'and')}.",
        f"Respond with exactly one item from this list: {'; '.join(labels)}.",
        f"Use one of these {words.count} terms: {commas}.",
    )
    return ways[pick("labels", len(ways))]


def _marks(words: Words, pick: Pick) -> str:
    mark, either = words.mark, listed(list(words.options), "or")
    ways = (
        f"Answer with the {mark} only.",
        f"Answer with {either}.",
        f"Give the {mark} of the option that you choose.",
        f"Reply with a single {mark}.",
        f"State which option it is: {either}.",
        f"Write {either} and nothing else.",
        "",
        f"The answer is a single {mark} ({either}).",
        f"Name your choice by its {mark}.",
        f"Only the {mark} counts.",
        f"Respond by typing {either}.",
    )
    return ways[pick("marks", len(ways))]


_CUES = (
    "Answer:",
    "Your answer:",
    "Reply:",
    "Response:",
    "Final answer:",
    "My answer:",
    "Write your answer here:",
    "Result:",
    "The answer:",
    "Here is what I came up with:",
    "Space for your answer:",
)
_CHOICE_CUES = (
    "The answer is",
    "The correct answer is",
    "The best answer is",
    "I would answer",
    "So the answer must be",
    "Decision:",
)
_LABEL_CUES = ("Label:", "Chosen label:", "The right label is", "Correct label:")
_OPTION_CUES = (
    "Choice:",
    "Chosen option:",
    "The right option is",
    "I choose",
    "My choice is option",
    "Best option:",
    "The correct option:",
)


def cue(words: Words, pick: Pick) -> str:
    """What leads to the answer."""
    cues: tuple[str, ...] = _CUES
    if words.labels:
        cues += _CHOICE_CUES
    if words.options:
        cues += (*_OPTION_CUES, f"Correct {words.mark}:", f"The {words.mark} is")
    elif words.labels:
        cues += _LABEL_CUES
    found = cues[pick("cue", len(cues))]
    return f"{found}\n" if found.endswith(":") and pick("cue line", 6) == 0 else found
