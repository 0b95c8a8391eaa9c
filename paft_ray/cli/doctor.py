"""`paft doctor`: would a run start on this cluster? Each finding is one line with its remedy."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from paft_ray.cli.cluster_probe import HERE, ON_HUB, Facts, NodeFacts, gather
from paft_ray.cli.env_defaults import has_token
from paft_ray.cli.preflight import check_inputs
from paft_ray.cli.resources import Nodes, check_resources
from paft_ray.cli.submit import submit
from paft_ray.config import Config, load_config
from paft_ray.echo import echo, echo_json
from paft_ray.errors import UserError, some
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.store import Store

_NEEDED = ("python", "paft_ray", "ray", "torch", "transformers", "peft", "deepspeed", "vllm")
_LEAST_GIB, _COMFORTABLE_GIB = 1, 10
_SIGN_IN = "copy ~/.ray/auth_token from the head (or set RAY_AUTH_TOKEN) and set RAY_AUTH_MODE=token"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the answer."""

    level: Literal["ok", "warn", "FAIL"]
    """`FAIL`: a run would not start, or would fail."""
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:<4} {self.what}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")


def doctor(path: str | None, overrides: Sequence[str], *, address: str | None, as_json: bool) -> int:
    """Prints the findings; 0 where a run would start, 1 where not. Through the job API (`address` http://...) a job
    looks, with what a run would ship.

    Raises `UserError` for a bad configuration, and where the job API does not let this machine in.
    """
    if address is not None and address.startswith(("http://", "https://")):
        if path is None or as_json:
            raise UserError(
                f"--address {address}: a job looks at the cluster and ships the configuration; give CONFIG, and "
                "leave --json out"
            )
        return submit(path, "doctor", overrides, force=False, follow=True, address=address)
    config = None if path is None else load_config(path, overrides)
    if config is not None:
        check_inputs(ResolvedRun.of(config))
    found = examine(config, address)
    if as_json:
        echo_json([asdict(finding) for finding in found])
    else:
        echo("\n".join(map(str, found)))
    return int(any(finding.level == "FAIL" for finding in found))


def examine(config: Config | None, address: str | None) -> list[Finding]:
    """All findings about the cluster at `address`, or about this machine."""
    from paft_ray.cli.session import ray_session
    from paft_ray.cli.signals import interruptible

    root = None if config is None else Store(config.storage).root
    models = () if config is None else config.models
    try:
        with interruptible("start the same command again"), ray_session(address):
            facts = gather(root, models)
    except UserError as error:
        return [joining(str(error), has_token=has_token(), mode=os.environ.get("RAY_AUTH_MODE"))]
    return judge(facts, config, root)


def judge(facts: Facts, config: Config | None, root: str | None) -> list[Finding]:
    """Findings from facts alone."""
    answered = [node for node in facts.nodes if node.error is None]
    found = [
        *nodes(facts.nodes),
        versions_agree(answered),
        authentication(answered),
        *resources(facts, config),
        *disk(answered),
    ]
    if root is not None:
        found += storage(answered, root)
    return [*found, *models_readable(answered)]


def joining(reason: str, *, has_token: bool, mode: str | None) -> Finding:
    """Why the cluster could not be joined."""
    reason = reason.rpartition("; ")[0] or reason  # what stands behind it says what to do, and names the token too
    names_token = any(word in reason.lower() for word in ("token", "unauthenticated", "authentication"))
    if not has_token and (names_token or mode == "token"):
        return Finding(
            level="FAIL",
            what="authentication",
            found=f"this machine has no token, and the cluster was not joined ({reason})",
            remedy=_SIGN_IN,
        )
    if names_token:
        return Finding(
            level="FAIL",
            what="authentication",
            found=f"the token of this machine was not accepted ({reason})",
            remedy=_SIGN_IN,
        )
    hint = "" if mode or not has_token else "; a token is here: if the cluster asks for it, set RAY_AUTH_MODE=token"
    return Finding(
        level="FAIL",
        what="cluster",
        found=reason,
        remedy=f"check that it is up (`ray status` on the head), its address and its Ray version{hint}",
    )


def nodes(found: Sequence[NodeFacts]) -> list[Finding]:
    """Nodes that do not answer."""
    silent = [node for node in found if node.error is not None]
    if not silent:
        return [Finding(level="ok", what="nodes", found=f"all {len(found)} answer")]
    return [
        Finding(
            level="FAIL",
            what="nodes",
            found=f"{node.node}: {node.error}",
            remedy="install this package and its pinned libraries there, or take the node out",
        )
        for node in silent
    ]


def versions_agree(found: Sequence[NodeFacts]) -> Finding:
    """Whether every needed library is there, in one version."""
    differing = []
    for name in _NEEDED:
        places: dict[str, list[str]] = defaultdict(list)
        for node in found:
            places[node.versions.get(name, "missing")].append(node.node)
        if len(places) > 1:
            differing.append(
                f"{name} " + ", ".join(f"{text} on {some(where)}" for text, where in sorted(places.items()))
            )
        elif "missing" in places:
            differing.append(f"{name} missing on all nodes")
    if differing:
        return Finding(
            level="FAIL",
            what="versions",
            found=", ".join(differing),
            remedy="set all nodes up alike (scripts/setup.sh, or one image)",
        )
    shown = ", ".join(
        f"{name} {text}" for name, text in (found[0].versions.items() if found else ()) if name in _NEEDED
    )
    return Finding(level="ok", what="versions", found=f"alike on {len(found)} nodes: {shown}")


def authentication(found: Sequence[NodeFacts]) -> Finding:
    """Whether Ray asks for a token everywhere."""
    if open_ := [node.node for node in found if not node.token]:
        return Finding(
            level="warn",
            what="authentication",
            found=f"off on {some(open_)}: whoever reaches the cluster can run code on it",
            remedy="start Ray with RAY_AUTH_MODE=token on every node (`ray get-auth-token --generate` makes the token)",
        )
    return Finding(level="ok", what="authentication", found="token asked for on every node")


def resources(facts: Facts, config: Config | None) -> list[Finding]:
    """Whether what a complete run asks for is there, and free now."""
    busy = sum(node.busy_gpus for node in facts.nodes)
    total = {kind: sum(node.get(kind, 0) for node in facts.each) for kind in ("CPU", "GPU")}
    free = {"CPU": facts.free.get("CPU", 0), "GPU": max(0, min(facts.free.get("GPU", 0), total["GPU"] - busy))}
    there = ", ".join(f"{free[kind]:g} of {count:g} {kind}s free" for kind, count in total.items())
    if config is None:
        return [
            Finding(
                level="warn" if free["CPU"] < total["CPU"] or free["GPU"] < total["GPU"] else "ok",
                what="resources",
                found=there,
            )
        ]
    if lacking := _lacking(config, facts.each):
        return [
            Finding(
                level="FAIL",
                what="resources",
                found=lacking,
                remedy="lower it in the configuration, or add nodes; a run with --wait-resources 30m waits for those "
                "still to come",
            )
        ]
    if lacking := _lacking(config, [free]):
        outside = f", {busy} GPUs with memory in use" if busy else ""
        return [
            Finding(
                level="FAIL",
                what="resources",
                found=f"{there}{outside}: {lacking}",
                remedy="wait for or stop what holds them (`ray status`, nvidia-smi)",
            )
        ]
    return [Finding(level="ok", what="resources", found=f"{there}, enough for the configuration")]


def disk(found: Sequence[NodeFacts]) -> list[Finding]:
    """Free space of /tmp (Ray's files, merged weights) and of storage."""
    spaces: dict[str, dict[str, float]] = defaultdict(dict)
    for node in found:
        for folder, free in node.free_gib.items():
            spaces[folder][node.node] = free
    lines = []
    for folder, frees in spaces.items():
        least = min(frees.values())
        low = [node for node, free in frees.items() if free < _COMFORTABLE_GIB]
        level: Literal["ok", "warn", "FAIL"] = "FAIL" if least < _LEAST_GIB else "warn" if low else "ok"
        where = f" on {some(low)}" if low else ""
        remedy = (
            f"make room: below {_LEAST_GIB} GiB is refused, {_COMFORTABLE_GIB} and what docs/capacity.md says "
            "for the model are advised"
            if low
            else ""
        )
        lines.append(Finding(level=level, what="disk", found=f"{least:.1f} GiB free in {folder}{where}", remedy=remedy))
    return lines


def storage(found: Sequence[NodeFacts], root: str) -> list[Finding]:
    """Whether every node writes to storage and reads what the others wrote."""
    lines = [
        Finding(
            level="FAIL",
            what="storage",
            found=f"{root} cannot be written on {node.node} ({node.unwritable})",
            remedy="mount it there, and let Ray's user write",
        )
        for node in found
        if node.unwritable is not None
    ]
    lines += [
        Finding(
            level="FAIL",
            what="storage",
            found=f"{root} on {node.node} does not show what {some(node.unread)} wrote",
            remedy="it must be one shared folder, or object storage that every node can read",
        )
        for node in found
        if node.unread
    ]
    return lines or [Finding(level="ok", what="storage", found=f"{root}: written and read by all {len(found)} nodes")]


def models_readable(found: Sequence[NodeFacts]) -> list[Finding]:
    """Whether every node can read each model."""
    states: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for node in found:
        for name, state in node.models.items():
            states[name][state].append(node.node)
    lines = []
    for name, where in states.items():
        bad = {state: places for state, places in where.items() if state not in (HERE, ON_HUB)}
        lines += [
            Finding(
                level="FAIL",
                what="model",
                found=f"{state}, on {some(places)}",
                remedy="put it there, share HF_HOME, or check HF_TOKEN and the network",
            )
            for state, places in bad.items()
        ]
        if ON_HUB in where:
            remedy = "let HF_HOME name a folder that all nodes share, so that it is fetched once"
            lines.append(
                Finding(
                    level="warn",
                    what="model",
                    found=f"{name}: to be fetched from the hub on {some(where[ON_HUB])}",
                    remedy=remedy,
                )
            )
        elif not bad:
            lines.append(Finding(level="ok", what="model", found=f"{name}: readable on all {len(found)} nodes"))
    return lines


def _lacking(config: Config, there: Nodes) -> str | None:
    try:
        check_resources(config, "run", there)
    except UserError as error:
        return str(error).partition("; ")[0]
    return None
