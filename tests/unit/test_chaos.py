"""The harness of tests/chaos counts: a row that is lost, comes twice or differs is found, and the plan follows from its
seed."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.attempt import Blow, Span, attempt
from tests.chaos.compare import Difference, compare
from tests.chaos.lab import Point
from tests.chaos.memory import flat
from tests.chaos.plan import KINDS, Fault, fault_plan
from tests.chaos.processes import of_sessions
from tests.chaos.table import good, markdown, summary, write

ROWS = [
    {"arm": "paft", "seed": 0, "template_id": t, "example_id": e, "predicted": "x", "logprob": -0.5}
    for t in "ab"
    for e in "12"
]


@given(seed=st.integers(0, 2**31), count=st.integers(1, 40))
def test_the_plan_follows_from_its_seed_and_uses_every_kind_over_the_whole_span(seed: int, count: int) -> None:
    plan = fault_plan(seed, {"train": count, "score": 3})
    assert plan == fault_plan(seed, {"train": count, "score": 3})
    assert [fault.number for fault in plan] == list(range(1, count + 4))
    train = [fault for fault in plan if fault.stage == "train"]
    assert {fault.kind for fault in train} == set(KINDS["train"][:count])
    for kind in {fault.kind for fault in train}:
        moments = sorted(fault.moment for fault in train if fault.kind == kind)
        assert all(place / len(moments) <= moment < (place + 1) / len(moments) for place, moment in enumerate(moments))


def evaluated(folder: Path, rows: list[dict[str, object]]) -> Path:
    (folder / "evaluate").mkdir(parents=True)
    (folder / "evaluate/manifest.json").write_text("{}")
    pq.write_table(pa.Table.from_pylist(rows), folder / "evaluate/outcomes.parquet")
    return folder


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ROWS[::-1], Difference()),
        (ROWS[1:], Difference(lost=1)),
        ([*ROWS, ROWS[0]], Difference(repeated=1)),
        ([{**ROWS[0], "logprob": -0.50001}, *ROWS[1:]], Difference()),
        (
            [{**ROWS[0], "logprob": -0.6}, *ROWS[1:]],
            Difference(changed=("evaluate/outcomes.parquet: 1 rows, such as ('paft', '0', 'a', '1')",)),
        ),
        (
            [{**ROWS[0], "predicted": "y"}, *ROWS[1:]],
            Difference(changed=("evaluate/outcomes.parquet: 1 rows, such as ('paft', '0', 'a', '1')",)),
        ),
    ],
)
def test_outcomes_that_are_lost_repeated_or_changed_are_counted(
    rows: list[dict[str, object]], expected: Difference, tmp_path: Path
) -> None:
    assert compare("evaluate", evaluated(tmp_path / "whole", ROWS), evaluated(tmp_path / "found", rows)) == expected


def trained(folder: Path, steps: list[int], adapter: bytes = b"weights", loss: float = 1.0) -> Path:
    (folder / "train/paft-s0/adapter").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"train": {"global_batch": 8}}))
    (folder / "train/manifest.json").write_text(json.dumps({"models": [{"arm": "paft", "seed": 0}]}))
    (folder / "train/paft-s0/metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step in steps)
    )
    (folder / "train/paft-s0/adapter/adapter_model.safetensors").write_bytes(adapter)
    return folder


def test_steps_of_a_training_stand_for_their_batches_and_the_adapter_is_compared_to_the_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", [1, 2, 3])
    assert compare("train", whole, trained(tmp_path / "same", [1, 2, 3])) == Difference()
    assert compare("train", whole, trained(tmp_path / "lost", [1, 3])) == Difference(lost=8)
    assert compare("train", whole, trained(tmp_path / "twice", [1, 2, 2, 3])) == Difference(repeated=8)
    assert compare("train", whole, trained(tmp_path / "other", [1, 2, 3], b"wejghts")).changed == (
        "train/paft-s0/adapter",
    )
    assert (
        "loss of step 1"
        in compare("train", whole, trained(tmp_path / "drift", [1, 2, 3], loss=1.0 + 2**-52)).changed[0]
    )


def with_log(folder: Path, uses: list[tuple[int, str, str]]) -> Path:
    log = trained(folder, [1]) / "train/paft-s0/audit/f"
    log.mkdir(parents=True)
    columns = zip(*uses, strict=True)
    pq.write_table(
        pa.table(dict(zip(("position", "example_id", "template"), map(list, columns), strict=True))),
        log / "steps-00000000-00000001.parquet",
    )
    return folder


def test_uses_of_examples_are_counted_by_the_audit_log_where_there_is_one(tmp_path: Path) -> None:
    whole = with_log(tmp_path / "whole", [(0, "a", "t"), (1, "b", "u")])
    assert compare("train", whole, with_log(tmp_path / "same", [(1, "b", "u"), (0, "a", "t")])) == Difference()
    assert compare(
        "train", whole, with_log(tmp_path / "twice", [(0, "a", "t"), (1, "b", "u"), (1, "b", "u")])
    ) == Difference(repeated=1)
    assert compare("train", whole, with_log(tmp_path / "other", [(0, "a", "t"), (1, "b", "t")])) == Difference(
        lost=1, repeated=1
    )


def test_an_unfinished_stage_is_no_success(tmp_path: Path) -> None:
    assert compare("report", tmp_path, tmp_path).changed == ("report/manifest.json is missing",)


def point(**values: object) -> Point:
    fault = Fault(number=1, stage="train", kind="sigkill_driver", moment=0.5)
    known = {
        "fault": fault,
        "injected": True,
        "survived": True,
        "difference": Difference(),
        "seconds_lost": 2.0,
        "codes": (-9, 0),
        "leaks": (),
    }
    return Point(**{**known, **values})  # type: ignore[arg-type]


def test_the_stable_output_has_one_entry_per_kind_and_stage(tmp_path: Path) -> None:
    bad = point(survived=False, difference=Difference(lost=8, repeated=16), seconds_lost=4.0)
    write([point(), bad], tmp_path)
    entry = {
        "stage": "train",
        "kind": "sigkill_driver",
        "injected": 2,
        "survived": 1,
        "rows_lost": 8,
        "rows_repeated": 16,
        "seconds_lost": 3.0,
    }
    assert json.loads((tmp_path / "chaos.json").read_text()) == {"faults": [entry]}
    assert "| train | sigkill_driver | 2 | 1 | 8 | 16 | 3.0 |" in markdown(summary([point(), bad]))


def test_only_faults_that_fell_and_left_nothing_are_good() -> None:
    assert good([point()])
    assert not any(
        good(points) for points in ([], [point(injected=False)], [point(survived=False)], [point(leaks=("worker x",))])
    )


def test_a_fault_falls_at_its_moment_and_on_its_process_alone(tmp_path: Path) -> None:
    fault = Fault(number=1, stage="prepare", kind="sigkill_driver", moment=0.5)
    blow = Blow(fault=fault, reference=Span(seconds=1, worker_s=None), steps_done=lambda: 0.0)
    command = ["sh", "-c", "sleep 30 & sleep 30"]
    ended = attempt(
        command, {"PATH": "/bin:/usr/bin"}, tmp_path / "log", stage="prepare", cluster=(), limit_s=20, blow=blow
    )
    assert ended.code == -9
    assert ended.struck_s is not None
    assert 0.5 <= ended.struck_s < 5
    left = of_sessions(ended.session)
    assert left, "only the driver is struck: what it leaves behind is for the leak check to find"
    for process in left:
        process.kill()


def test_an_attempt_without_an_end_is_ended_at_the_limit(tmp_path: Path) -> None:
    ended = attempt(
        ["sleep", "30"], {"PATH": "/bin:/usr/bin"}, tmp_path / "log", stage="prepare", cluster=(), limit_s=0.5
    )
    assert ended.code is None
    assert ended.struck_s is None


def test_memory_that_grows_is_not_flat() -> None:
    assert flat([10, 300, 310, 300, 305, 310, 300, 302])
    assert not flat([10, 300, 350, 400, 450, 500, 550, 600])
