"""The plan counts what an evaluation really asks: more than one request a cell where labels share their first tokens or
are very many."""

import json
from pathlib import Path

import pytest
import yaml

from paft_ray.cli.dry_run import plan
from paft_ray.cli.preflight import check
from paft_ray.config import Config, parse_config
from paft_ray.inference.grid import requests_per_cell
from paft_ray.models.resolve import load_tokenizer, resolve_model
from paft_ray.prompts.encode import Encoder
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.tasks.task import load_task

INTENTS = [
    f"{verb} {noun}"
    for verb in ("open", "close", "pay", "move", "lose", "find")
    for noun in ["card", "account", "loan", "transfer"]
]


def own(folder: Path, labels: list[str]) -> Config:
    """A run of a task with these labels: 12 held-out templates, 40 rows for testing, 3 models."""
    task = {"name": "t", "kind": "choice", "description": "d", "fields": {"text": "the text"}, "labels": labels}
    (folder / "t.yaml").write_text(yaml.safe_dump(task))
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"text": f"text {n}", "label": labels[n % len(labels)]}) + "\n" for n in range(200))
    )
    (folder / "w.jsonl").write_text(
        "".join(json.dumps({"text": f"Which one, in wording {n}? {{text}}"}) + "\n" for n in range(24))
    )
    settings = {
        "name": "a",
        "task": str(folder / "t.yaml"),
        "storage": str(folder / "runs"),
        "data": {"train": str(folder / "rows.jsonl"), "num_validation": 10, "num_test": 40},
        "prompts": {"seed_templates": str(folder / "w.jsonl"), "min_held_out": 12},
        "train": {"arms": ["sft", "paft"]},
    }
    return parse_config(settings, "test")


def asked(config: Config) -> str:
    return str(yaml.safe_load(plan(config).partition("\nplan:")[2].partition("\n#")[0])["evaluation_prompts"])


@pytest.mark.parametrize(
    "labels",
    [
        ["negative", "positive"],
        INTENTS,
        [f"intent {n}" for n in range(150)],
        [f"{word}{n}" for n in range(10) for word in "abcdefghijklmno"],
    ],
)
def test_the_plan_counts_the_requests_of_a_cell(tmp_path: Path, labels: list[str]) -> None:
    config = own(tmp_path, labels)
    requests = requests_per_cell(Encoder(load_task(config.task), load_tokenizer(resolve_model("demo", None))))
    held_out = 12
    cells = 3 * held_out * 40
    shown = asked(config)
    assert shown.endswith(f"= {cells * requests}")
    assert (f"x {requests} requests of a cell" in shown) == (requests > 1)


def test_a_task_of_more_than_128_first_tokens_is_planned_and_checked(tmp_path: Path) -> None:
    encoder_of = load_tokenizer(resolve_model("demo", None))
    names = [encoder_of.decode([token]).strip() for token in range(300, 4000)]
    labels = [name for name in dict.fromkeys(names) if name.isascii() and name.isalpha() and len(name) > 3][:200]
    config = own(tmp_path, labels)
    requests = requests_per_cell(Encoder(load_task(config.task), encoder_of))
    assert requests >= 2
    assert asked(config).endswith(f"= {3 * 12 * 40 * requests}")
    check(ResolvedRun.of(config), "run", local=True)
