"""One engine start: label scores against a plain forward pass (invariant 12), free answers, grammar, a row that fails
(invariant 9)."""

import copy
import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from paft_ray.compat.vllm import PRELOAD
from paft_ray.config import EngineConfig, ModelConfig
from paft_ray.errors import StageError
from paft_ray.generators.requests import request
from paft_ray.inference.grid import Free, Grid
from paft_ray.models.local import find_model
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example, Task, load_task

TEMPLATES = (
    PromptTemplate(text="Review: {text}\nPositive or negative? Answer:"),
    PromptTemplate(text="Is this review positive or negative?\n{text}\n"),
)
EXAMPLES = tuple(
    Example(id=str(i), fields={"text": text}, answer=answer)
    for i, (text, answer) in enumerate(
        [
            ("a warm, funny film", "positive"),
            ("the room smelled of smoke", "negative"),
            ("bad <|im_end|> tea", "negative"),
        ]
    )
)
CITIES = Task(
    name="cities",
    kind="choice",
    description="Where?",
    fields={"text": "a hint"},
    labels={c: c for c in ("New York", "New Delhi", "Rome")},
)
NUMBERS = Task(
    name="numbers",
    kind="free",
    description="Count.",
    fields={"text": "a question"},
    pattern=r"(\d+)",
    max_answer_tokens=8,
)
SHOWN_LABELS = PromptTemplate(
    text="Review: a great film\nVerdict: positive\nReview: an awful film\nVerdict: negative\nReview: {text}\nVerdict:"
)
SHOWN_ANSWERS = PromptTemplate(
    text="Review: a great film\nVerdict: Answer: positive\nReview: an awful film\nVerdict: Answer: negative\n"
    "Review: what a great film\nVerdict: Answer: positive\nReview: {text}\nVerdict:"
)
SHOWN_CITIES = PromptTemplate(
    text="the Eiffel Tower: Paris\nthe Statue of Liberty: New York\nBroadway: New York\nTimes Square: New York\n{text}:"
)
TOO_LONG = {"key": "poison", "prompt_ids": [5] * 5000, "sampling": json.dumps({"max_tokens": 1})}
SEEDED = 40
"""Rows whose prompts, together, are longer than a step of the engine."""
FP32 = EngineConfig(precision="fp32", kv_cache_gib=0.5, max_failed_fraction=0.2)


@pytest.fixture(scope="module")
def grids(demo_model: str) -> dict[str, Grid]:
    place = {"model": ModelConfig(max_prompt_tokens=64), "model_files": find_model(demo_model, None)}
    free = Free(max_tokens=6, num_rows=2)
    hint, sum_ = PromptTemplate(text="{text} The city is"), PromptTemplate(text="Q: {text}\nA:")
    return {
        "choice": Grid(
            task=load_task("demo"),
            templates=(*TEMPLATES, SHOWN_LABELS, SHOWN_ANSWERS),
            examples=EXAMPLES,
            free=free,
            **place,
        ),
        "cities": Grid(
            task=CITIES,
            templates=(hint, SHOWN_CITIES),
            examples=(Example(id="a", fields={"text": "the Brooklyn Bridge"}, answer="New York"),),
            free=free,
            **place,
        ),
        "free": Grid(
            task=NUMBERS,
            templates=(sum_,),
            examples=(Example(id="b", fields={"text": "What is 1 + 1?"}, answer="2"),),
            **place,
        ),
    }


@pytest.fixture(scope="module")
def grammar_request():
    return request(load_task("demo"), TEMPLATES, 1, seed=0, number=0)


@pytest.fixture(scope="module")
def changed_model(hugging_face, demo_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with other weights of the same architecture."""
    folder = str(tmp_path_factory.mktemp("changed"))
    other = copy.deepcopy(hugging_face)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if "_proj" in name:
                weight += 0.01 * torch.randn(weight.shape, generator=noise)
    other.save_pretrained(folder)
    AutoTokenizer.from_pretrained(demo_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def silent_model(
    hugging_face, grids: dict[str, Grid], tmp_path_factory: pytest.TempPathFactory, demo_model: str
) -> str:
    """A folder with weights that end every answer at once, and score labels as the demo model does."""
    folder, grid = str(tmp_path_factory.mktemp("silent")), grids["choice"]
    prompts = [grid.encoder.encode(*grid.cell(cell)).prompt_ids for cell in range(grid.num_cells)]
    with torch.no_grad():
        last = torch.stack([hugging_face.model(torch.tensor([ids])).last_hidden_state[0, -1] for ids in prompts])
        direction = torch.linalg.lstsq(last, torch.full((len(prompts), 1), 100.0)).solution[:, 0]
    silent = copy.deepcopy(hugging_face)
    with torch.no_grad():
        silent.get_input_embeddings().weight[grid.encoder.tokenizer.eos_token_id] = direction
    silent.save_pretrained(folder)
    AutoTokenizer.from_pretrained(demo_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def with_a_copy(demo_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo model with weights that transformers does not load beside its own; vLLM alone would take them."""
    folder = tmp_path_factory.mktemp("copy")
    for file in Path(demo_model).iterdir():
        (folder / file.name).symlink_to(file)
    save_file({"tok_embeddings.weight": torch.zeros(8, 8)}, folder / "consolidated.safetensors")
    return str(folder)


@contextmanager
def engines_seen() -> Iterator[dict[int, str]]:
    """Engine processes below this one while the block runs: id -> command line of its parent."""
    found, end = {}, threading.Event()

    def look() -> None:
        while not end.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if process.pid not in found and "EngineCore" in " ".join(process.cmdline()):
                        found[process.pid] = " ".join(psutil.Process(process.ppid()).cmdline())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


@pytest.fixture(scope="module")
def answers(
    grids: dict[str, Grid],
    grammar_request,
    with_a_copy: str,
    changed_model: str,
    silent_model: str,
    ray_session: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[dict[str, Any]]]:
    """Kind -> engine rows, all from one start in fp32; `failed` holds the number of failed rows. Kinds `changed` and
    `silent` have these models' answers to the requests of `choice`, asked between rows of the base model, and `again`
    the base model's after them."""
    import ray.data

    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.inference.generate import generate
    from paft_ray.inference.model_weights import ModelWeights

    base, changed, silent = (
        ModelWeights(key={}),
        ModelWeights(key={"changed": True}, materialize=partial(nullcontext, changed_model)),
        ModelWeights(key={"silent": True}, materialize=partial(nullcontext, silent_model)),
    )
    rows = [
        {**row, "key": f"{kind}|{row['key']}"}
        for kind, grid in grids.items()
        for row in grid.requests(range(grid.num_cells + grid.num_free))
    ]
    sampling = {
        "max_tokens": 80,
        "temperature": 0.9,
        "seed": 1,
        "detokenize": False,
        "structured_outputs": {"regex": grammar_request.regex},
    }
    ids = list(grids["free"].encoder.tokenizer(grammar_request.message)["input_ids"])
    rows += [{"key": "grammar|[]", "prompt_ids": ids, "sampling": json.dumps(sampling)}, TOO_LONG]
    parts = AnswerCache.of(Store.open(str(tmp_path_factory.mktemp("runs")), "engine"), "score")
    choice = grids["choice"].requests(range(grids["choice"].num_cells))
    asked = [{**row, "weights": base.id} for row in rows]
    asked[3:3] = [{**row, "key": f"changed|{row['key']}", "weights": changed.id} for row in choice]
    asked += [{**row, "key": f"silent|{row['key']}", "weights": silent.id} for row in choice]
    asked += [{**row, "key": f"again|{row['key']}", "weights": base.id} for row in choice]
    asked += [
        {
            "weights": base.id,
            "key": f"seeded|[{i}]",
            "prompt_ids": [100 + i] * 150,
            "sampling": json.dumps({"max_tokens": 2, "temperature": 0.9, "seed": i}),
        }
        for i in range(SEEDED)
    ]
    with engines_seen() as engines:
        done = generate(
            ray.data.from_items(asked),
            name="test",
            base=find_model(with_a_copy, None),
            models=[base, changed, silent],
            cache=parts,
            engine=FP32,
            max_model_len=400,
        )
    assert done.engine_starts == 1
    assert done.nodes == (ray.util.get_node_ip_address(),), "of the one replica"
    found: dict[str, list[dict[str, Any]]] = {
        "failed": [{"num": done.num_failed, "time_s": done.time_s}],
        "engines": [{"parents": list(engines.values())}],
    }
    for row in done.answers.to_pylist():
        kind, key = row["key"].split("|")
        found.setdefault(kind, []).append({**row, "key": key})
    return found


@pytest.fixture(scope="module")
def hugging_face(demo_model: str):
    return AutoModelForCausalLM.from_pretrained(demo_model, dtype=torch.float32)


def test_the_engine_comes_from_a_process_that_has_imported_vllm_beside_the_actor(answers) -> None:
    (parent,) = answers["engines"][0]["parents"]
    assert PRELOAD in parent


def test_seeded_prompts_that_fill_more_than_one_step_are_answered(answers) -> None:
    """A part of such a prompt ended vLLM's engine on a CPU."""
    assert [len(row["token_ids"]) for row in answers["seeded"]] == [2] * SEEDED


def test_one_engine_answers_for_several_models_in_turns(grids, answers, changed_model: str) -> None:
    grid = grids["choice"]
    first, changed, again = (
        grid.judge([answers[kind]]).outcomes.to_pylist() for kind in ("choice", "changed", "again")
    )
    assert [row["logprob"] for row in again] == pytest.approx([row["logprob"] for row in first], abs=1e-4)
    other = AutoModelForCausalLM.from_pretrained(changed_model, dtype=torch.float32)
    for index, outcome in enumerate(changed):
        encoded = grid.encoder.encode(*grid.cell(index))
        scores = {
            label: _score(other, encoded.prompt_ids, ids)[0]
            for label, ids in grid.encoder.label_ids(encoded.after_newline).items()
        }
        norm = math.log(sum(math.exp(score) for score in scores.values()))
        assert outcome["logprob"] == pytest.approx(scores[outcome["answer"]] - norm, abs=2e-3)
    assert max(abs(one["logprob"] - two["logprob"]) for one, two in zip(first, changed, strict=True)) > 0.01


def test_label_log_probabilities_are_those_of_a_plain_forward_pass_over_whole_labels(
    grids, answers, hugging_face
) -> None:
    for kind in ("choice", "cities"):
        grid = grids[kind]
        outcomes = grid.judge([answers[kind]]).outcomes.to_pylist()
        assert len(outcomes) == grid.num_cells
        for index, outcome in enumerate(outcomes):
            encoded = grid.encoder.encode(*grid.cell(index))
            scores = {
                label: _score(hugging_face, encoded.prompt_ids, ids)
                for label, ids in grid.encoder.label_ids(encoded.after_newline).items()
            }
            if kind == "choice":
                norm = math.log(sum(math.exp(s[0]) for s in scores.values()))
                assert outcome["logprob"] == pytest.approx(scores[outcome["answer"]][0] - norm, abs=2e-3)
                assert outcome["predicted"] == max(scores, key=lambda label: scores[label][0])
            else:
                assert sum(map(math.exp, outcome["label_logprobs"])) == pytest.approx(1, abs=1e-5)
                (new, york), (_, delhi), (rome, _) = (scores[label][:2] for label in ("New York", "New Delhi", "Rome"))
                assert outcome["logprob"] == pytest.approx(_normalised(new, rome) + _normalised(york, delhi), abs=4e-3)


def test_a_model_that_ends_at_once_knows_and_does_not_answer(grids, answers) -> None:
    first, silent = (grids["choice"].judge([answers[kind]]).outcomes for kind in ("choice", "silent"))
    assert silent["said"].to_pylist() == [""] * grids["choice"].num_cells
    assert set(silent["behavior"].to_pylist()) == set(silent["strict"].to_pylist()) == {0.0}
    assert (set(silent["named"].to_pylist()), set(silent["num_tokens"].to_pylist())) == ({None}, {1})
    assert silent["predicted"].to_pylist() == first["predicted"].to_pylist()
    assert sum(silent["correct"].to_pylist()) > 0
    assert max(silent["label_mass"].to_pylist()) < 1e-6 < max(first["label_mass"].to_pylist())


def test_a_first_token_that_is_a_label_is_the_choice_among_labels_and_ends_the_answer(grids, answers) -> None:
    grid = grids["choice"]
    outcomes = grid.judge([answers["choice"]]).outcomes.to_pylist()
    rows = {json.loads(row["key"])[0]: row["token_ids"] for row in answers["choice"]}
    decided = 0
    for index, outcome in enumerate(outcomes):
        encoded = grid.encoder.encode(*grid.cell(index))
        labels = {ids[0]: label for label, ids in grid.encoder.label_ids(encoded.after_newline).items()}
        if rows[index][0] in labels:
            assert outcome["named"] == outcome["predicted"] == labels[rows[index][0]]
            assert (outcome["strict"], outcome["num_tokens"]) == (outcome["behavior"], 1)
            decided += 1
    assert decided >= len(EXAMPLES), [outcome["said"] for outcome in outcomes]


def test_an_answer_with_a_lead_counts_leniently_and_not_strictly(grids, answers) -> None:
    outcomes = grids["choice"].judge([answers["choice"]]).outcomes.to_pylist()[-len(EXAMPLES) :]
    assert {outcome["said"].split(":")[0] for outcome in outcomes} == {" Answer"}
    assert all(outcome["named"] and outcome["strict"] == 0 for outcome in outcomes)
    assert [outcome["behavior"] for outcome in outcomes] == [
        float(outcome["named"] == outcome["answer"]) for outcome in outcomes
    ]


def test_a_label_of_two_tokens_is_generated_and_not_guessed_from_its_first(grids, answers) -> None:
    shown = grids["cities"].judge([answers["cities"]]).outcomes.to_pylist()[-1]
    assert (shown["named"], shown["behavior"], shown["predicted"]) == ("New York", 1.0, "New York")
    assert shown["num_tokens"] > 2


def test_unconstrained_answers_are_those_of_greedy_decoding(grids, answers, hugging_face) -> None:
    """Those to the end, and those that a label ends, as far as they go."""
    for kind in ("choice", "cities"):
        grid = grids[kind]
        for row in answers[kind]:
            index, _, _, *query = json.loads(row["key"])
            if query and query != [[], 0]:
                continue
            ids, said = list(grid.encoder.encode(*grid.cell(index)).prompt_ids), row["token_ids"]
            with torch.no_grad():
                logits = hugging_face(torch.tensor([ids + said])).logits[0, len(ids) - 1 : -1]
            assert logits.argmax(-1).tolist() == said
            if index >= grid.num_cells:
                assert len(said) == 6 or said[-1] == grid.encoder.tokenizer.eos_token_id


def test_an_answer_that_can_name_no_label_is_generated_no_further_and_judged_alike(
    grids, answers, hugging_face
) -> None:
    grid = grids["choice"]
    (end,) = {grid.encoder.tokenizer.eos_token_id}
    rows, num_ended = [], 0
    for row in answers["choice"]:
        index, *_ = json.loads(row["key"])
        if index >= grid.num_cells:
            continue
        said, prompt_ids = list(row["token_ids"]), list(grid.encoder.encode(*grid.cell(index)).prompt_ids)
        if 4 <= len(said) < grid.max_answer_tokens and said[-1] != end and row["token_ids"][-1] not in grid._stops:
            num_ended += 1
            while len(said) < 16 and said[-1] != end:
                with torch.no_grad():
                    said.append(int(hugging_face(torch.tensor([prompt_ids + said])).logits[0, -1].argmax()))
        rows.append({**row, "token_ids": said})
    assert num_ended >= 2
    ended, whole = (grid.judge([found]).outcomes.to_pylist() for found in (answers["choice"], rows))
    for one, other in zip(ended, whole, strict=True):
        assert {**one, "said": "", "num_tokens": 0} == {**other, "said": "", "num_tokens": 0}
        assert other["said"].startswith(one["said"])


def _normalised(chosen: float, other: float) -> float:
    """Log-probability of the first of two."""
    return -math.log1p(math.exp(other - chosen))


def _score(model, prompt_ids: list[int], answer_ids: list[int]) -> list[float]:
    """Log-probability of each answer token. Shape [answer length]."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt_ids + answer_ids])).logits[0, len(prompt_ids) - 1 : -1]
    return torch.log_softmax(logits.double(), -1)[range(len(answer_ids)), answer_ids].tolist()


def test_free_answers_are_those_of_greedy_decoding(grids, answers, hugging_face) -> None:
    grid = grids["free"]
    ids = list(grid.encoder.encode(*grid.cell(0)).prompt_ids)
    expected: list[int] = []
    while len(expected) < 8 and (not expected or expected[-1] != grid.encoder.tokenizer.eos_token_id):
        with torch.no_grad():
            expected.append(int(hugging_face(torch.tensor([ids + expected])).logits[0, -1].argmax()))
    assert answers["free"][0]["token_ids"] == expected
    outcome = grid.judge([answers["free"]]).outcomes.to_pylist()[0]
    assert outcome["parsed"] == (re.search(r"\d", grid.encoder.tokenizer.decode(expected)) is not None)
    assert answers["free"][0]["latency_s"] > 0


def test_a_grammar_keeps_the_placeholder_and_leaves_the_wording(grids, answers, grammar_request) -> None:
    text = grids["free"].encoder.tokenizer.decode(answers["grammar"][0]["token_ids"], skip_special_tokens=True)
    assert text.count("{text}") == 1
    assert re.fullmatch(grammar_request.regex, text)


def test_a_row_that_fails_is_counted_and_the_others_are_answered(answers) -> None:
    assert answers["failed"][0]["num"] == 1
    assert "poison" not in answers


def test_a_share_of_failed_rows_above_the_limit_is_an_error_that_quotes_the_first() -> None:
    from paft_ray.inference.engine import ANSWERS
    from paft_ray.inference.generate import accept

    row = {"key": "[7]", "request": "0", "token_ids": [], "top_ids": [], "top_logprobs": [], "latency_s": None}
    table = pa.Table.from_pylist([{**row, "error": "ValueError: too long"}, {**row, "error": ""}], schema=ANSWERS)
    with pytest.raises(StageError, match=r"1 of 2 rows failed .*=0\.2\).*\[7\]: ValueError: too long"):
        accept(table, 0.2)
    assert accept(table, 0.5).num_rows == 1
