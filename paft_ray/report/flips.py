"""Flips: examples that one template gets right and another wrong, and the template pairs between which this happens
most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paft_ray.metrics import ArmOutcomes
from paft_ray.report.inputs import Measured
from paft_ray.report.tables import Given, TemplateRow, given, scores

_ARMS = ("sft", "paft")


@dataclass(frozen=True, kw_only=True)
class FlipExample:
    """An example whose answer depends on the template."""

    fields: Mapping[str, str]
    answer: str
    right: tuple[int, ...]
    """Numbers of the templates under which it is answered right."""
    wrong: tuple[tuple[Given, tuple[int, ...]], ...]
    """(answer given, numbers of the templates), most frequent first."""

    @property
    def num_wrong(self) -> int:
        return sum(len(numbers) for _, numbers in self.wrong)


@dataclass(frozen=True, kw_only=True)
class FlipPair:
    """Two templates between which answers flip."""

    first: int
    second: int
    only_first: int
    """Examples that are right under the first template alone."""
    only_second: int

    @property
    def num_flips(self) -> int:
        return self.only_first + self.only_second


@dataclass(frozen=True, kw_only=True)
class Flips:
    """The flips of one arm, of its first seed."""

    num_examples: int
    always_right: int
    """Examples answered right under every template."""
    always_wrong: int
    pair_share: float
    """Fraction of (template pair, example) with one right and one wrong answer; 0.5 at most for many templates."""
    examples: tuple[FlipExample, ...]
    """Those with the most flipping pairs, at most as many as asked for."""
    pairs: tuple[FlipPair, ...]
    """Likewise."""

    @property
    def num_flipping(self) -> int:
        """Examples right under some templates and wrong under others."""
        return self.num_examples - self.always_right - self.always_wrong


def flips_by_arm(measured: Measured, rows: Sequence[TemplateRow], arms: Mapping[str, ArmOutcomes]) -> dict[str, Flips]:
    """Arm -> flips, for sft and paft where they were measured, else for every arm; none with a single template, and
    none for scores between right and wrong."""
    shown = [arm for arm in _ARMS if arm in arms] or list(arms)
    if len(rows) < 2 or any(arm.is_graded for arm in arms.values()):
        return {}
    return {arm: flips(measured, rows, arm, arms[arm]) for arm in shown}


def flips(
    measured: Measured,
    rows: Sequence[TemplateRow],
    arm: str,
    outcomes: ArmOutcomes,
    *,
    num_examples: int = 5,
    num_pairs: int = 5,
) -> Flips:
    """The flips of an arm's first seed. Rows that failed count neither as right nor as wrong; templates that the prompt
    set lacks are left out."""
    numbers = {row.template.id: row.number for row in rows}
    known = [t for t, template in enumerate(outcomes.template_ids) if template in numbers]
    correct = outcomes.correct[0, known]
    right, wrong = (correct == 1).astype(np.int64), (correct == 0).astype(np.int64)
    by_example = right.sum(axis=0) * wrong.sum(axis=0)
    answered = (right + wrong).sum(axis=0)
    places = [numbers[outcomes.template_ids[t]] for t in known]
    most = [int(e) for e in np.argsort(-by_example, kind="stable")[:num_examples] if by_example[e]]
    compared = float((answered * (answered - 1) / 2).sum())
    return Flips(
        num_examples=int((answered > 0).sum()),
        always_right=int(((wrong.sum(axis=0) == 0) & (answered > 0)).sum()),
        always_wrong=int(((right.sum(axis=0) == 0) & (answered > 0)).sum()),
        pair_share=float(by_example.sum() / compared) if compared else 0.0,
        examples=_examples(measured, arm, outcomes.seeds[0], [outcomes.example_ids[e] for e in most], numbers),
        pairs=_pairs(right @ wrong.T, places, num_pairs),
    )


def _pairs(only_first: NDArray[np.int64], places: Sequence[int], number: int) -> tuple[FlipPair, ...]:
    """`only_first`: [templates, templates], examples that are right under the row's template and wrong under the
    column's."""
    found = [
        FlipPair(first=places[a], second=places[b], only_first=int(only_first[a, b]), only_second=int(only_first[b, a]))
        for a in range(len(places))
        for b in range(len(places))
        if places[a] < places[b] and only_first[a, b] + only_first[b, a]
    ]
    return tuple(sorted(found, key=lambda pair: (-pair.num_flips, pair.first, pair.second))[:number])


def _examples(
    measured: Measured, arm: str, seed: int, ids: Sequence[str], numbers: Mapping[str, int]
) -> tuple[FlipExample, ...]:
    names, seeds = (measured.outcomes.column(key).to_numpy(zero_copy_only=False) for key in ("arm", "seed"))
    chosen = (
        (names == arm)
        & (seeds == seed)
        & np.isin(measured.outcomes.column("example_id").to_numpy(zero_copy_only=False), list(ids))
    )
    asked = measured.outcomes.filter(chosen)
    outcomes = asked.append_column("score", scores(asked, measured.headline)).to_pylist()
    found = []
    for example_id in ids:
        own = [row for row in outcomes if row["example_id"] == example_id and row["template_id"] in numbers]
        own.sort(key=lambda row: numbers[row["template_id"]])
        wrong: dict[Given, list[int]] = {}
        for row in own:
            if row["score"] == 0:
                wrong.setdefault(given(row, measured.headline), []).append(numbers[row["template_id"]])
        example = measured.examples.get(example_id)
        found.append(
            FlipExample(
                fields=example.fields if example else {"id": example_id},
                answer=own[0]["answer"],
                right=tuple(numbers[row["template_id"]] for row in own if row["score"] == 1),
                wrong=tuple(
                    (answer, tuple(places)) for answer, places in sorted(wrong.items(), key=lambda item: -len(item[1]))
                ),
            )
        )
    return tuple(found)
