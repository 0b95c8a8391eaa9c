"""The stages of a run, one declaration each: command, order, what it reads and what it starts follow from it.

Their modules are imported when they run, so that `--help` is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

from paft_ray.config import Config

if TYPE_CHECKING:
    from paft_ray.stages.resolved_run import ResolvedRun

Part = Literal["engine", "train"]
"""Section of the configuration that says how large a process on the cluster is, and how many there are."""
ALL = "run"
"""Command of all stages in order."""


def _always(config: Config) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a run, which meets the others through the files of the run alone."""

    name: str
    """Of its command, of its folder in the run, in manifests, on the console and in the report."""
    help: str
    load: Callable[[], Callable[..., dict[str, Any]]]
    """Imports the stage; gives `run(resolved, *, force) -> manifest`."""
    needs: Mapping[str, Callable[[Config], bool]] = field(default_factory=dict)
    """Stage whose files it reads -> whether it does so under a configuration."""
    starts: tuple[Part, ...] = ()
    """What it starts on the cluster: resources are checked and the precision is asked for these."""
    reads_model: bool = True
    uses_ray: bool = True
    asks_generators: bool = False
    is_tracked: bool = False
    """It reports to the trackers of section `tracking`."""
    is_in_all: Callable[[Config], bool] = _always
    """Whether it is one of all stages under a configuration."""
    page: str | None = None
    """File of the run that its command names at the end; None: the run itself."""

    def make(self, resolved: ResolvedRun, *, force: bool = False) -> dict[str, Any]:
        """The manifest, after the stage has run or was found finished."""
        return self.load()(resolved, force=force)


def _prepare() -> Callable[..., dict[str, Any]]:
    from paft_ray.stages import prepare

    return prepare.run


def _synthesize() -> Callable[..., dict[str, Any]]:
    from paft_ray.stages import synthesize

    return synthesize.run


def _score() -> Callable[..., dict[str, Any]]:
    from paft_ray.stages import score

    return score.run


def _train() -> Callable[..., dict[str, Any]]:
    from paft_ray.stages import train

    return train.run


def _evaluate() -> Callable[..., dict[str, Any]]:
    from paft_ray.stages import evaluate

    return evaluate.run


def _report() -> Callable[..., dict[str, Any]]:
    from paft_ray.stages import report

    return partial(report.run, stages=REPORTED)


def _sweep() -> Callable[..., dict[str, Any]]:
    from paft_ray.sweep import stage

    return stage.run


def _reads_scores(config: Config) -> bool:
    return config.score.enabled and bool("top_accuracy" in config.train.arms or config.score.select_top)


_INPUTS = {"prepare": _always, "synthesize": _always}
_STAGES = (
    Stage(name="prepare", help="Read and check the rows.", load=_prepare, reads_model=False),
    Stage(
        name="synthesize",
        help="Write, gate and split prompt templates.",
        load=_synthesize,
        starts=("engine",),
        asks_generators=True,
    ),
    Stage(
        name="score",
        help="Accuracy of the base model under every training template.",
        load=_score,
        needs=_INPUTS,
        starts=("engine",),
        is_in_all=lambda config: config.score.enabled,
    ),
    Stage(
        name="train",
        help="Fine-tune every arm.",
        load=_train,
        needs={**_INPUTS, "score": _reads_scores},
        starts=("train",),
        is_tracked=True,
    ),
    Stage(
        name="evaluate",
        help="Evaluate every arm on held-out templates; with a run's folder, on any templates and rows.",
        load=_evaluate,
        needs={**_INPUTS, "train": _always},
        starts=("engine",),
    ),
    Stage(
        name="report",
        help="Figures, Markdown and HTML page; also of a run by its folder.",
        load=_report,
        needs={"evaluate": _always, "synthesize": _always},
        reads_model=False,
        uses_ray=False,
        is_tracked=True,
        page="report/report.html",
    ),
    Stage(
        name="sweep",
        help="Ray Tune over the size of the prompt set.",
        load=_sweep,
        starts=("engine", "train"),
        asks_generators=True,
        is_tracked=True,
        is_in_all=lambda config: False,  # it runs stages of its own
        page="report/sweep.md",
    ),
)
STAGES: dict[str, Stage] = {stage.name: stage for stage in _STAGES}
"""By name, in order."""
REPORTED = tuple(takewhile(lambda name: name != "report", STAGES))
"""Names of the stages whose manifests the report shows (timings, engine starts), in order: those before it."""
COMMANDS: dict[str, str] = {ALL: "All stages in order.", **{stage.name: stage.help for stage in _STAGES}}
"""Command -> help, of those that run stages of a configuration."""


def stages_of(command: str, config: Config) -> tuple[Stage, ...]:
    """The stages that a command runs, in order."""
    return tuple(stage for stage in _STAGES if stage.is_in_all(config)) if command == ALL else (STAGES[command],)


def started_by(command: str, config: Config) -> tuple[Part, ...]:
    """What a command starts on the cluster."""
    return tuple(dict.fromkeys(part for stage in stages_of(command, config) for part in stage.starts))


def missing_inputs(stage: Stage, config: Config, exists: Callable[[str], bool]) -> dict[str, str]:
    """Manifest that a run lacks -> stage that makes it, of what `stage` reads."""
    paths = {f"{name}/manifest.json": name for name, reads in stage.needs.items() if reads(config)}
    return {path: name for path, name in paths.items() if not exists(path)}
