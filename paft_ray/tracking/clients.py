"""Runs of MLflow and W&B, found or made by an id that stays.

The clients are imported where they are used, so that they may be absent, and read their keys from the environment of
the process themselves.
"""

from __future__ import annotations

import configparser
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from paft_ray.config import TrackingConfig
from paft_ray.config.keys import read_key
from paft_ray.errors import UserError
from paft_ray.log import get_logger
from paft_ray.tracking.tracker_run import Rows, TrackerRun, scalars

_log = get_logger(__name__)
_ID_TAG = "paft_ray.id"
_BATCH_ROWS = 100  # MLflow takes 1000 metrics a call
_VARIABLES = {
    # A server that is away holds a training up for seconds, not for MLflow's four minutes a call.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # metrics go to the server that is named
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # As in cli/env_defaults.py, for nodes of a cluster, which that does not reach.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}

MLFLOW_KEYS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""Variables that make the client send credentials."""


class MlflowRun:
    """Found by its tag, else made. Parameters are those of the first start: MLflow allows no change."""

    def __init__(self, tracker_run: TrackerRun) -> None:
        self._client = mlflow_client(tracker_run.config)
        experiment = open_experiment(self._client, tracker_run.config.experiment)
        found = self._client.search_runs(
            [experiment], filter_string=f"tags.`{_ID_TAG}` = '{tracker_run.id}'", max_results=1
        )
        tags = {_ID_TAG: tracker_run.id, "paft_ray.run": tracker_run.group}
        run = (
            found[0]
            if found
            else self._client.create_run(experiment, tags=tags, run_name=f"{tracker_run.group}/{tracker_run.name}")
        )
        self._run_id = run.info.run_id
        self._client.update_run(self._run_id, status="RUNNING")
        if tracker_run.params and not run.data.params:
            from mlflow.entities import Param

            self._client.log_batch(
                self._run_id, params=[Param(name, str(value)) for name, value in tracker_run.params.items()]
            )
        self._last = max(
            (point.step for point in self._client.get_metric_history(self._run_id, "train/loss")), default=0
        )
        server = str(tracker_run.config.mlflow).rstrip("/")
        _log.info(f"{tracker_run.label} MLflow: {server}/#/experiments/{experiment}/runs/{self._run_id}")

    def send(self, rows: Rows) -> None:
        new = [row for row in rows if row["step"] > self._last]
        for begin in range(0, len(new), _BATCH_ROWS):
            batch = new[begin : begin + _BATCH_ROWS]
            self._log([(name, value, row["step"]) for row in batch for name, value in scalars(row).items()])
            self._last = batch[-1]["step"]

    def show(self, metrics: Mapping[str, float], page: str) -> None:
        held = self._client.get_run(self._run_id).data.metrics
        self._log([(name, value, 0) for name, value in metrics.items() if held.get(name) != value])
        self._client.log_text(self._run_id, page, "report.html")

    def close(self) -> None:
        self._client.set_terminated(self._run_id)

    def _log(self, points: Sequence[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._client.log_batch(
            self._run_id, metrics=[Metric(name, value, now_ms, step) for name, value, step in points]
        )


class WandbRun:
    """Resumed by its id; W&B uploads in the background and tries again by itself."""

    def __init__(self, tracker_run: TrackerRun) -> None:
        wandb = wandb_client()
        self._run = wandb.init(
            project=tracker_run.config.wandb,
            id=tracker_run.id,
            name=f"{tracker_run.group}/{tracker_run.name}",
            group=tracker_run.group,
            config=dict(tracker_run.params),
            resume="allow",
            reinit="create_new",
            dir=tracker_run.folder,
            settings=wandb.Settings(console="off", silent=True, init_timeout=30, finish_timeout=60),
        )
        self._last = self._run.step - 1  # the first step that it would take is one more than it holds, 0 for a new run
        _log.info(f"{tracker_run.label} W&B: {self._run.sync_dir if self._run.offline else self._run.url}")

    def send(self, rows: Rows) -> None:
        for row in rows:
            if row["step"] > self._last:
                self._run.log(scalars(row), step=row["step"], commit=True)
                self._last = row["step"]

    def show(self, metrics: Mapping[str, float], page: str) -> None:
        self._run.summary.update(dict(metrics))

    def close(self) -> None:
        self._run.finish()


def mlflow_client(config: TrackingConfig) -> Any:
    """A client of the server; reaches nothing yet."""
    prepare_clients()
    from mlflow import MlflowClient

    return MlflowClient(config.mlflow)


def any_credentials_file(url: str) -> bool:
    """Whether the client would send the server a password from ~/.mlflow/credentials or a .netrc file. Raises
    `UserError` for a broken one."""
    from mlflow.utils.credentials import read_mlflow_creds
    from requests.utils import get_netrc_auth

    try:
        return any(read_mlflow_creds()) or get_netrc_auth(url) is not None
    except (configparser.Error, OSError, ValueError) as error:
        raise UserError(
            f"tracking.mlflow: ~/.mlflow/credentials cannot be read ({type(error).__name__}); fix or remove it"
        ) from None


def open_experiment(client: Any, name: str) -> str:
    """Id of the experiment, made if missing."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def wandb_client() -> Any:
    """The module wandb."""
    prepare_clients()
    import wandb

    return wandb


def prepare_clients() -> None:
    """Sets what the clients read when they are imported; of what the user has set only white space around a key is
    taken off.

    Raises `UserError` for a key that no header can carry.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    for name in {"MLFLOW_TRACKING_TOKEN", "WANDB_API_KEY"} & set(os.environ):
        os.environ[name] = read_key(name, os.environ)
