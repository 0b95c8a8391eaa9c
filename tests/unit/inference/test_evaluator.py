"""The grid of a measurement and the judging of engine rows, with a fake tokenizer and no engine. Invariant 9."""

import json
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from paft_ray.config import ModelConfig
from paft_ray.errors import UserError
from paft_ray.inference.evaluator import num_blocks
from paft_ray.inference.grid import Free, Grid, requests_per_cell
from paft_ray.models.reference import ModelFiles, ModelReference
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.score import score_table
from paft_ray.tasks.graders.plugins import read_plugin
from paft_ray.tasks.task import Example, Task

EXAMPLES = tuple(
    Example(id=f"e{i}", fields={"text": t}, answer=a)
    for i, (t, a) in enumerate([("x", "yes"), ("y", "no"), ("z", "yes")])
)
TEMPLATES = (PromptTemplate(text="Q {text} A"), PromptTemplate(text="{text}?\n"))


SPACED = 2**20


class Letters:
    """One token per character, with the space before it; its code point is the id, 0 ends an answer."""

    eos_token_id = 0
    chat_template = None
    all_special_tokens: tuple[str, ...] = ()
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(part[-1]) + SPACED * (len(part) - 1) for part in re.findall(r"(?s) ?[^ ]| ", text)]}

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(" " * (i // SPACED) + chr(i % SPACED) for i in ids if i)


def grid(monkeypatch: pytest.MonkeyPatch, labels: list[str] | None, free: Free | None = None) -> Grid:
    monkeypatch.setattr("paft_ray.inference.grid.find_on_this_node", lambda model: model)
    monkeypatch.setattr("paft_ray.models.encoder.load_tokenizer", lambda path: Letters())
    rest: dict[str, Any] = (
        {"kind": "choice", "labels": labels}
        if labels
        else {"kind": "free", "pattern": r"(\d+)", "max_answer_tokens": 5}
    )
    task = Task(name="t", description="d", fields={"text": "a text"}, **rest)
    return Grid(
        task=task,
        templates=TEMPLATES,
        examples=EXAMPLES,
        model=ModelConfig(max_prompt_tokens=64),
        model_files=ModelFiles(reference=ModelReference(id="m", revision=None, identity={}), path=""),
        free=free,
    )


def test_answers_of_other_cells_are_kept_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kept answer has the number of its cell, which other rows or templates give to another one."""
    from paft_ray.config import EngineConfig
    from paft_ray.inference import evaluator
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.inference.model_weights import ModelWeights
    from paft_ray.storage.store import Store

    class AskedError(Exception):
        pass

    folders: list[str] = []

    def generate(*_: Any, cache: AnswerCache, **__: Any) -> None:
        folders.append(cache.folder)
        raise AskedError

    monkeypatch.setattr(evaluator, "generate", generate)
    monkeypatch.setattr(evaluator, "_dataset", lambda *_: None)
    whole = grid(monkeypatch, ["yes", "no"])
    other = replace(EXAMPLES[0], fields={"text": "w"})
    for templates, examples, cells in (
        (TEMPLATES, EXAMPLES, None),
        (TEMPLATES, EXAMPLES, None),
        (TEMPLATES, EXAMPLES[:2], None),
        (TEMPLATES, (other, *EXAMPLES[1:]), None),
        (TEMPLATES[::-1], EXAMPLES, None),
        (TEMPLATES[:1], EXAMPLES, None),
        (TEMPLATES, EXAMPLES, np.array([[True, False, True], [False, True, False]])),
    ):
        with pytest.raises(AskedError):
            evaluator.evaluate(
                name="t",
                task=whole.task,
                templates=templates,
                examples=examples,
                model=whole.model,
                base=whole.model_files,
                models=[ModelWeights(key={})],
                cache=AnswerCache.of(Store.at(str(tmp_path)), "score"),
                engine=EngineConfig(),
                cells=cells,
            )
    assert folders[0] == folders[1]
    assert len(set(folders)) == len(folders) - 1


def answer(request: dict[str, Any], liked: str, said: str = "") -> dict[str, Any]:
    """An engine that likes the characters of one word, and says another."""
    ids = json.loads(request["sampling"]).get("logprob_token_ids", [])
    return {
        "key": request["key"],
        "token_ids": [*map(ord, said), 0],
        "top_ids": ids,
        "top_logprobs": [-0.1 if chr(i % SPACED) in liked else -3.0 for i in ids],
        "latency_s": 0.1,
    }


SAID = (" yes", "Answer: Yes", " no", "")


@pytest.mark.parametrize(
    ("num_rows", "expected"), [(1, 1), (960, 15), (262_144, 4096), (5_900_000, 4096), (400_000_000, 97_657)]
)
def test_blocks_stay_small_whatever_the_grid(num_rows: int, expected: int) -> None:
    assert num_blocks(num_rows, 64) == expected
    assert num_rows / expected <= 4096


def test_one_request_of_a_cell_gives_the_unconstrained_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, ["no", "not", "yes"], Free(max_tokens=7))
    first, second = (json.loads(r["sampling"]) for r in asked.requests([0]))
    assert (first["max_tokens"], first["stop_token_ids"], first["logprob_token_ids"]) == (
        7,
        [0],
        [SPACED + ord("n"), SPACED + ord("y")],
    )
    assert (second["max_tokens"], second.get("stop_token_ids")) == (1, None)
    assert asked.longest == 64 + 7
    score = grid(monkeypatch, ["no", "not", "yes"])
    assert {json.loads(r["sampling"])["max_tokens"] for r in score.requests([0])} == {1}, "a stage that asks for labels"


def test_a_token_that_is_a_label_ends_the_answer_and_one_that_begins_another_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stops(labels: list[str]) -> set[str]:
        (request,) = grid(monkeypatch, labels, Free(max_tokens=7)).requests([3])[:1]
        return {chr(i % SPACED) for i in json.loads(request["sampling"])["stop_token_ids"]} - {"\0"}

    assert stops(["Y", "N"]) == set(), "other words begin with these letters"
    monkeypatch.setattr("paft_ray.inference.said._SHORTEST_WORD", 1)
    assert stops(["Y", "N"]) == {"Y", "N"}
    assert stops(["Y", "N", "nx"]) == {"Y"}, "N may be the beginning of nx"
    assert stops(["yes", "no"]) == set()


@pytest.mark.parametrize(
    ("said", "behavior", "strict", "named"),
    [
        (" yes", 1.0, 1.0, "yes"),
        ("yes", 1.0, 1.0, "yes"),
        ("Answer: Yes", 1.0, 0.0, "yes"),
        ("yes, of course", 1.0, 0.0, "yes"),
        (" no", 0.0, 0.0, "no"),
        ("", 0.0, 0.0, None),
        ("I say yes", 0.0, 0.0, None),
        ("yesterday", 0.0, 0.0, None),
    ],
)
def test_what_is_said_is_judged_apart_from_what_is_chosen(
    said: str, behavior: float, strict: float, named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(grid(monkeypatch, ["yes", "no"], Free(max_tokens=20)), examples=EXAMPLES[:1], cells=(0,))
    requests = asked.requests(asked.asked)
    (outcome,) = asked.judge([[answer(r, "yes", said) for r in requests]]).outcomes.to_pylist()
    assert (outcome["behavior"], outcome["strict"], outcome["named"]) == (behavior, strict, named)
    assert (outcome["predicted"], outcome["correct"], outcome["parsed"]) == ("yes", True, True)
    assert (outcome["said"], outcome["num_tokens"], outcome["text"]) == (said, len(said) + 1, None)


def test_outcomes_hold_every_labels_probability_in_the_tasks_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, ["yes", "no"], Free(max_tokens=3))
    outcome = asked.judge([[answer(r, "yes") for r in asked.requests([3])]]).outcomes.to_pylist()[0]
    yes, no = outcome["label_logprobs"]
    assert yes == pytest.approx(outcome["logprob"], abs=1e-6)
    assert math.exp(yes) + math.exp(no) == pytest.approx(1, abs=1e-6)
    assert yes - no == pytest.approx(2.9, abs=1e-6)
    assert outcome["label_mass"] == pytest.approx(math.exp(-0.1) + math.exp(-3.0), abs=1e-6)


def test_a_long_answer_is_cut_in_outcomes_and_judged_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, ["yes", "no"], Free(max_tokens=200))
    (request,) = asked.requests([3])
    outcome = asked.judge([[answer(request, "yes", " " * 60 + "yes")]]).outcomes.to_pylist()[0]
    assert (outcome["said"], outcome["behavior"], outcome["num_tokens"]) == (" " * 48, 1.0, 64)


SAYS_IT_LAST = """
class Last:
    is_graded = False

    def __init__(self, labels):
        self.labels = labels

    def parse(self, completion):
        return completion.split()[-1] if completion.split()[-1:] and completion.split()[-1] in self.labels else None

    def parse_strict(self, completion):
        return None

    def score(self, prediction, example):
        return float(prediction == example.answer) * WEIGHT

GRADERS = {"last": Last}
"""
"""A grader of a third party that judges the last word of an answer, and finds no answer strict."""


def judged_by_last_word(asked: Grid, folder: Path, weight: str = "1") -> Grid:
    (folder / "last.py").write_text(SAYS_IT_LAST.replace("WEIGHT", weight))
    task = Task.model_validate({**asked.task.model_dump(exclude={"kind"}), "grader": {"type": "last"}})
    return replace(asked, task=task.with_plugins([read_plugin(str(folder / "last.py"))]))


def test_a_score_that_is_none_ends_the_command_and_names_the_grader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = judged_by_last_word(grid(monkeypatch, ["yes", "no"], Free(max_tokens=9)), tmp_path, weight="1.5")
    with pytest.raises(
        UserError, match=r"grader last of .*last\.py: score\('yes', .*returned 1\.5; 0 or 1 .* is needed"
    ):
        asked.judge([[answer(r, "yes", "yes") for r in asked.requests([0])]])


def test_a_plugin_judges_every_answer_and_no_label_ends_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the tokens of a label as it is trained nor a label at the beginning are taken for the grader's word."""
    monkeypatch.setattr("paft_ray.inference.said._SHORTEST_WORD", 1)
    plain = grid(monkeypatch, ["y", "n"], Free(max_tokens=9))
    plain = replace(plain, examples=(Example(id="e", fields={"text": "x"}, answer="y"),))
    asked = judged_by_last_word(plain, tmp_path)
    (of_choice,), (of_plugin,) = ([json.loads(r["sampling"]) for r in each.requests([1])] for each in (plain, asked))
    assert of_choice["stop_token_ids"] == [0, ord("n"), ord("y"), SPACED + ord("n"), SPACED + ord("y")]
    assert of_plugin["stop_token_ids"] == [0]
    outcomes = [
        asked.judge([[answer(r, "y", said) for r in asked.requests([1])]]).outcomes.to_pylist()[0]
        for said in ("y", "n or y", "y or n", "yes")
    ]
    assert [(o["named"], o["behavior"], o["strict"]) for o in outcomes] == [
        ("y", 1.0, 0.0),
        ("y", 1.0, 0.0),
        ("n", 0.0, 0.0),
        (None, 0.0, 0.0),
    ]


def test_answers_generated_to_their_end_show_what_a_label_at_which_others_end_hides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paft_ray.inference.said._SHORTEST_WORD", 1)
    asked = grid(monkeypatch, ["y", "n"], Free(max_tokens=9, num_rows=1))
    asked = replace(asked, examples=(Example(id="e", fields={"text": "x"}, answer="y"),))
    (request,) = asked.requests([2])
    found = {
        said: asked.judge([[{"key": request["key"], "token_ids": [*map(ord, said), 0], "latency_s": 0.5}]]).timed[0]
        for said in ("y", "y, of course", "yonder", "n, or y", "?", "")
    }
    assert {said: sorted(timed.misjudged_by) for said, timed in found.items()} == {
        "y": [],
        "y, of course": ["strict"],
        "yonder": ["behavior", "strict"],
        "n, or y": [],
        "?": [],
        "": [],
    }
    assert [(timed.is_right, timed.num_tokens, timed.seconds) for timed in found.values()][:3] == [
        (True, 2, 0.5),
        (True, 13, 0.5),
        (False, 7, 0.5),
    ]


def test_a_truncated_cell_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, ["no", "not", "yes"], Free(max_tokens=4, num_rows=6))
    rows = [answer(r, "yes", "yes") for r in asked.requests([0, 1, asked.index(6)])]
    for row in rows:
        index, _, *rest = json.loads(row["key"])
        row["key"] = json.dumps([index, 3 if index != 1 else 0, *rest])
    judged = asked.judge([rows])
    assert (judged.num_truncated, len(judged.timed), judged.outcomes.num_rows) == (1, 1, 2)


def test_cells_are_ordered_by_template_so_that_neighbors_share_their_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = [grid(monkeypatch, ["yes", "no"]).cell(c) for c in range(6)]
    assert [(TEMPLATES.index(t), e.id) for t, e in cells] == [(t, f"e{i}") for t in range(2) for i in range(3)]


def test_labels_that_part_at_the_first_token_cost_one_request_of_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = grid(monkeypatch, ["yes", "no"]).requests([3])
    assert len(requests) == 1
    sampling = json.loads(requests[0]["sampling"])
    assert (sampling["max_tokens"], sampling["temperature"], sampling["logprob_token_ids"]) == (
        1,
        0.0,
        [ord("n"), ord("y")],
    )


def test_judging_does_not_depend_on_the_order_of_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, ["no", "not", "yes"])
    rows = [answer(r, "not") for r in asked.requests(range(asked.num_cells))]
    forward, backward = asked.judge([rows]).outcomes, asked.judge([rows[3::-1], rows[:3:-1]]).outcomes
    assert forward.equals(backward)
    assert forward["example_id"].to_pylist() == ["e0", "e1", "e2"] * 2
    assert set(forward["predicted"].to_pylist()) == {"not"}
    assert forward["correct"].to_pylist() == [False] * 6


def test_a_cell_with_a_failed_branch_is_left_out_and_not_counted_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, ["no", "not", "yes"])
    rows = [answer(r, "yes") for r in asked.requests(range(asked.num_cells))]
    assert asked.judge([rows[1:]]).outcomes.num_rows == asked.num_cells - 1


def test_a_free_answer_without_the_pattern_is_wrong_and_unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, None)
    object.__setattr__(asked, "examples", (Example(id="n", fields={"text": "1+1"}, answer="2"),))
    key = {"top_ids": [], "top_logprobs": [], "latency_s": 0.1}
    rows = [
        {**key, "key": "[0, 0, false]", "token_ids": [ord("2"), 0]},
        {**key, "key": "[1, 0, true]", "token_ids": [ord("?")]},
    ]
    outcomes = asked.judge([rows]).outcomes.to_pylist()
    assert [(o["parsed"], o["correct"], o["predicted"]) for o in outcomes] == [(True, True, "2"), (False, False, None)]
    assert [(o["behavior"], o["strict"], o["num_tokens"], o["text"]) for o in outcomes] == [
        (1.0, 1.0, 2, "2"),
        (0.0, 0.0, 1, "?"),
    ]
    assert {o[name] for o in outcomes for name in ("said", "label_logprobs", "label_mass", "logprob")} == {None}


def test_a_graded_answer_keeps_its_score_and_is_right_at_1_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task.model_validate(
        {"name": "t", "description": "d", "fields": {"text": "a text"}, "grader": {"type": "token_f1"}}
    )
    example = Example(id="n", fields={"text": "who?"}, answer="Ada Lovelace")
    asked = replace(grid(monkeypatch, None), task=task, examples=(example,))
    said = ("Ada Lovelace", "Ada Byron")
    rows = [
        {"key": f"[{cell}, 0, false]", "token_ids": [*map(ord, text), 0], "latency_s": None}
        for cell, text in enumerate(said)
    ]
    outcomes = asked.judge([rows]).outcomes.to_pylist()
    assert [(o["behavior"], o["correct"], o["parsed"]) for o in outcomes] == [(1.0, True, True), (0.5, False, True)]
    assert score_table(asked.judge([rows]).outcomes.set_column(0, "template_id", [["t", "t"]]))[
        "accuracy"
    ].to_pylist() == [0.75]


def test_a_scoring_that_asks_for_labels_alone_knows_no_parse_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, ["yes", "no"])
    outcomes = asked.judge([[answer(r, "yes") for r in asked.requests(range(asked.num_cells))]]).outcomes
    scores = score_table(outcomes).to_pylist()
    assert outcomes["behavior"].null_count == len(outcomes)
    assert [(s["accuracy"], s["parse_failure_rate"]) for s in scores] == [(pytest.approx(2 / 3), None)] * 2
    assert scores[0]["stderr"] == pytest.approx(math.sqrt(2 / 3 * 1 / 3 / 3))


def test_freely_answered_cells_come_after_the_grid_and_are_spread_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(monkeypatch, ["yes", "no"], Free(num_rows=3, max_tokens=4))
    assert asked.num_free == 3
    assert [asked.cell(i) for i in range(6, 9)] == [asked.cell(c) for c in (0, 2, 4)]
    requests = asked.requests([6, 8])
    assert [json.loads(r["key"]) for r in requests] == [[6, 0, False], [8, 0, True]]
    sampling = json.loads(requests[0]["sampling"])
    assert (sampling["max_tokens"], sampling["stop_token_ids"]) == (4, [0]), "no label ends a timed answer"
    assert asked.judge([[{"key": "[6, 0, false]", "token_ids": [5], "latency_s": None}]]).outcomes.num_rows == 0
    said = {
        text: asked.judge([[{"key": "[6, 0, false]", "token_ids": [*map(ord, text), 0], "latency_s": None}]])
        .timed[0]
        .is_right
        for text in SAID
    }
    assert said == {" yes": True, "Answer: Yes": True, " no": False, "": False}


@pytest.mark.parametrize("num_labels", [128, 129, 150, 256, 257])
def test_labels_with_more_first_tokens_than_an_engine_reports_are_scored_in_parts(
    monkeypatch: pytest.MonkeyPatch, num_labels: int
) -> None:
    labels = [chr(1000 + i) + "x" for i in range(num_labels)]
    asked = grid(monkeypatch, labels)
    object.__setattr__(
        asked, "examples", (replace(EXAMPLES[0], answer=labels[0]), replace(EXAMPLES[1], answer=labels[-1]))
    )
    asked.check()
    requests = asked.requests(range(asked.num_cells))
    sizes = [len(json.loads(request["sampling"])["logprob_token_ids"]) for request in requests]
    assert max(sizes) <= 128
    assert len(sizes) == asked.num_cells * requests_per_cell(asked.encoder) == asked.num_cells * -(-num_labels // 128)
    in_parts = asked.judge([[scored(request) for request in reversed(requests)]]).outcomes
    with monkeypatch.context() as patch:
        patch.setattr("paft_ray.inference.trie.MOST_LABEL_TOKENS", 1000)
        whole = replace(asked)
        at_once = whole.judge([[scored(request) for request in whole.requests(range(whole.num_cells))]]).outcomes
    assert requests_per_cell(asked.encoder) == len(requests) / 4
    assert in_parts.equals(at_once)
    assert set(in_parts["predicted"].to_pylist()) == {max(labels, key=lambda label: logprob(ord(label[0])))}
    assert asked.judge([[scored(request) for request in requests[1:]]]).outcomes.num_rows == asked.num_cells - 1


def logprob(token: int) -> float:
    return -float(token * 7919 % 1013) / 100 - 1


def scored(request: dict[str, Any]) -> dict[str, Any]:
    """An engine that reports the token it sampled besides those that were asked for."""
    ids = [*json.loads(request["sampling"])["logprob_token_ids"], 1050]
    return {
        "key": request["key"],
        "token_ids": [1050],
        "top_ids": ids,
        "top_logprobs": [logprob(i % SPACED) for i in ids],
        "latency_s": 0.1,
    }


def test_a_cell_needs_a_request_for_each_place_where_labels_part(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {("yes", "no"): 1, ("no", "not", "yes"): 2, tuple(f"{a}{b}" for a in "abc" for b in "xyz"): 4}
    assert {given: requests_per_cell(grid(monkeypatch, list(given)).encoder) for given in labels} == labels
    assert requests_per_cell(grid(monkeypatch, None).encoder) == 1


def test_two_labels_of_the_same_tokens_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Letters, "__call__", lambda self, text, **_: {"input_ids": [min(ord(c), 200) for c in text.strip()]}
    )
    with pytest.raises(UserError, match="labels 'ж' and 'ы' have the same tokens"):
        grid(monkeypatch, ["ж", "ы"]).check()


def test_only_the_cells_of_a_budget_are_asked_and_free_answers_are_spread_over_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = replace(grid(monkeypatch, ["yes", "no"], Free(num_rows=5, max_tokens=4)), cells=(1, 3, 5))
    assert (asked.num_rows, asked.num_free) == (6, 3)
    indices = [asked.index(row) for row in range(asked.num_rows)]
    assert indices == [1, 3, 5, 6, 7, 8]
    requests = asked.requests(indices)
    assert [json.loads(request["key"])[0] for request in requests] == indices
    assert [asked.cell(i) for i in indices[3:]] == [asked.cell(i) for i in indices[:3]]
    outcomes = asked.judge([[answer(r, "yes") for r in requests[:3]]]).outcomes.to_pylist()
    assert [(o["template_id"], o["example_id"]) for o in outcomes] == [
        (t.id, e.id) for t, e in map(asked.cell, (1, 3, 5))
    ]
    failed = asked.judge([[answer(r, "yes") for r in requests[1:3]]]).outcomes
    assert (asked.num_failed(failed), failed["example_id"].to_pylist()) == (1, ["e0", "e2"]), (
        "cells that were not asked did not fail"
    )


def test_a_node_that_encodes_finds_the_model_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.loads(pickle.dumps(grid(monkeypatch, ["yes", "no"])))  # noqa: S301 (our own)
    read: list[str] = []
    monkeypatch.setattr("paft_ray.inference.grid.find_on_this_node", lambda model: replace(model, path="/here"))

    def load(path: str) -> Letters:
        read.append(path)
        return Letters()

    monkeypatch.setattr("paft_ray.models.encoder.load_tokenizer", load)
    assert sent.requests([0])
    assert read == ["/here"]
