"""Served parity: a server started by the line that `paft export` prints gives the answers that were evaluated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paft_ray.config import Config
from paft_ray.models.resolve import load_tokenizer
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.stages.prepare import examples_of
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from tests.support.vllm_server import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a merge and a server besides the small run

NUM_CELLS = 24
NEAR_TIE = 0.05  # nats between the two labels: rounding may turn such an answer


@pytest.fixture(scope="module")
def exported(finished: tuple[Config, Store], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The exported folder of arm paft, and the line that `paft export` printed last."""
    target = tmp_path_factory.mktemp("export") / "paft"
    code = "from paft_ray.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "export", finished[1].root, "--out", str(target)],
        capture_output=True,
        text=True,
        check=True,
    )
    return target, done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def server(exported: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The line as printed, on a free port; ended by its process id."""
    with serving(exported[1], tmp_path_factory.mktemp("serve") / "log") as url:
        yield Server(exported[1], url)


def test_the_exported_folder_holds_what_its_user_needs(
    finished: tuple[Config, Store], exported: tuple[Path, str]
) -> None:
    from huggingface_hub import ModelCard

    folder, line = exported
    templates = PromptSet.of(Entry(template=template) for template in read_templates(folder / "templates.jsonl"))
    assert templates.content_hash == finished[1].read_json("train/manifest.json")["key"]["prompts"]["paft"]
    accuracy = next(
        result for result in ModelCard.load(folder / "README.md").data.eval_results if result.metric_type == "accuracy"
    )
    assert accuracy.metric_value == pytest.approx(
        finished[1].read_json("report/results.json")["arms"]["paft"]["mean"], abs=1e-4
    )
    assert "--dtype float32" in line
    assert finished[1].read_bytes("train/paft-s0/adapter/README.md") == finished[1].read_bytes("report/model_card.md")


def test_served_answers_are_the_evaluated_ones(
    finished: tuple[Config, Store], exported: tuple[Path, str], server: Server
) -> None:
    """Labels agree, save where the two labels are within 0.05 nats; log-probabilities too, so an answer is not right by
    chance."""
    config, run = finished
    encoder = Encoder(
        load_task(config.task), load_tokenizer(str(exported[0])), max_prompt_tokens=config.model.max_prompt_tokens
    )
    templates = {t.id: t for t in PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet")).templates}
    examples = {e.id: e for e in examples_of(run, "test")}
    rows = [row for row in run.read_table("evaluate/outcomes.parquet").to_pylist() if row["arm"] == "paft"]
    near_ties = 0
    for row in (rows[25 * i % len(rows)] for i in range(NUM_CELLS)):  # every template and every example
        encoded = encoder.encode(templates[row["template_id"]], examples[row["example_id"]])
        labels = encoder.label_ids(encoded.after_newline)
        served, scores = server.choice(encoded.prompt_ids, labels)
        assert scores[row["answer"]] == pytest.approx(row["logprob"], abs=0.01)
        if abs(scores["positive"] - scores["negative"]) < NEAR_TIE:
            near_ties += 1
        else:
            assert served == row["predicted"]
    assert near_ties <= NUM_CELLS // 4, "so few are left that they say nothing"
