"""What the check states: rows, each made of what one or two cases found. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any, Literal

from paft_ray import capacity
from tests.gpu.plan import NATS, TOLERANCE, Case

Found = Mapping[str, Any]
_INITIALIZATION, _STEPS = 1.1, 1.5
"""Largest peak memory over capacity.py's; in steps temporary gradients and fragments come on top (docs/capacity.md)."""
_OFFLOADED, _CHECKPOINTING, _FALL, _MOVED = 0.5, 0.95, 0.999, 0.5
PLAIN = "speed-lora-zero2"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a case went."""

    status: Literal["done", "failed", "not run"]
    note: str = ""
    """Why it is not done."""
    found: Found | None = None


STATUSES = ("pass", "fail", "measured", "not run")
NOT_ASKED_FOR = Outcome(status="not run", note="not asked for")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the result."""

    name: str
    status: Literal["pass", "fail", "measured", "not run"]
    """`measured`: a figure without a limit."""
    value: float | None
    unit: str
    tolerance: float | None
    """Largest value that passes."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A row to be."""

    name: str
    unit: str
    needs: tuple[str, ...]
    """Cases: its own first."""
    value: Callable[..., float]
    """Of what these cases found, in their order."""
    tolerance: float | None = None

    def row(self, outcomes: Mapping[str, Outcome]) -> Row:
        """Fails where its own case failed; what another case should have told is not run."""
        own, *others = [(case, outcomes[case]) for case in self.needs]
        if own[1].status != "done":
            return self._row("fail" if own[1].status == "failed" else "not run", None, own[1].note)
        for case, outcome in others:
            if outcome.status != "done":
                return self._row("not run", None, f"{case}: {outcome.status}")
        value = self.value(*(outcomes[case].found for case in self.needs))
        if self.tolerance is None:
            return self._row("measured", value, "")
        return self._row("pass" if value <= self.tolerance else "fail", value, "")  # no number is above every tolerance

    def _row(self, status: Any, value: float | None, note: str) -> Row:
        finite = value if value is not None and math.isfinite(value) else None
        note = note if value is None or finite is not None else str(value)
        return Row(name=self.name, status=status, value=finite, unit=self.unit, tolerance=self.tolerance, note=note)


def checks(cases: Sequence[Case]) -> list[Check]:
    """All of a device."""
    found = [Check(name="peak: matrix products", unit="TFLOP/s", needs=("peak",), value=_teraflops)]
    for case in cases:
        if case.kind == "equality":
            found += _equality(case)
        elif case.kind in ("engine", "adapters"):
            found += _engine(case)
        elif case.kind == "pipeline":
            found += _pipeline(case)
        elif case.kind == "speed":
            found += _speed(case)
    return found


def rows(cases: Sequence[Case], outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """All rows of the result."""
    return [asdict(check.row(outcomes)) for check in checks(cases)]


def needed(cases: Sequence[Case], names: Collection[str]) -> list[Case]:
    """The cases that the rows of some cases need, those themselves included."""
    wanted = {"models", *names}.union(*(check.needs for check in checks(cases) if check.needs[0] in names))
    return [case for case in cases if case.name in wanted]


def _equality(case: Case) -> list[Check]:
    name, tolerance = case.name, TOLERANCE[case.config.precision]
    found = [Check(name=f"{name}: last loss over first", unit="ratio", needs=(name,), value=_fall, tolerance=_FALL)]
    reference = "reference-lora" if case.config.lora else "reference-all"
    lines: dict[str, tuple[tuple[str, ...], Callable[..., float]]] = {
        "loss beside plain PyTorch on the CPU": (
            (name, reference),
            lambda own, cpu: _difference(own["losses"], cpu["losses"]),
        ),
        "loss after a resume": ((name,), lambda own: _difference(own["resumed"], own["losses"])),
        "loss of the exported model": ((name,), lambda own: _difference([own["exported"]], [own["trained"]])),
    }
    for line, (needs, value) in lines.items():
        name = f"{case.name}: {line}"
        found.append(Check(name=name, unit="relative difference", needs=needs, value=value, tolerance=tolerance))
    return found


def _engine(case: Case) -> list[Check]:
    name, most = case.name, NATS[case.precision]
    lines = {"labels beside transformers, weights of the start": "start"}
    if case.kind == "engine":
        lines |= {
            "labels beside transformers, an adapter's merged weights loaded": "adapter",
            "labels beside transformers, the first weights loaded again": "again",
        }
    else:
        lines["labels beside transformers, an adapter served upon them"] = "adapter"
    found = [
        Check(name=f"{name}: {line}", unit="nats", needs=(name,), value=itemgetter(key), tolerance=most)
        for line, key in lines.items()
    ]
    moved = Check(
        name=f"{name}: tolerance over what the adapter moves", unit="ratio", needs=(name,),
        value=lambda own: most / own["adapter_moves"] if own["adapter_moves"] else math.inf, tolerance=_MOVED,
    )  # fmt: skip
    rows = Check(name=f"{name}: rows", unit="rows", needs=(name,), value=itemgetter("rows"))
    return [*found, moved, rows]


def _pipeline(case: Case) -> list[Check]:
    name = case.name
    return [
        Check(name=f"{name}: rows answered", unit="rows", needs=(name,), value=itemgetter("rows")),
        Check(name=f"{name}: exit code of paft audit", unit="", needs=(name,), value=itemgetter("audit"), tolerance=0),
        Check(
            name=f"{name}: labels of the served export beside the evaluation", unit="nats", needs=(name,),
            value=itemgetter("served"), tolerance=NATS[case.precision],
        ),
    ]  # fmt: skip


def _speed(case: Case) -> list[Check]:
    name = case.name
    found = [
        Check(name=f"{name}: last loss over first", unit="ratio", needs=(name,), value=_fall, tolerance=_FALL),
        Check(
            name=f"{name}: peak memory at initialization",
            unit="GiB",
            needs=(name,),
            value=lambda own: own["initialization_gib"],
        ),
        Check(name=f"{name}: peak memory in steps", unit="GiB", needs=(name,), value=lambda own: own["steps_gib"]),
        Check(name=f"{name}: speed", unit="tokens/s", needs=(name,), value=_tokens_per_s),
        Check(name=f"{name}: fraction of the matrix peak", unit="%", needs=(name, "peak"), value=_fraction),
    ]
    found += _memory(case) if case.device == "cuda" else []
    return found + (_beside_plain(case) if case.config.gradient_checkpointing or case.config.compile else [])


def _beside_plain(case: Case) -> list[Check]:
    """A case beside the same one without gradient checkpointing and torch.compile."""
    needs = (case.name, PLAIN)
    lines: list[tuple[str, str, Callable[..., float], float | None]] = [
        (
            "loss",
            "relative difference",
            lambda own, plain: _difference(own["losses"], plain["losses"]),
            TOLERANCE[case.config.precision],
        ),
        ("speed", "ratio", lambda own, plain: _tokens_per_s(own) / _tokens_per_s(plain), None),
    ]
    if case.config.gradient_checkpointing:
        less = lambda own, plain: own["steps_gib"] / plain["steps_gib"]  # noqa: E731
        lines.append(("peak memory in steps", "ratio", less, _CHECKPOINTING))
    return [
        Check(name=f"{case.name}: {line} beside {PLAIN}", unit=unit, needs=needs, value=value, tolerance=tolerance)
        for line, unit, value, tolerance in lines
    ]  # fmt: skip


def _memory(case: Case) -> list[Check]:
    """The device's memory beside capacity.py. On a CPU libraries and what loading left come on top: no limit."""

    def calculated(own: Found) -> capacity.WorkerMemory:
        return capacity.worker_memory(case.config, own["shapes"], tokens_per_row=own["longest_row"])

    def initialization(own: Found) -> float:
        memory = calculated(own)
        return float(own["initialization_gib"] / (memory.weights + memory.optimizer))

    def offloaded(own: Found) -> float:
        return float(own["initialization_gib"] / (2 * capacity.num_weights(own["shapes"]) / capacity.GIB))

    name = case.name
    found = [
        Check(
            name=f"{name}: host memory at initialization",
            unit="GiB",
            needs=(name,),
            value=lambda own: own["initialization_host_gib"],
        ),
        Check(
            name=f"{name}: peak memory in steps over capacity.py's", unit="ratio", needs=(name,),
            value=lambda own: own["steps_gib"] / calculated(own).device, tolerance=_STEPS,
        ),
    ]  # fmt: skip
    if case.config.offload == "optimizer_and_weights":
        line, value, limit = (
            "peak memory at initialization over the weights', which are offloaded",
            offloaded,
            _OFFLOADED,
        )
    else:
        line, value, limit = "peak memory at initialization over capacity.py's", initialization, _INITIALIZATION
    return [*found, Check(name=f"{name}: {line}", unit="ratio", needs=(name,), value=value, tolerance=limit)]


def _difference(found: Sequence[float], wanted: Sequence[float]) -> float:
    """Largest relative difference; infinite where a loss is missing or not a number."""
    if len(found) != len(wanted) or not all(math.isfinite(value) for value in (*found, *wanted)):
        return math.inf
    return max(abs(one / other - 1) for one, other in zip(found, wanted, strict=True))


def _teraflops(own: Found) -> float:
    return float(own["operations_per_s"] / 1e12)


def _fall(own: Found) -> float:
    return float(own["losses"][-1] / own["losses"][0])


def _tokens_per_s(own: Found) -> float:
    return float(own["tokens"] / _step_s(own))


def _step_s(own: Found) -> float:
    """Seconds of a step, warm: the median of the later half."""
    times = own["times_s"]
    return statistics.median(times[len(times) // 2 :])


def _fraction(own: Found, peak: Found) -> float:
    """Per cent of the device's matrix peak, by the operations that a step needs at least."""
    return float(100 * own["operations"] / _step_s(own) / peak["operations_per_s"])
