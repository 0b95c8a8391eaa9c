"""What the check on a GPU states: nothing passes that did not run, and a fault costs its own rows."""

import math
import subprocess
import sys
from typing import Any

import pytest

from tests.gpu.checks import Check, Outcome, checks, needed, rows
from tests.gpu.plan import cases

CPU, CUDA = cases("cpu"), cases("cuda")
LOSSES = [5.0, 4.9, 4.8]


def done(**found: Any) -> Outcome:
    return Outcome(status="done", found=found)


def outcomes(plan: list[Any], **changed: Outcome) -> dict[str, Outcome]:
    """All cases went well, but for those named."""
    shapes = {
        "model.embed_tokens.weight": [100, 64],
        **{f"model.layers.0.mlp.{n}_proj.weight": [64, 64] for n in ("gate", "up", "down")},
    }
    found = {
        "models": done(num_weights=1),
        "reference": done(losses=LOSSES),
        "equality": done(losses=LOSSES, resumed=LOSSES, trained=4.8, exported=4.8),
        "engine": done(rows=200, start=0.001, adapter=0.001, again=0.001, adapter_moves=1.0),
        "adapters": done(rows=200, start=0.001, adapter=0.001, adapter_moves=1.0),
        "pipeline": done(rows=96, audit=0, served=0.001),
        "peak": done(operations_per_s=1e12),
        "speed": done(
            initialization_gib=0.0,
            initialization_host_gib=1.0,
            steps_gib=0.1,
            losses=LOSSES,
            tokens=100,
            times_s=[9.0, 1.0],
            operations=1e11,
            shapes=shapes,
            longest_row=10,
        ),
    }
    good = {case.name: found[case.kind] for case in plan}
    good["speed-lora-checkpointing"] = done(**{**(found["speed"].found or {}), "steps_gib": 0.05})
    return good | {name.replace("_", "-"): outcome for name, outcome in changed.items()}


def by_status(found: list[dict[str, Any]], status: str) -> set[str]:
    return {row["name"] for row in found if row["status"] == status}


@pytest.mark.parametrize("plan", [CPU, CUDA], ids=["cpu", "cuda"])
def test_every_case_that_trains_has_rows_and_each_row_a_name_of_its_own(plan: list[Any]) -> None:
    found = rows(plan, outcomes(plan))
    names = [row["name"] for row in found]
    assert len(set(names)) == len(names)
    told = {case.name for case in plan if case.kind not in ("models", "reference")}
    assert {name.split(":")[0] for name in names} == told


def test_a_case_that_crashes_costs_its_own_rows() -> None:
    crashed = Outcome(status="failed", note="exit code 1: RuntimeError: no")
    found = rows(CPU, outcomes(CPU, lora_zero3=crashed))
    assert by_status(found, "fail") == {row["name"] for row in found if row["name"].startswith("lora-zero3: ")}
    assert {row["note"] for row in found if row["status"] == "fail"} == {crashed.note}
    assert not by_status(found, "not run")


def test_what_a_reference_should_have_told_is_not_run() -> None:
    found = rows(CPU, outcomes(CPU, reference_lora=Outcome(status="failed", note="no")))
    assert not by_status(found, "fail")
    missing = by_status(found, "not run")
    assert "lora-zero2: loss beside plain PyTorch on the CPU" in missing
    assert all(name.startswith("lora") for name in missing)


def test_what_the_time_did_not_suffice_for_is_never_passed() -> None:
    late = Outcome(status="not run", note="the time ended before it")
    found = rows(CUDA, dict.fromkeys((case.name for case in CUDA), late))
    assert {row["status"] for row in found} == {"not run"}
    assert {row["value"] for row in found} == {None}


@pytest.mark.parametrize("losses", [[5.0, 4.9, 4.81], [5.0, math.nan, 4.8], [5.0, math.inf, 4.8], [5.0, 4.9]])
def test_another_a_missing_and_no_number_fail(losses: list[float]) -> None:
    found = rows(CPU, outcomes(CPU, lora=done(losses=losses, resumed=LOSSES, trained=4.8, exported=4.8)))
    assert "lora: loss beside plain PyTorch on the CPU" in by_status(found, "fail")
    assert all(row["value"] is None or math.isfinite(row["value"]) for row in found), "JSON has no other numbers"


@pytest.mark.parametrize(
    ("case", "wrong", "row"),
    [
        ("engine-fp32", {"start": 0.03}, "labels beside transformers, weights of the start"),
        ("engine-fp32", {"adapter": math.inf}, "labels beside transformers, an adapter's merged weights loaded"),
        ("engine-fp32", {"again": math.nan}, "labels beside transformers, the first weights loaded again"),
        ("engine-fp32", {"adapter_moves": 0.0}, "tolerance over what the adapter moves"),
        ("adapters-fp32", {"adapter": 0.03}, "labels beside transformers, an adapter served upon them"),
        ("pipeline", {"audit": 1}, "exit code of paft audit"),
        ("pipeline", {"served": 0.03}, "labels of the served export beside the evaluation"),
    ],
)
def test_an_engine_that_answers_as_another_model_fails(case: str, wrong: dict[str, float], row: str) -> None:
    found = outcomes(CPU)
    assert f"{case}: {row}" in by_status(rows(CPU, found), "pass")
    found[case] = done(**{**(found[case].found or {}), **wrong})
    assert by_status(rows(CPU, found), "fail") == {f"{case}: {row}"}


def test_offloaded_weights_that_lie_on_the_gpu_at_initialization_fail() -> None:
    name = "speed-lora-zero3-offload"
    found = outcomes(CUDA)
    weights_gib = 2 * (100 * 64 + 3 * 64 * 64) / 2**30
    for share, status in ((1.0, "fail"), (0.4, "pass")):
        found[name] = done(**{**(found[name].found or {}), "initialization_gib": share * weights_gib})
        line = f"{name}: peak memory at initialization over the weights', which are offloaded"
        assert line in by_status(rows(CUDA, found), status)


def test_a_figure_without_a_limit_is_measured() -> None:
    row = Check(name="a", unit="GiB", needs=("a",), value=lambda own: own["x"]).row({"a": done(x=3.0)})
    assert (row.status, row.value) == ("measured", 3.0)


def test_cases_asked_for_come_with_those_that_their_rows_need() -> None:
    assert [case.name for case in needed(CPU, ["lora-zero2"])] == ["models", "reference-lora", "lora-zero2"]
    assert [case.name for case in needed(CPU, ["speed-lora-compile"])] == [
        "models",
        "peak",
        "speed-lora-zero2",
        "speed-lora-compile",
    ]


def test_rows_of_all_devices_are_checks_of_their_cases() -> None:
    for plan in (CPU, CUDA):
        names = {case.name for case in plan}
        assert all(set(check.needs) <= names for check in checks(plan))
        assert all(case.config for case in plan if case.train), "every training is a valid configuration"


def test_a_training_logs_on_a_machine_that_lacks_ray() -> None:
    code = (
        "import sys; from paft_ray.log import get_logger; get_logger('paft_ray.x').info('step 1'); "
        "assert 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(" step 1\n")
