"""MLflow and W&B next to TensorBoard and metrics.jsonl: one tracker run per training, and one for the metrics of the
report.

A tracker mirrors metrics.jsonl: with every checkpoint it gets the steps that it does not hold yet. So a restart repeats
no step there (steps behind the newest checkpoint were never sent), an outage leaves no gap, and a tracker that is
switched on late gets the steps before, too. MLflow would keep both values of a step that comes twice, W&B drops the
second one. Without a network (WANDB_MODE=offline) W&B writes a new folder at every restart under the same id, and
`wandb sync` of a later one replaces the one before: each therefore holds all steps, and the newest is the one to sync.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from paft_ray.config import TrackingConfig
from paft_ray.config.addresses import refusal, resolved_refusal
from paft_ray.errors import UserError, one_line
from paft_ray.log import get_logger, stage_label
from paft_ray.storage.artifacts import REPORT_PAGE, RESULTS
from paft_ray.storage.store import Store
from paft_ray.tracking.clients import (
    MLFLOW_KEYS,
    MlflowRun,
    WandbRun,
    any_credentials_file,
    mlflow_client,
    open_experiment,
    wandb_client,
)
from paft_ray.tracking.tracker_run import Rows, TrackerRun

_log = get_logger(__name__)


class Tracker(Protocol):
    """An opened run of one tracker."""

    def send(self, rows: Rows) -> None:
        """Takes all rows so far and hands on those that the tracker does not hold."""

    def show(self, metrics: Mapping[str, float], page: str) -> None:
        """Sets metrics that belong to no step, in place of earlier ones; `page`: HTML."""

    def close(self) -> None:
        """Marks the run as finished."""


class Trackers:
    """The trackers that a run asks for. One that fails is reported once and never stops the training."""

    def __init__(
        self, tracker_run: TrackerRun | None, kinds: Mapping[str, Callable[[TrackerRun], Tracker]] | None = None
    ) -> None:
        """`kinds`: how a tracker is opened, by name; default: those that the configuration names."""
        self._tracker_run = tracker_run
        self._kinds = dict(kinds or _kinds(tracker_run.config)) if tracker_run else {}
        self._open: dict[str, Tracker] = {}
        self._reported: set[str] = set()

    def send(self, rows: Rows) -> None:
        """Hands over all rows so far; a tracker that failed before is opened anew, asked what it holds and sent what it
        missed."""
        self._each(lambda tracker: tracker.send(rows))

    def show(self, metrics: Mapping[str, float], page: str) -> None:
        self._each(lambda tracker: tracker.show(metrics, page))

    def close(self) -> None:
        """Marks the runs as finished."""
        self._kinds = {name: kind for name, kind in self._kinds.items() if name in self._open}
        self._each(lambda tracker: tracker.close())

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, kind in self._kinds.items():
            assert self._tracker_run is not None
            try:
                if name not in self._open:
                    self._open[name] = kind(self._tracker_run)
                act(self._open[name])
            except Exception as error:  # whatever a client raises: it must not end a training
                self._open.pop(name, None)
                if name not in self._reported:
                    self._reported.add(name)
                    reason = one_line(error)[:200]
                    _log.warning(
                        f"{self._tracker_run.label} {name} does not take the metrics ({reason}); they stay in the run "
                        "and are sent again at the next chance"
                    )


def _kinds(config: TrackingConfig) -> dict[str, Callable[[TrackerRun], Tracker]]:
    wanted: dict[str, Callable[[TrackerRun], Tracker] | None] = {
        "MLflow": MlflowRun if config.mlflow else None,
        "W&B": WandbRun if config.wandb else None,
    }
    return {name: kind for name, kind in wanted.items() if kind}


def publish_report(config: TrackingConfig, run: Store) -> None:
    """Sends `eval/ARM/accuracy_mean`, `_std`, `_decile` and `_worst` of a finished report (by its headline measure),
    `eval/ARM/behavior_mean` and so on for every measure, `eval/ARM/named_rate`, and its page to MLflow, as tracker run
    `report`."""
    tracker_run = TrackerRun.of(
        config, run.below("report"), name="report", group=run.name, label=stage_label("report"), params={}
    )
    if tracker_run is None:
        return
    wanted = {
        f"eval/{arm}/{name}": value
        for arm, row in RESULTS.read(run)["arms"].items()
        for name, value in _metrics(row).items()
    }
    trackers = Trackers(tracker_run)
    trackers.show(
        {name: value for name, value in wanted.items() if value is not None},
        REPORT_PAGE.read(run),
    )
    trackers.close()


def _metrics(row: Mapping[str, Any]) -> dict[str, float | None]:
    """What trackers show of one arm of results.json."""
    return {
        **{f"accuracy_{name}": row[name] for name in ("mean", "std", "decile", "worst")},
        **{f"{measure}_mean": found["mean"] for measure, found in row["measures"].items()},
        "named_rate": row["named_rate"],
    }


def check(config: TrackingConfig, insecure_hosts: Sequence[str] = ()) -> None:
    """Raises `UserError` where a tracker that is asked for is not installed, does not let us in or is at an address
    that gets no key.

    Takes at most half a minute.
    """
    for name, given in (("mlflow", config.mlflow), ("wandb", config.wandb)):
        if given is not None and importlib.util.find_spec(name) is None:
            raise UserError(
                f"tracking.{name}={given}: {name} is not installed; pip install 'paft-ray[tracking]', or set "
                f"tracking.{name}=null"
            )
    if config.mlflow is not None:
        _check_address(config.mlflow, insecure_hosts)
        from mlflow.exceptions import MlflowException

        try:
            open_experiment(mlflow_client(config), config.experiment)
        except MlflowException as error:
            remedy = (
                "check address, server and MLFLOW_TRACKING_TOKEN (or _USERNAME and _PASSWORD), or set "
                "tracking.mlflow=null"
            )
            raise UserError(
                f"tracking.mlflow={config.mlflow}: no MLflow server lets us in ({one_line(error)[:200]}); {remedy}"
            ) from None
    if config.wandb is not None and os.environ.get("WANDB_MODE", "online") == "online":
        wandb = wandb_client()
        try:
            reason = None if wandb.login(prompt=False) else "no key"
        except wandb.Error as error:
            reason = one_line(error)[:200]
        if reason:
            raise UserError(
                f"tracking.wandb={config.wandb}: W&B does not let us in ({reason}); set WANDB_API_KEY, "
                "WANDB_MODE=offline or tracking.wandb=null"
            )


def _check_address(url: str, insecure_hosts: Sequence[str]) -> None:
    """Raises `UserError` before anything is sent: the host's name may stand for an address that gets nothing, or for
    one that gets no key unencrypted."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None)
    except (OSError, ValueError):  # the client will say so; a proxy may know the name
        found = []
    keyed = any(os.environ.get(name, "").strip() for name in MLFLOW_KEYS) or any_credentials_file(url)
    resolved = [str(entry[4][0]) for entry in found]
    if reason := refusal(url, keyed=keyed, allowed=insecure_hosts) or resolved_refusal(url, resolved, insecure_hosts):
        raise UserError(f"tracking.mlflow={url}: {reason}")
