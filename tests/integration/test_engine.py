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
from paft_ray.inference.grid import Grid
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
TOO_LONG = {"key": "poison", "prompt_ids": [5] * 5000, "sampling": json.dumps({"max_tokens": 1})}
SEEDED = 40
"""Rows whose prompts, together, are longer than a step of the engine."""
FP32 = EngineConfig(precision="fp32", kv_cache_gib=0.5, max_failed_fraction=0.2)


@pytest.fixture(scope="module")
def grids(demo_model: str) -> dict[str, Grid]:
    place = {"model": ModelConfig(max_prompt_tokens=64), "model_files": find_model(demo_model, None)}
    hint, sum_ = PromptTemplate(text="{text} The city is"), PromptTemplate(text="Q: {text}\nA:")
    return {
        "choice": Grid(task=load_task("demo"), templates=TEMPLATES, examples=EXAMPLES, **place),
        "cities": Grid(
            task=CITIES,
            templates=(hint,),
            examples=(Example(id="a", fields={"text": "It never sleeps."}, answer="New York"),),
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
    ray_session: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[dict[str, Any]]]:
    """Kind -> engine rows, all from one start in fp32; `failed` holds the number of failed rows. Kind `changed` has the
    changed model's answers to the requests of `choice`, asked between rows of the base model, and `again` the base
    model's after them."""
    import ray.data

    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.inference.generate import generate
    from paft_ray.inference.model_weights import ModelWeights

    base, changed = (
        ModelWeights(key={}),
        ModelWeights(key={"changed": True}, materialize=partial(nullcontext, changed_model)),
    )
    rows = [
        {**row, "key": f"{kind}|{row['key']}"}
        for kind, grid in grids.items()
        for row in grid.requests(range(grid.num_cells))
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
            models=[base, changed],
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
    first, changed, again = (grid.judge([answers[kind]]).to_pylist() for kind in ("choice", "changed", "again"))
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
        outcomes = grid.judge([answers[kind]]).to_pylist()
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
                (new, york), (_, delhi), (rome, _) = (scores[label][:2] for label in ("New York", "New Delhi", "Rome"))
                assert outcome["logprob"] == pytest.approx(_normalised(new, rome) + _normalised(york, delhi), abs=4e-3)


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
    outcome = grid.judge([answers["free"]]).to_pylist()[0]
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
