"""Which number format a run gets that names none: a decision over what the nodes that will compute answer."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from paft_ray.config import fast_precision, load_config
from paft_ray.errors import UserError
from paft_ray.stages import precision
from paft_ray.stages.precision import agreed, gpu_capability, kinds, node_precision, with_known_precision
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store

DEMO = "jobs/configs/demo.yaml"


def test_nodes_that_agree_decide_and_without_any_this_machine_does() -> None:
    assert agreed({"a": "bf16", "b": "bf16"}, "engine.precision", "fp32") == "bf16"
    assert agreed({}, "engine.precision", "fp32") == "fp32"


def test_nodes_that_differ_are_named_with_the_setting_to_write() -> None:
    answers: Any = {"10.0.0.3": "fp32", "10.0.0.1": "bf16", "10.0.0.2": "bf16"}
    with pytest.raises(UserError) as caught:
        agreed(answers, "train.precision", "bf16")
    assert str(caught.value) == (
        "train.precision: the nodes differ in what they multiply fast (bf16 on 10.0.0.1, 10.0.0.2; fp32 on 10.0.0.3); "
        "set train.precision=fp32, which all can"
    )


@pytest.mark.parametrize(
    ("part", "capability", "expected"),
    [("engine", 7.5, "fp16"), ("train", 7.5, "fp32"), ("engine", 8.0, "bf16"), ("train", 9.0, "bf16")],
)
def test_a_gpu_answers_by_its_capability(part: Any, capability: float, expected: str) -> None:
    assert node_precision(part, 1, capability) == expected
    assert node_precision(part, 1, None) == "bf16", "as before where the driver cannot be asked"
    assert node_precision(part, 0, capability) == fast_precision(0), "a process without a GPU computes on the CPU"


def node(name: str, cpus: float, gpus: float = 0, kind: str = "", alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": cpus, "GPU": gpus, **({f"accelerator_type:{kind}": 1} if kind else {})}
    return {"NodeID": f"id-{name}", "NodeManagerAddress": name, "Alive": alive, "Resources": resources}


def test_every_cpu_node_is_asked_that_can_hold_a_process_and_one_gpu_node_of_a_kind() -> None:
    nodes = [node("head", 0), node("a", 4), node("b", 4), node("c", 4, alive=False)]
    assert kinds(nodes, 2, 0) == {"a": "id-a", "b": "id-b"}
    gpus = [node("head", 8), node("x", 8, 4, "A100"), node("y", 8, 4, "A100"), node("z", 8, 4, "T4")]
    assert kinds(gpus, 1, 1) == {"x": "id-x", "z": "id-z"}


def test_the_least_of_a_nodes_gpus_counts_and_a_broken_driver_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_capability() is None
    for script, expected in (("printf '9.0\\n7.5\\n'", 7.5), ("exit 9", None), ("echo '[N/A]'", None)):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert gpu_capability() == expected
    monkeypatch.setattr(subprocess, "run", timed_out)
    assert gpu_capability() is None


def timed_out(*_: object, **__: object) -> None:
    raise subprocess.TimeoutExpired("nvidia-smi", 20)


def test_what_a_command_does_not_start_keeps_the_answer_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = Store(str(tmp_path)), "fp32" if fast_precision(0) == "bf16" else "bf16"
    ResolvedRun.of(load_config(DEMO, [f"train.precision={other}", f"engine.precision={other}"]), store).write()
    monkeypatch.setattr(precision, "_ask", lambda part, cpus, gpus: {"n": "fp32"})
    found = with_known_precision(ResolvedRun.of(load_config(DEMO), store), ["engine"]).config
    assert (found.engine.precision, found.train.precision) == ("fp32", other)
    assert with_known_precision(ResolvedRun.of(load_config(DEMO), store), []).config.engine.precision == other


def test_what_the_configuration_names_is_asked_of_no_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_ask", None)
    config = load_config(DEMO, ["engine.precision=bf16", "train.precision=fp32"])
    found = with_known_precision(ResolvedRun.of(config, Store(str(tmp_path))), ["engine", "train"])
    assert found.config == config
