"""Differences of keys: named, and accepted where they may be."""

from pathlib import Path
from typing import Any

import pytest

from paft_ray.errors import UserError
from paft_ray.storage.stage_cache import cached
from paft_ray.storage.stage_keys import check_accepted, compare_keys, differences
from paft_ray.storage.store import Store

KEY: dict[str, Any] = {
    "results_version": 1,
    "versions": {"torch": "2.13", "vllm": "0.31"},
    "train": {"learning_rate": 1e-4},
    "score": {"num_examples": 50},
    "evaluate": {"budget": 0.5, "latency_sample_rows": 8},
    "cells": 0,
    "task": {"name": "demo"},
    "data": "0123",
    "prompts": "4567",
    "model": {"id": "m", "max_prompt_tokens": 512, "identity": {"files": {"model.safetensors": "a" * 64}}},
}


def silent(_: str) -> None:
    return None


def changed(entry: str, value: Any) -> dict[str, Any]:
    """`KEY` with another value at a dotted path."""
    *path, last = entry.split(".")
    key = {name: dict(part) if isinstance(part, dict) else part for name, part in KEY.items()}
    place = key
    for name in path:
        place = place[name]
    place[last] = value
    return key


def finished(tmp_path: Path) -> Store:
    run = Store.open(str(tmp_path), "r")
    cached(run, "train", KEY, dict, announce=silent)
    return run


ACCEPTABLE = [
    ("versions.torch", "2.14"),
    ("results_version", 2),
    ("train.learning_rate", 2e-4),
    ("model.max_prompt_tokens", 256),
    ("evaluate.latency_sample_rows", 0),
]
NEVER = [
    ("task", {"name": "other"}),
    ("task.name", "other"),
    ("data", "89ab"),
    ("prompts", "89ab"),
    ("score.num_examples", 10),
    ("evaluate.budget", 1.0),
    ("cells", 1),
    ("model.id", "n"),
    ("model.identity", {"files": {}}),
]


@pytest.mark.parametrize(("entry", "value"), ACCEPTABLE)
def test_a_refused_difference_names_its_remedies(tmp_path: Path, entry: str, value: Any) -> None:
    with pytest.raises(UserError) as error:
        cached(finished(tmp_path), "train", changed(entry, value), dict, announce=silent)
    assert str(error.value).endswith(f"; use another name or --force to replace it, or keep it with --accept {entry}")


@pytest.mark.parametrize(("entry", "value"), ACCEPTABLE)
def test_an_accepted_difference_keeps_the_stage_and_is_recorded_once(tmp_path: Path, entry: str, value: Any) -> None:
    run, key = finished(tmp_path), changed(entry, value)
    (difference,) = compare_keys(KEY, key)
    for accept in ([entry], [], [entry]):
        kept = cached(run, "train", key, lambda: {"again": True}, accept=accept, announce=silent)
        assert "again" not in kept
        assert kept["key"] == KEY, "the key stays what the stage was made with"
        (record,) = run.read_json("train/manifest.json")["accepted"]
        assert {name: record[name] for name in ("key", "old", "new")} == {
            "key": entry,
            "old": difference.old,
            "new": value,
        }
        assert record["date"].startswith("20")


@pytest.mark.parametrize(("entry", "value"), NEVER)
def test_task_rows_templates_and_weights_are_never_accepted(tmp_path: Path, entry: str, value: Any) -> None:
    run, key = finished(tmp_path), changed(entry, value)
    with pytest.raises(UserError, match="never kept for them") as error:
        check_accepted([entry])
    assert "\n" not in str(error.value)
    for accept in ([entry], ["model"], [entry.split(".")[0]]):
        with pytest.raises(UserError, match="made with other settings") as refused:
            cached(run, "train", key, dict, accept=accept, announce=silent)
        assert "--accept" not in str(refused.value)
    manifest = run.read_json("train/manifest.json")
    run.write_json("train/manifest.json", {**manifest, "accepted": [{"key": entry, "old": None, "new": value}]})
    with pytest.raises(UserError, match="made with other settings"):
        cached(run, "train", key, dict, announce=silent)


def test_all_of_several_differences_must_be_accepted(tmp_path: Path) -> None:
    run = finished(tmp_path)
    key = {**changed("versions.torch", "2.14"), "results_version": 2}
    with pytest.raises(UserError, match=r"results_version: 1 -> 2\); .* --accept results_version$"):
        cached(run, "train", key, dict, accept=["versions.torch"], announce=silent)
    assert "accepted" not in run.read_json("train/manifest.json"), "what is refused records nothing"
    kept = cached(run, "train", key, dict, accept=["versions", "results_version"], announce=silent)
    assert [record["key"] for record in kept["accepted"]] == ["results_version", "versions.torch"]
    with pytest.raises(UserError, match=r'versions\.torch: "2\.13" -> "2\.15"'):
        cached(run, "train", {**key, "versions": {"torch": "2.15", "vllm": "0.31"}}, dict, announce=silent)


@pytest.mark.parametrize("damaged", [None, 3, "text", [3], [{}], [{"key": "versions.torch"}]])
def test_a_damaged_record_accepts_nothing(tmp_path: Path, damaged: Any) -> None:
    run = finished(tmp_path)
    manifest = run.read_json("train/manifest.json")
    run.write_json("train/manifest.json", {**manifest, "accepted": damaged})
    with pytest.raises(UserError, match=r"versions\.torch"):
        cached(run, "train", changed("versions.torch", "2.14"), dict, announce=silent)


@pytest.mark.parametrize("entry", ["", "a b", "versions.", ".", "--force", "a\nb", "é"])
def test_what_is_no_entry_is_refused(entry: str) -> None:
    with pytest.raises(UserError, match="no entry of a stage's key"):
        check_accepted([entry])


def test_hashes_are_shown_short() -> None:
    (line,) = differences({"a": "b" * 64}, {"a": "c" * 64})
    assert line == f'a: "{"b" * 12}..." -> "{"c" * 12}..."'
