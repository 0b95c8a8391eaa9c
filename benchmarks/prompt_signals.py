"""What each signal is worth that could tell templates which ask for a task from nonsense: a Markdown table of AUCs.

`python -m benchmarks.prompt_signals` tells without a model; `--judge ID` (a Hugging Face id, a folder or `demo`) asks a
model too, without and with examples in the question. The first columns are over texts of
tests/unit/prompts/checks/quality_texts.jsonl: 24 that ask for the sentiment of a text, 24 fluent ones that do not, 24
of random words. The others are the product's own calibration, which decides.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from paft_ray.config import EngineConfig, GeneratorConfig, PromptsConfig
from paft_ray.generators.quality.calibration import (
    Calibration,
    Known,
    calibration,
    hand_written,
    known_pairs,
    scored,
    shuffled,
)
from paft_ray.generators.quality.judge import Ask, Judge
from paft_ray.generators.quality.question import SHOWN_FIELD, Question
from paft_ray.generators.quality.registry import Models, asking
from paft_ray.generators.quality.signal import Pair, Signal
from paft_ray.metrics.discrimination import auc
from paft_ray.prompts.checks.rules import broken_rule
from paft_ray.prompts.checks.words import FIELD, content_words, literal
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, load_task

TEXTS = Path(__file__).parents[1] / "tests" / "unit" / "prompts" / "checks" / "quality_texts.jsonl"
_SHOTS_PER_OPTION = 2


class RulesSignal:
    """1 where no rule is broken."""

    name, threshold = "rules", 1.0

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        return [float(broken_rule(pair.template, pair.task) is None) for pair in pairs]


@dataclass(frozen=True)
class WordsSignal:
    """Fraction of a template's content words that the description, or another hand-written template, of the task
    has."""

    written: Sequence[Pair]
    name: str = "words shared with the task's other templates"
    threshold: float = 0.5

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        return [self._score(pair) for pair in pairs]

    def _score(self, pair: Pair) -> float:
        known = set(content_words(pair.task.description, pair.task))
        for other in self.written:
            if (
                other.task == pair.task
                and other.template != pair.template
                and shuffled(other.template) != pair.template
            ):
                known.update(content_words(literal(other.template), other.task))
        found = content_words(literal(pair.template), pair.task)
        return sum(word in known for word in found) / len(found) if found else 0.0


@dataclass(frozen=True, kw_only=True)
class QuestionWithExamples(Question):
    """The question behind answered ones."""

    shots: tuple[tuple[PromptTemplate, int], ...] = ()
    """Template, number of the option that it asks for."""

    @cached_property
    def templates(self) -> tuple[PromptTemplate, PromptTemplate]:
        plain = super().templates
        first, second = (self._behind(template, order) for order, template in enumerate(plain))
        return first, second

    def _behind(self, template: PromptTemplate, order: int) -> PromptTemplate:
        head, text = template.text.split("\n\nThe text:", 1)
        letters = self.task.label_texts if order == 0 else self.task.label_texts[::-1]
        lines = []
        for shot, option in self.shots:
            shown = literal(shot).replace(FIELD, SHOWN_FIELD).replace("{", "{{").replace("}", "}}")
            lines.append("\n\nThe text:" + text.replace("{text}", shown) + f" {letters[option]}")
        return PromptTemplate(text=f"{head}{''.join(lines)}\n\nThe text:{text}")


def with_examples(question: Question, written: Sequence[Pair]) -> tuple[QuestionWithExamples, list[Pair]]:
    """(The question behind examples of each option that has hand-written templates and of none, the other
    templates)."""
    shots, left, counts = [], [], dict[int, int]()
    for pair in written:
        option = question.option_of(pair.task)
        if option is not None and counts.get(option, 0) < _SHOTS_PER_OPTION:
            counts[option] = counts.get(option, 0) + 1
            shots += [(pair.template, option), (shuffled(pair.template), len(question.options))]
        else:
            left.append(pair)
    return QuestionWithExamples(options=question.options, shots=tuple(shots)), left


@dataclass(frozen=True, kw_only=True)
class Line:
    """One signal."""

    name: str
    against: dict[str, float]
    """Kind of texts -> AUC of the good ones against these."""
    found: Calibration = field(repr=False)

    def __str__(self) -> str:
        figures = " | ".join(f"{value:.2f}" for value in self.against.values())
        kinds = (
            ", ".join(f"{kind} {value:.2f}" for kind, value in self.found.found.by_kind.items())
            if self.found.found
            else ""
        )
        interval = self.found.found.auc if self.found.found else None
        own = f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})" if interval else "-"
        return f"| {self.name} | {figures} | {own} | {kinds} | {'yes' if self.found.may_decide else 'no'} |"


def line(signal: Signal, task: Task, known: Sequence[Known], seeds: Sequence[Pair]) -> Line:
    """What one signal is worth. Its model is asked once."""
    rows = [json.loads(row) for row in TEXTS.read_text(encoding="utf-8").splitlines()]
    pairs = [Pair(template=PromptTemplate(text=row["text"]), task=task) for row in rows]
    scores = signal.scores([*pairs, *(each.pair for each in known), *seeds])
    texts, of_known, of_seeds = np.split(np.array(scores), [len(pairs), len(pairs) + len(known)])
    by_kind = {kind: [s for s, row in zip(texts, rows, strict=True) if row["kind"] == kind] for kind in _kinds(rows)}
    good = by_kind.pop("good")
    return Line(
        name=signal.name,
        against={kind: auc(good, values) for kind, values in by_kind.items()},
        found=calibration(signal, scored(known, of_known.tolist()), of_seeds.tolist(), np.random.default_rng(0)),
    )


def _kinds(rows: Iterable[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(row["kind"] for row in rows))


def lines(ask: Ask | None, model: str) -> Iterable[Line]:
    """Every signal; `ask`: what asks a model."""
    task = load_task("demo")
    question, written = Question.about(task), hand_written([], PromptsConfig().similarity)
    known = known_pairs(written, question)
    seeds = [pair for pair in written if pair.task == task][:10]
    yield line(RulesSignal(), task, known, seeds)
    yield line(
        WordsSignal(
            [Pair(template=p.template, task=question.options[question.option_of(p.task) or 0]) for p in written]
        ),
        task,
        known,
        seeds,
    )
    if ask is not None:
        yield line(Judge(model=model, question=question, ask=ask), task, known, seeds)
        behind, left = with_examples(question, written)
        judge = Judge(model=f"{model} with {len(behind.shots)} examples", question=behind, ask=ask)
        yield line(judge, task, known_pairs(left, behind), [pair for pair in seeds if pair in left])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", metavar="ID", help="a model to ask, on this machine")
    model = parser.parse_args().judge
    print("| signal | good or nonsense | good or random words | calibration, 90 % interval | by kind | may decide |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for found in lines(_asking(model, folder) if model else None, model or ""):
            print(found, flush=True)


def _asking(model: str, folder: str) -> Ask:
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.models.local import find_model
    from paft_ray.storage.store import Store

    models = Models(
        judge=None,
        model_of=lambda generator: find_model(generator.id, generator.revision),
        engine=EngineConfig(),
        cache=AnswerCache.of(Store(folder), ""),
    )
    return asking(GeneratorConfig(id=model), models)


if __name__ == "__main__":
    main()
