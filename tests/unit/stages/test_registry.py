"""One declaration per stage: commands, order and what is refused follow from it."""

from pathlib import Path

import pytest
from typer.main import get_command

from paft_ray.cli import submit
from paft_ray.cli.main import app
from paft_ray.config import load_config
from paft_ray.report.render import write_report
from paft_ray.stages.registry import COMMANDS, REPORTED, STAGES, missing_inputs, stages_of, started_by
from tests.support.finished_run import finished_run, run_config
from tests.support.made_stage import finish_stage

DEMO = "jobs/configs/demo.yaml"


def test_every_stage_is_a_command_and_can_be_submitted() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert {name: commands[name].help for name in COMMANDS} == COMMANDS
    assert set(submit.STAGES) == {*COMMANDS, "doctor"}


def test_what_a_stage_needs_is_made_before_it() -> None:
    order = list(STAGES)
    for stage in STAGES.values():
        assert all(order.index(name) < order.index(stage.name) for name in stage.needs)


def test_a_run_is_all_stages_in_order_without_the_sweep() -> None:
    names = [stage.name for stage in stages_of("run", load_config(DEMO))]
    assert names == ["prepare", "synthesize", "score", "train", "evaluate", "report"]
    without = load_config(DEMO, ["score.enabled=false", "train.arms=[sft,paft]"])
    assert [stage.name for stage in stages_of("run", without)] == [name for name in names if name != "score"]


@pytest.mark.parametrize(
    ("command", "starts"),
    [("prepare", ()), ("train", ("train",)), ("score", ("engine",)), ("run", ("engine", "train")), ("report", ())],
)
def test_what_a_command_starts(command: str, starts: tuple[str, ...]) -> None:
    assert started_by(command, load_config(DEMO)) == starts


def test_scores_are_needed_where_training_reads_them() -> None:
    train, nothing = STAGES["train"], lambda path: False
    assert "score" in missing_inputs(train, load_config(DEMO), nothing).values()
    plain = load_config(DEMO, ["train.arms=[sft,paft]"])
    assert "score" not in missing_inputs(train, plain, nothing).values()
    assert missing_inputs(train, plain, lambda path: True) == {}


def test_a_new_stage_is_in_the_report_by_its_entry_in_the_registry(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    finish_stage(run, "judge", {}, time_s=7.0, engine_starts=1)
    found = write_report(run, config=run_config(tmp_path, "run"), stages=("prepare", "judge", "evaluate")).values
    assert list(found["timings_s"]) == ["prepare", "judge", "evaluate"]
    assert (found["timings_s"]["judge"], found["engine_starts"]) == (7.0, 1)


def test_the_report_shows_the_stages_before_it() -> None:
    assert REPORTED == ("prepare", "synthesize", "score", "train", "evaluate")
