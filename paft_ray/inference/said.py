"""What a model said: an unconstrained answer as token ids, parsed and scored by the task's grader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from paft_ray.errors import UserError
from paft_ray.prompts.encode import Encoder
from paft_ray.tasks.task import Example
from paft_ray.tasks.values import nfc

_SHORTEST_WORD = 3


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


class AnswerJudge:
    """Judges unconstrained answers of one task; pure apart from its cache."""

    def __init__(self, encoder: Encoder, end_ids: Sequence[int]) -> None:
        """`end_ids`: tokens that end an answer."""
        self._name, self._grader, self._tokenizer = encoder.task.name, encoder.task.grader, encoder.tokenizer
        self._ends = frozenset(end_ids)
        self._trained = {newline: _trained(encoder.label_ids(newline)) for newline in (True, False)}
        self._parsed = lru_cache(maxsize=65536)(self._parse)

    def __call__(self, token_ids: Sequence[int], example: Example, after_newline: bool) -> Said:
        """The judged answer. `after_newline`: as `Encoded.after_newline`. Raises `UserError` for a grader that gives no
        score in [0, 1]."""
        text, named, strictly = self._parsed(tuple(token_ids), after_newline)
        return Said(text=text, named=named, behavior=self._score(named, example), strict=self._score(strictly, example))

    def _parse(self, token_ids: tuple[int, ...], after_newline: bool) -> tuple[str, str | None, str | None]:
        """(Text, what lenient, what strict parsing found) of an answer. Strict: the tokens of a label as it is trained,
        or what the grader says of the text."""
        ids = token_ids[:-1] if token_ids and token_ids[-1] in self._ends else token_ids
        text = str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        if (trained := self._trained[after_newline].get(ids)) is not None:
            return text, trained, trained
        named = self._grader.parse(text)
        return text, named, None if named is None else self._grader.parse_strict(text)

    def _score(self, found: str | None, example: Example) -> float:
        if found is None:
            return 0.0
        score = float(self._grader.score(found, example))
        if not 0 <= score <= 1:
            raise UserError(
                f"task {self._name}: its grader gave {score}; a score from 0 to 1 is needed, fix the grader"
            )
        return score


def deciding_tokens(encoder: Encoder) -> tuple[int, ...]:
    """Ids of the tokens that are a complete label, behind a line break or not, ascending: where an answer is one of
    them, no more of it has to be generated. Left out are labels that words or numbers easily begin with (under three
    letters, or with a digit), those that another label holds, and tokens within another label."""
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
