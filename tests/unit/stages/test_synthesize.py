"""What stage synthesize says of how different its training templates are."""

from dataclasses import asdict
from pathlib import Path

import pytest

from paft_ray.config import parse_config
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.selection import coverage
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages import synthesize
from paft_ray.storage.artifacts import PROMPT_SET
from paft_ray.storage.store import Store
from tests.support.resolved import resolved


def test_the_manifest_and_the_console_state_the_coverage_of_the_training_templates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = {"seed_templates": "builtin", "held_out_templates": "builtin", "generators": []}
    config = parse_config({"name": "t", "task": "demo", "prompts": prompts}, source="test")
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(resolved(config, run))
    train = PROMPT_SET.read(run).split("train").templates
    assert manifest["coverage"] == asdict(coverage(train, threshold=config.prompts.similarity))
    assert manifest["coverage"]["num_templates"] == manifest["num_train"]
    assert manifest["coverage"]["radius"] is None, "nothing was left over"
    assert f"{len(train)} training templates in" in " ".join(capsys.readouterr().out.split())


def test_the_radius_is_over_candidates_that_were_fit_and_not_chosen() -> None:
    prompts = PromptSet.of(
        [
            Entry(template=PromptTemplate(text="a b c d {text}")),
            Entry(template=PromptTemplate(text="{text} p q r"), split="held_out"),
        ]
    )
    raw = [
        {"text": "a b c e {text}", "rejected": "surplus"},
        {"text": "{text} x y z", "rejected": "near_duplicate"},
        {"text": "a b c d {text}", "rejected": None},
    ]
    assert synthesize._coverage(prompts, raw, 0.7).radius == pytest.approx(1 - 4 / 6)
