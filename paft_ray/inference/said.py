"""What a model said: an unconstrained answer as token ids, parsed and scored by the task's grader."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from paft_ray.prompts.encode import Encoder
from paft_ray.tasks.graders.choice import Choice
from paft_ray.tasks.task import Example
from paft_ray.tasks.values import nfc

_SHORTEST_WORD = 3
_MEASURES = ("behavior", "strict")


@dataclass(frozen=True, kw_only=True)
class Said:
    """An unconstrained answer, judged."""

    text: str
    """Without special tokens."""
    named: str | None
    """What lenient parsing found; None: nothing, which is wrong."""
    behavior: float
    """Score in [0, 1] of what lenient parsing found."""
    strict: float
    """Likewise of strict parsing."""


@dataclass(frozen=True, kw_only=True)
class TimedAnswer:
    """An unconstrained answer that no label ended, and what it took."""

    is_right: bool
    """Leniently parsed, with a score of 1."""
    num_tokens: int
    """With its EOS token, at most the limit."""
    seconds: float
    """From the start of its computation, with others in the same batch; NaN where the engine took no time."""
    misjudged_by: frozenset[str]
    """Measures by which it would score otherwise, had the first token that is a label ended it."""


class AnswerJudge:
    """Judges unconstrained answers of one task; pure apart from its cache."""

    def __init__(self, encoder: Encoder, end_ids: Sequence[int]) -> None:
        """`end_ids`: tokens that end an answer."""
        self._grader, self._tokenizer = encoder.task.grader, encoder.tokenizer
        self._ends = frozenset(end_ids)
        self._trained = {newline: _trained(encoder.label_ids(newline)) for newline in (True, False)}
        self._parsed = lru_cache(maxsize=65536)(self._parse)

    def __call__(self, token_ids: Sequence[int], example: Example, after_newline: bool) -> Said:
        """The judged answer. `after_newline`: as `Encoded.after_newline`. Raises `UserError` for a third party's grader
        that does not keep to its contract."""
        text, named, strictly = self._parsed(tuple(token_ids), after_newline)
        return Said(text=text, named=named, behavior=self._score(named, example), strict=self._score(strictly, example))

    def timed(
        self, row: Mapping[str, Any], example: Example, after_newline: bool, said: Said, deciding: Collection[int]
    ) -> TimedAnswer:
        """What the answer in an engine row took, judged as `said`. `deciding`: tokens that end other answers."""
        ids, seconds = row["token_ids"], row["latency_s"]
        end = next((place for place, token in enumerate(ids, 1) if token in deciding), None)
        ended = said if end is None else self(ids[:end], example, after_newline)
        return TimedAnswer(
            is_right=said.behavior == 1,
            num_tokens=len(ids),
            seconds=math.nan if seconds is None else seconds,
            misjudged_by=frozenset(name for name in _MEASURES if getattr(said, name) != getattr(ended, name)),
        )

    def _parse(self, token_ids: tuple[int, ...], after_newline: bool) -> tuple[str, str | None, str | None]:
        """(Text, what lenient, what strict parsing found) of an answer. Where its tokens are those of a label as it is
        trained, the grader is given that label: a tokenizer may decode them to another text."""
        ids = token_ids[:-1] if token_ids and token_ids[-1] in self._ends else token_ids
        text = str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        judged = self._trained[after_newline].get(ids, text)
        named = self._grader.parse(judged)
        return text, named, None if named is None else self._grader.parse_strict(judged)

    def _score(self, found: str | None, example: Example) -> float:
        return 0.0 if found is None else float(self._grader.score(found, example))


def deciding_tokens(encoder: Encoder) -> tuple[int, ...]:
    """Ids of the tokens that are a complete label, behind a line break or not, ascending: where an answer is one of
    them, no more of it has to be generated. Left out are labels that words or numbers easily begin with (under three
    letters, or with a digit), those that another label holds, and tokens within another label. There are none for a
    grader of a third party, which may judge by what follows."""
    if not isinstance(encoder.task.grader, Choice):
        return ()
    texts = encoder.task.label_texts
    ids = [(label, row) for newline in (True, False) for label, row in encoder.label_ids(newline).items()]
    alone = {
        row[0]
        for label, row in ids
        if len(row) == 2 and _is_word(label) and not any(_holds(other, label) for other in texts if other != label)
    }
    within = {token for _, row in ids if len(row) > 2 for token in row[:-1]}
    return tuple(sorted(alone - within))


def _is_word(label: str) -> bool:
    return label.isalpha() and len(label) >= _SHORTEST_WORD


def _holds(text: str, label: str) -> bool:
    return nfc(label).casefold() in nfc(text).casefold()


def _trained(labels: Mapping[str, list[int]]) -> dict[tuple[int, ...], str]:
    """Token ids of a label without its EOS token -> the label."""
    return {tuple(ids[:-1]): label for label, ids in labels.items()}
