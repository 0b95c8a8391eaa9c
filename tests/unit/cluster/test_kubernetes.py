"""Kubernetes files: KubeRay's own schemas where they are at hand, and always what keeps a cluster closed, whole and
able to start twice."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray._private import ray_constants as constants

from paft_ray.config import load_config

FOLDER = Path("cluster/kubernetes")
SCHEMAS = Path(__file__).parents[4] / "shared" / "data" / "kuberay"
JOBS = ("pipeline", "sweep")
FILES = ("raycluster", *JOBS)
POD_KEYS = {
    "automountServiceAccountToken",
    "imagePullSecrets",
    "terminationGracePeriodSeconds",
    "securityContext",
    "volumes",
    "containers",
}
GPU_POD_KEYS = {"nodeSelector", "tolerations"}
CONTAINER_KEYS = {"name", "image", "securityContext", "env", "volumeMounts", "resources"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()))


def resource(name: str) -> dict[str, Any]:
    (only,) = documents(name)
    return only


def cluster(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = resource(name)["spec"]
    return spec["rayClusterSpec"] if name in JOBS else spec


def pods(name: str) -> list[dict[str, Any]]:
    spec = cluster(name)
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def strict(schema: Any) -> Any:
    """The schema with unknown keys refused, as the API server does with `--validate=strict`."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.mark.skipif(not SCHEMAS.exists(), reason="../shared is absent")
@pytest.mark.parametrize("name", FILES)
def test_a_file_keeps_to_the_schema_of_kuberay(name: str) -> None:
    found = resource(name)
    schema = strict(json.loads((SCHEMAS / f"{found['kind'].lower()}.v1.schema.json").read_text()))
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(found)] == []
    found["spec"]["misspelt"] = 1
    assert len(list(validator.iter_errors(found))) == 1, "an unknown key is an error"


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_structure_that_kuberay_asks_for(name: str) -> None:
    found, spec = resource(name), cluster(name)
    assert set(found) == {"apiVersion", "kind", "metadata", "spec"}
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob" if name in JOBS else "RayCluster")
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", found["metadata"]["name"]), (
        "KubeRay: a DNS label of 47 characters at most"
    )
    assert set(spec) == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert set(spec["headGroupSpec"]) == {"serviceType", "rayStartParams", "template"}
    for group in spec["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in pods(name):
        gpus = "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]
        assert set(pod) == POD_KEYS | (GPU_POD_KEYS if gpus else set())
        assert [set(container) for container in pod["containers"]] == [CONTAINER_KEYS]
        assert all(isinstance(value, str) for value in pod["containers"][0]["resources"]["limits"].values())
        assert all(isinstance(variable.get("value", ""), str) for variable in pod["containers"][0]["env"])


@pytest.mark.parametrize("name", FILES)
def test_a_cluster_asks_for_the_token_and_stays_inside(name: str) -> None:
    spec = cluster(name)
    assert spec["authOptions"] == {"mode": "token"}, "the operator makes the secret"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert not {"enableIngress", "ingressOptions", "headService"} & set(spec["headGroupSpec"])


@pytest.mark.parametrize("name", FILES)
def test_no_pod_runs_as_root_or_talks_to_the_api_server(name: str) -> None:
    for pod in pods(name):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000, "the user of cluster/Dockerfile"
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("name", FILES)
def test_secrets_come_by_reference(name: str) -> None:
    for pod in pods(name):
        variables = {variable["name"]: variable for variable in pod["containers"][0]["env"]}
        assert set(variables["HF_TOKEN"]["valueFrom"]) == {"secretKeyRef"}
        assert [
            each for each in variables if re.search("TOKEN|KEY|SECRET|PASSWORD", each) and "value" in variables[each]
        ] == []


@pytest.mark.parametrize("name", FILES)
def test_versions_are_those_of_the_project(name: str) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    (ray,) = [requirement for requirement in project["dependencies"] if requirement.startswith("ray[")]
    assert cluster(name)["rayVersion"] == ray.partition("==")[2]


@pytest.mark.parametrize("name", FILES)
def test_every_pod_has_one_image_by_digest(name: str) -> None:
    (image,) = {pod["containers"][0]["image"] for pod in pods(name)}
    assert re.fullmatch(r"[\w./-]+@sha256:[0-9a-f]{64}", image)


@pytest.mark.parametrize("name", FILES)
def test_volumes_are_claimed_mounted_and_hold_runs_and_models(name: str) -> None:
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in documents("storage")}
    assert all(claim["accessModes"] == ["ReadWriteMany"] for claim in claims.values()), "pods on several nodes write"
    for pod in pods(name):
        (container,) = pod["containers"]
        volumes = {
            volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]
        }
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(volumes) == set(mounts)
        assert {claim for claim in volumes.values() if claim} == set(claims)
        (cache,) = [variable["value"] for variable in container["env"] if variable["name"] == "HF_HOME"]
        assert cache.startswith(mounts["models"] + "/")
        assert mounts["runs"] == "/mnt/shared/runs"


@pytest.mark.parametrize("name", FILES)
def test_a_pod_gets_what_it_asks_for(name: str) -> None:
    """Requests equal limits: Ray counts the limits, and pods of the guaranteed class are evicted last."""
    for pod in pods(name):
        assert pod["containers"][0]["resources"]["requests"] == pod["containers"][0]["resources"]["limits"]


def mebibytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


@pytest.mark.parametrize("name", FILES)
def test_the_object_store_fits_into_shared_memory(name: str) -> None:
    """Ray puts a store that does not fit on the container's disk, and NCCL needs some of /dev/shm too."""
    spec = cluster(name)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        store = int(group["rayStartParams"]["object-store-memory"]) / 2**20
        (shm,) = [volume["emptyDir"] for volume in group["template"]["spec"]["volumes"] if "emptyDir" in volume]
        memory = group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        assert shm["medium"] == "Memory"
        assert store < 0.8 * mebibytes(shm["sizeLimit"]) < 0.5 * mebibytes(memory)


@pytest.mark.parametrize("name", FILES)
def test_a_pod_that_is_taken_away_drains_before_it_is_killed(name: str) -> None:
    for pod in pods(name):
        variables = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
        drain = float(variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert 0 < drain < pod["terminationGracePeriodSeconds"]
    assert constants.RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, "Ray still reads the variable"


def test_the_network_policy_closes_the_pods_of_the_clusters() -> None:
    (policy,) = documents("network")
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    nodes = {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    assert spec["podSelector"] == nodes, "the label that KubeRay gives to heads and workers"
    inside, dashboard = spec["ingress"]
    assert inside == {"from": [{"podSelector": nodes}]}, "all ports, to each other alone"
    assert dashboard["ports"] == [{"protocol": "TCP", "port": 8265}]
    assert not any("ipBlock" in peer for peer in dashboard["from"])


@pytest.mark.parametrize("name", JOBS)
def test_a_job_can_be_started_twice(name: str) -> None:
    spec = resource(name)["spec"]
    program, command, path, *options = spec["entrypoint"].split()
    assert (program, command) == ("paft", "run" if name == "pipeline" else "sweep")
    config = load_config(path.removeprefix("/home/ray/paft_ray/"))
    assert config.storage == "/mnt/shared/runs", "the run outlives the pods, and its folder is its identity"
    assert resource(name)["metadata"]["name"].startswith(f"paft-{config.name}"), (
        "the API server refuses a second job of the run at the same time"
    )
    assert "jobId" not in spec, "each try has its own: one that failed would be followed for ever"
    assert options == ["--wait-resources", "30m"], "the job may start before the pods that it needs"
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["activeDeadlineSeconds"] > 0


def test_jobs_and_cluster_have_the_same_pods() -> None:
    assert cluster("pipeline") == cluster("sweep") == cluster("raycluster")
