"""Section `tracking`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from paft_ray.config.addresses import split_url
from paft_ray.config.base import Section


class TrackingConfig(Section):
    """Trackers in addition to TensorBoard and metrics.jsonl, one tracker run per training; their keys come from the
    environment only."""

    mlflow: str | None = None
    """Address of an MLflow server, e.g. http://host:5000 (keys: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
    _PASSWORD); null: off."""
    experiment: Annotated[str, Field(min_length=1)] = "paft-ray"
    """MLflow experiment that holds the trainings, created if missing."""
    wandb: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] | None = None
    """W&B project that holds the trainings (key: WANDB_API_KEY; WANDB_ENTITY, WANDB_MODE and WANDB_DIR are honored);
    null: off."""

    @model_validator(mode="after")
    def _address(self) -> TrackingConfig:
        if self.mlflow is not None:
            parts = split_url(self.mlflow, "tracking.mlflow")
            if "@" in parts.netloc or set("?#") & set(self.mlflow):  # not shown: it may be a password
                raise ValueError(
                    "tracking.mlflow: the address holds credentials, which would be stored with the run; give "
                    "them in the environment"
                )
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise ValueError("tracking.mlflow: the address of a server is needed, http://HOST:PORT or https://HOST")
        return self
