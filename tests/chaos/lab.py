"""A finished, uninterrupted run, and kill points measured against it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.chaos import leaks
from tests.chaos.attempt import Blow, Ended, Span, attempt
from tests.chaos.cluster import ROOT, Cluster
from tests.chaos.compare import Difference, compare
from tests.chaos.plan import KINDS, Fault
from tests.chaos.tiny import SETTINGS, STEPS

NAME = "chaos"
_MOST_ATTEMPTS = 4
_MOST_MISSES = 6


def steps_done(run: Path) -> float:
    """Share of the steps that the newest checkpoint of the run's training has."""
    found = (
        int(path.parent.name.removeprefix("step-")) for path in run.glob("train/*/checkpoints/*/step-*/manifest.json")
    )
    return max(found, default=0) / STEPS


@dataclass(frozen=True, kw_only=True)
class Point:
    """What came of one fault."""

    fault: Fault
    injected: bool
    """False where the stage was over before its moment, every time."""
    survived: bool
    """Finished in the end, nothing lost, repeated or changed, no start went on for ever."""
    difference: Difference
    seconds_lost: float
    """Of all its starts together, beyond the uninterrupted run; 0 where the machine was faster this time."""
    codes: tuple[int | None, ...]
    """Exit codes of its starts, the struck one first; None: ended at the limit."""
    leaks: tuple[str, ...]
    """Left after a start or after all of them."""


@dataclass(kw_only=True)
class Lab:
    """One session of the harness."""

    folder: Path
    """Of the reference, the kill points and the logs."""
    scratch: Path
    """Short-lived files: Ray's, and the temporary ones of all commands."""
    cluster: Cluster
    """Of all starts, except where Ray itself is struck."""
    settings: Sequence[str] = ()
    """Beyond those of tiny.py."""
    say: Callable[[str], None] = print
    spans: dict[str, Span] = field(default_factory=dict)

    @property
    def reference(self) -> Path:
        """Folder of the uninterrupted run."""
        return self.folder / "reference" / NAME

    def prepare(self, stages: Collection[str]) -> None:
        """Saves the tiny model and runs `stages`, and those that they need, once, uninterrupted."""
        command = [sys.executable, "-m", "tests.chaos.tiny", str(self.folder / "model")]
        subprocess.run(command, cwd=ROOT, env=dict(self.cluster.environment), check=True, capture_output=True)
        last = max(list(KINDS).index(stage) for stage in stages)
        for stage in list(KINDS)[: last + 1]:
            if stage == "score" and stage not in stages:  # nothing here needs it
                continue
            ended = self._start(stage, self.folder / "reference", self.folder / "reference.log", cluster=self.cluster)
            if ended.code != 0:
                raise RuntimeError(
                    f"the uninterrupted {stage} ended with code {ended.code}: {self.folder / 'reference.log'}"
                )
            self.spans[stage] = ended.span
            left = leaks.after_end(ended.session, self.cluster)
            started = f", worker after {ended.span.worker_s:.0f} s" if ended.span.worker_s is not None else ""
            self.say(
                f"uninterrupted {stage}: {ended.span.seconds:.0f} "
                f"s{started}{', left: ' + ', '.join(left) if left else ''}"
            )

    def strike(self, fault: Fault) -> Point:
        """Injects the fault into a fresh copy of what comes before its stage, starts again until the stage is finished,
        and compares."""
        for miss in range(_MOST_MISSES):
            point = self._strike(replace(fault, moment=fault.moment * 0.6**miss))
            if point.injected:
                break
        return point

    def _strike(self, fault: Fault) -> Point:
        home = self.folder / f"{fault.number:03d}-{fault.stage}-{fault.kind}"
        log = home.with_suffix(".log")
        self.copy_inputs(fault.stage, home / NAME)
        segments, span = leaks.shared_memory(), self.spans[fault.stage]
        usual = None if fault.stage == "report" else self.cluster  # the report starts no Ray
        first = None if fault.kind == "sigkill_raylet" else usual
        starts = [self._start(fault.stage, home, log, cluster=first, fault=fault)]
        left = leaks.after_end(starts[0].session, first)
        while starts[-1].code != 0 and len(starts) < _MOST_ATTEMPTS:
            starts.append(self._start(fault.stage, home, log, cluster=usual))
            left += leaks.after_end(starts[-1].session, usual)
        self.cluster.mend()
        difference = compare(fault.stage, self.reference, home / NAME)
        left += leaks.files(home / NAME, self.scratch, segments)
        self._clear_temporary()
        good = starts[-1].code == 0 and all(start.code is not None for start in starts) and difference == Difference()
        if good:
            shutil.rmtree(home)
        return Point(
            fault=fault,
            injected=starts[0].struck_s is not None,
            survived=good,
            difference=difference,
            seconds_lost=max(0.0, sum(start.span.seconds for start in starts) - span.seconds),
            codes=tuple(start.code for start in starts),
            leaks=tuple(left),
        )

    def _start(
        self, stage: str, storage: Path, log: Path, *, cluster: Cluster | None, fault: Fault | None = None
    ) -> Ended:
        """`cluster` None: the command starts a Ray of its own."""
        command = self.command(stage, storage)
        environment = (
            self.cluster.environment
            if cluster
            else {k: v for k, v in self.cluster.environment.items() if k != "RAY_ADDRESS"}
        )
        span = self.spans.get(stage)
        blow = (
            Blow(fault=fault, reference=span, steps_done=lambda: steps_done(storage / NAME)) if fault and span else None
        )
        limit_s = 120 + 4 * span.seconds if span else 600
        return attempt(
            command,
            environment,
            log,
            stage=stage,
            cluster=cluster.sessions if cluster else (),
            limit_s=limit_s,
            blow=blow,
        )

    def command(self, stage: str, storage: Path, *settings: str) -> list[str]:
        """`paft STAGE` on the tiny model, with further settings."""
        all_settings = (*SETTINGS, f"storage={storage}", f"model.id={self.folder / 'model'}", *self.settings, *settings)
        return [
            sys.executable,
            "-m",
            "paft_ray",
            stage,
            "jobs/configs/demo.yaml",
            *(part for s in all_settings for part in ("--set", s)),
        ]

    def copy_inputs(self, stage: str, run: Path) -> None:
        """What the stages before it made."""
        shutil.rmtree(run.parent, ignore_errors=True)
        for earlier in list(KINDS)[: list(KINDS).index(stage)]:
            if earlier in self.spans:
                shutil.copytree(self.reference / earlier, run / earlier)

    def _clear_temporary(self) -> None:
        for path in (self.scratch / "tmp").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
