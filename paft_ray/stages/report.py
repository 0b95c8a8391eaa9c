"""Stage `report`: results.json, report.md and report.html from the artifacts of the other stages."""

from __future__ import annotations

from paft_ray.artifacts import Manifest, Run, cached
from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.report.write import write_report

STAGE = "report"
_INPUTS = ("evaluate/outcomes.parquet", "prompts/prompt_set.parquet")


def run(config: Config, run: Run, *, force: bool = False) -> Manifest:
    """The manifest: `verdict`. Raises `UserError` where the run has not been evaluated."""
    for path in _INPUTS:
        if not run.exists(path):
            raise UserError(f"run {run.name}: {path} is missing, there is nothing to report; run the stages before it first (`paft run` does all)")
    key = {"report": config.report.model_dump(mode="json"), "seed": config.seed, "inputs": {path: run.content_hash(path) for path in _INPUTS}}

    def body() -> Manifest:
        return {"verdict": write_report(run, config=config)["verdict"]}

    return cached(run, STAGE, key, body, force=force)
