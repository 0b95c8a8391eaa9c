"""Synthesis and scoring as stages on the real engine: one start in all, nothing held out is seen."""

import pytest

from paft_ray.config import Config, load_config
from paft_ray.inference.engine_pool import shared_engines
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages import prepare, score, synthesize
from paft_ray.storage.store import Store
from tests.support.resolved import resolved

pytestmark = pytest.mark.slow  # one more engine start than `make test` has room for; `make demo` runs both stages too

SMALL = (
    "name=stages",
    "data.num_train=40",
    "data.num_validation=10",
    "data.num_test=6",
    "prompts.num_candidates=2",
    "prompts.max_rounds=1",
    "score.num_examples=5",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Config, Store]:
    config = load_config("jobs/configs/demo.yaml", [*SMALL, f"storage={tmp_path_factory.mktemp('runs')}"])
    run = Store.open(config.storage, config.name)
    given = resolved(config, run)
    with shared_engines(given.model, 256):
        for stage in (prepare, synthesize, score):
            stage.run(given)
    return config, run


def test_synthesis_says_what_it_asked_and_got(finished: tuple[Config, Store]) -> None:
    _, run = finished
    manifest = run.read_json("synthesize/manifest.json")
    assert manifest["asked"] == 2
    assert manifest["engine_starts"] == 1
    answers = run.read_bytes("synthesize/raw.jsonl").decode().splitlines()
    assert len(answers) == 4
    assert manifest["kept"] + sum(manifest["rejected"].values()) == len(answers)
    assert manifest["kept"] == 0 or 0 < manifest["grammar_share"] < 0.6


def test_every_training_template_and_no_held_out_one_is_scored(finished: tuple[Config, Store]) -> None:
    config, run = finished
    prompts = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))
    scores = run.read_table("score/scores.parquet").to_pylist()
    assert {row["template_id"] for row in scores} == {t.id for t in prompts.split("train").templates}
    assert all(row["num_examples"] == config.score.num_examples for row in scores)
    assert all(row["mean_logprob"] < 0 and row["parse_failure_rate"] is None for row in scores)
    manifest = run.read_json("score/manifest.json")
    assert manifest["engine_starts"] == 0, "that of the synthesis is used"
    assert len(manifest["nodes"]) == 1
    assert max(row["accuracy"] for row in scores) == next(
        row["accuracy"] for row in scores if row["template_id"] == manifest["best"]
    )
