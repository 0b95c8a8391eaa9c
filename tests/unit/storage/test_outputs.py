"""Outputs of stages: what is missing or not what was written is named and made again, and no reader takes it."""

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from paft_ray.errors import UserError
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.train import clear_damaged
from paft_ray.storage.artifacts import (
    OUTCOMES,
    PROMPT_SET,
    ROWS,
    SCORE_TABLE,
    Artifact,
    stage_manifest,
    training_metrics,
)
from paft_ray.storage.manifests import ModelKey, trained_models
from paft_ray.storage.outputs import StageManifest, check_files, digest, fetch_verified, read_manifest
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from tests.support import made_stage as stages
from tests.support.made_outcomes import outcome_row
from tests.support.made_stage import files_below, finish_stage

MOST_BITS = 1000  # of one file, drawn; to a hash any bit is as good as another
PROMPTS = PromptSet.of(Entry(template=PromptTemplate(text=f"{n}: {{text}}"), cluster=n) for n in range(3))
ROW = {
    **outcome_row("paft", "t", "e", "a", "a"),
    "behavior": 0.5,
    "strict": 0.0,
    "named": "a",
    "said": "a b",
    "num_tokens": 2,
    "label_logprobs": [-0.5, -0.93],
    "label_mass": 0.9,
}


class Body:
    """A stage of one output that counts how often it is made."""

    def __init__(self, run: Store) -> None:
        self.run, self.calls = run, 0

    def __call__(self) -> Manifest:
        self.calls += 1
        self.run.write_bytes("s/out.bin", b"content")
        return {"outputs": {"s/out.bin": digest(b"content")}}


def replace(run: Store) -> None:
    run.write_bytes("s/out.bin", b"contenu")


def remove(run: Store) -> None:
    run.delete("s/out.bin")


def truncate(run: Store) -> None:
    run.write_bytes("s/out.bin", b"cont")


@pytest.mark.parametrize(
    ("change", "what"), [(replace, "is damaged"), (remove, "is missing"), (truncate, "is damaged")]
)
def test_a_stage_without_its_intact_outputs_is_named_and_made_again(
    change: Callable[[Store], None], what: str, tmp_path: Path
) -> None:
    run, said = Store.open(str(tmp_path), "a"), list[str]()
    body, damaged = Body(run), list[str]()
    cached(run, "s", {"seed": 1}, body, announce=said.append)
    change(run)
    with pytest.raises(UserError, match="was made with other settings"):
        cached(run, "s", {"seed": 2}, body, announce=said.append)
    cached(run, "s", {"seed": 1}, body, announce=said.append, on_damage=damaged.append)
    assert body.calls == 2
    assert [line for line in said if f"s/out.bin {what}" in line]
    assert damaged == ["s/out.bin"]
    assert run.read_bytes("s/out.bin") == b"content"
    cached(run, "s", {"seed": 1}, body, announce=said.append)
    assert body.calls == 2


@pytest.mark.parametrize("found", [None, [], 3, {}, {"key": {}, "time_s": 1.0}, {"key": {}, "outputs": {"a": "b"}}])
def test_a_manifest_that_is_none_is_refused_by_its_path(found: object, tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "a")
    run.write_json("s/manifest.json", found)
    with pytest.raises(UserError, match=r"s/manifest\.json is no manifest of stage s .*; delete it and run stage s"):
        cached(run, "s", {}, Body(run))


def _outcomes(run: Store) -> None:
    stages.evaluated(run, pa.Table.from_pylist([ROW, {**ROW, "example_id": "f", "correct": False}]))


def _prompts(run: Store) -> None:
    stages.synthesized(run, PROMPTS)


def _scores(run: Store) -> None:
    table = pa.Table.from_pylist([{"template_id": "t", "accuracy": 0.5}])
    finish_stage(run, "score", SCORE_TABLE.write(run, table), best="t")


def _rows(run: Store) -> None:
    stages.prepared(run, {"train": [Example(id="e", fields={"text": "x"}, answer="a")]})


@pytest.mark.parametrize(
    ("artifact", "made", "stage"),
    [
        (OUTCOMES, _outcomes, "evaluate"),
        (PROMPT_SET, _prompts, "synthesize"),
        (SCORE_TABLE, _scores, "score"),
        (ROWS["train"], _rows, "prepare"),
    ],
    ids=["outcomes", "prompt set", "scores", "rows"],
)
def test_every_flipped_bit_is_refused_by_name(
    artifact: Artifact, made: Callable[[Store], None], stage: str, tmp_path: Path
) -> None:
    run = Store(str(tmp_path))
    made(run)
    artifact.read(run)
    file = tmp_path / artifact.path
    data = file.read_bytes()
    every = range(8 * len(data))
    for bit in random.Random(0).sample(every, min(len(every), MOST_BITS)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        with pytest.raises(UserError, match=rf"{artifact.path} is damaged.*; run stage {stage} again"):
            artifact.read(run)


def test_a_flipped_bit_of_a_trained_model_is_refused_by_name(tmp_path: Path) -> None:
    run, key = Store(str(tmp_path / "r")), ModelKey("paft", 0)
    weights = random.Random(0).randbytes(4096)
    files = {"adapter_model.safetensors": weights, "adapter_config.json": b'{"lora_alpha": 16}'}
    entry = stages.trained_arm(run, key, files=files)
    train_key = {
        "train": {},
        "model": {"id": "demo", "max_prompt_tokens": 9, "identity": {}},
        "task": {"name": "t", "description": "d", "kind": "choice", "labels": {}, "max_answer_tokens": 9},
        "prompts": {},
        "versions": {},
    }
    stages.trained(run, [entry], key=train_key)
    (model,) = trained_models(run)
    outputs = {f"{model.path}/{name}": wanted for name, wanted in model.files.items()}
    check_files(run, model.path, outputs)
    fetch_verified(run, model.path, model.files, tmp_path / "good")
    assert {path.name for path in (tmp_path / "good").iterdir()} == set(files)
    for name, content in files.items():
        bits = range(8 * len(content)) if len(content) < 100 else random.Random(1).sample(range(8 * len(content)), 200)
        for bit in bits:
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            run.write_bytes(f"{model.path}/{name}", bytes(flipped))
            with pytest.raises(UserError, match=rf"{model.path}/{name} is damaged.*run stage train again"):
                check_files(run, model.path, outputs)
        with pytest.raises(UserError, match=rf"{model.path}/{name} is damaged"):
            fetch_verified(run, model.path, model.files, tmp_path / "bad")
        run.write_bytes(f"{model.path}/{name}", content)


def test_damaged_weights_are_exported_again_and_other_damage_trains_again(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    run.write_bytes("train/paft-s0/checkpoints/f/state", b"")
    clear_damaged(run, "train/paft-s0", "train/paft-s0/adapter/adapter_model.safetensors")
    assert files_below(run, "train/paft-s0") == ["train/paft-s0/checkpoints/f/state"]
    clear_damaged(run, "train/paft-s0", "train/paft-s0/metrics.jsonl")
    assert not run.exists("train/paft-s0")


def _without(row: dict, column: str) -> dict:
    return {name: value for name, value in row.items() if name != column}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{**ROW, "correct": 7}], "its columns are"),
        ([_without(ROW, "correct")], "its columns are"),
        ([{**ROW, "correct": None}], "correct: 1 rows have no value"),
        ([{**ROW, "logprob": float("inf")}], "logprob: finite numbers are needed"),
        ([{**ROW, "behavior": 1.01}], "behavior: values from 0 to 1 are needed"),
        ([{**ROW, "strict": float("nan")}], "strict: values from 0 to 1 are needed"),
        ([{**ROW, "label_mass": -0.1}], "label_mass: values from 0 to 1 are needed"),
        ([{**ROW, "num_tokens": -1}], "num_tokens: values from 0 to 32767 are needed"),
        ([{**ROW, "said": "a" * 49}], "said: 49 characters, at most 48 are kept"),
        ([{**ROW, "label_logprobs": [-0.5, float("nan")]}], "label_logprobs: values from"),
        ([{**ROW, "label_logprobs": [-0.5, float("-inf")]}], "label_logprobs: values from"),
        ([{**ROW, "label_logprobs": [-0.5, None]}], "label_logprobs: finite numbers are needed"),
        ([{**ROW, "label_logprobs": [0.0]}], "label_logprobs: lists of 1 numbers"),
        ([{**ROW, "label_logprobs": [-9.0] * 4097}], "label_logprobs: lists of 4097 numbers"),
        ([ROW, {**ROW, "label_logprobs": [-1.0] * 3}], "label_logprobs: lists of 2, 3 numbers"),
        ([{**ROW, "label_logprobs": ["a", "b"]}], "its columns are"),
        ([_without(ROW, "behavior")], "its columns are"),
        ([], ""),
    ],
)
def test_outcomes_of_other_types_or_ranges_are_refused(rows: list[dict], says: str, tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    stages.evaluated(run, pa.Table.from_pylist(rows))
    with pytest.raises(UserError, match=rf"evaluate/outcomes\.parquet is not what stage evaluate writes \(.*{says}"):
        OUTCOMES.read(run)


def test_outcomes_of_a_task_without_labels_have_no_column_of_labels(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    nothing = dict.fromkeys(("logprob", "said", "label_logprobs", "label_mass"))
    stages.evaluated(run, pa.Table.from_pylist([{**ROW, **nothing}]))
    assert OUTCOMES.read(run)["behavior"].to_pylist() == [0.5]


@pytest.mark.parametrize(
    "lines",
    [
        *(b'{"step": 1, "los', b'{"step": 1, "loss": NaN}\n', b'{"step": -1}\n', b"[]\n", b"\xff\n"),
        *(b'{"step": "1"}\n', b'{"step": 1, "tokens": 1e308}\n'),
    ],
)
def test_metrics_that_are_none_are_refused(lines: bytes, tmp_path: Path) -> None:
    run, key = Store(str(tmp_path)), ModelKey("paft", 0)
    run.write_bytes("train/paft-s0/metrics.jsonl", lines)
    finish_stage(run, "train", {"train/paft-s0/metrics.jsonl": digest(lines)})
    with pytest.raises(UserError, match=r"train/paft-s0/metrics\.jsonl is not what stage train writes"):
        training_metrics(key).read(run)


def test_entries_of_a_later_version_are_ignored_and_known_ones_have_their_types(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    finish_stage(run, "score", {}, best="t", best_accuracy=0.5, added={"later": 1})
    assert stage_manifest(run, "score")["added"] == {"later": 1}
    for name, value in (("best", 3), ("best_accuracy", 1.5), ("engine_starts", -1), ("time_s", float("nan"))):
        run.write_json("score/manifest.json", {**stage_manifest_raw(run), name: value})
        with pytest.raises(UserError, match=rf"score/manifest\.json is no manifest of stage score \({name}"):
            stage_manifest(run, "score")
        finish_stage(run, "score", {}, best="t", best_accuracy=0.5)


def stage_manifest_raw(run: Store) -> dict:
    return dict(run.read_json("score/manifest.json"))


def test_keys_of_models_are_read_as_they_are_written() -> None:
    for key in (ModelKey.BASE, ModelKey("paft", 0), ModelKey("size3-subset1-k2", 7), ModelKey("a-s1", 2)):
        assert ModelKey.parse(str(key)) == key
    assert ModelKey.BASE.label == "base"
    for text in ("paft", "-s0", "paft-s", "paft-sx", ""):
        with pytest.raises(ValueError, match="names no model"):
            ModelKey.parse(text)


def test_a_manifest_that_is_missing_says_which_stage_to_run(tmp_path: Path) -> None:
    for folder, stage in (("prepare", "prepare"), ("synthesize", "synthesize"), ("train/paft-s0", "train")):
        with pytest.raises(UserError, match=rf"so stage {stage} is not finished; run stage {stage} first"):
            read_manifest(Store(str(tmp_path)), folder, StageManifest)
