"""`paft export RUN`: a trained model as a folder of whole weights that a server takes, with its card and its templates."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from paft_ray.artifacts import Run, differences
from paft_ray.cli.stored import found_again, stored_config
from paft_ray.config import Config, Precision
from paft_ray.errors import UserError
from paft_ray.inference.settings import serve_command
from paft_ray.models import model_identity, resolve_model
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.report.card import TrainedModel, evaluated_engine, longest_request, render_card, trained_models
from paft_ray.report.sources import Measured
from paft_ray.stages.report import origins
from paft_ray.stages.train import arm_prompts


def export_run(folder: str, arm: str, seed: int, out: str, precision: Precision | None) -> None:
    """Writes weights, tokenizer, README.md and templates.jsonl into `out`, whole or not at all, and prints the command that serves them.

    `precision`: of the weights; default: that of the evaluation, so that the served answers are the evaluated ones. Raises `UserError` before it merges.
    """
    run = Run(folder)
    model = _chosen(trained_models(run), arm, seed)
    config = stored_config(run)
    base = _unchanged_base(run, model)
    templates = _trained_templates(config, run, model)
    target = _empty_folder(out)
    measured = Measured.of(run) if run.exists("evaluate/outcomes.parquet") else None
    engine = evaluated_engine(config, measured)
    if precision:
        engine = engine.model_copy(update={"precision": precision})
    card = render_card(model, config, origins(config), measured, engine=engine, adapter=False)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as scratch:
            written = _weights(run, model, base, Path(scratch), engine.precision)
            (written / "README.md").write_text(card, encoding="utf-8")
            (written / "templates.jsonl").write_text(templates.to_jsonl(), encoding="utf-8")
            written.rename(target)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error}); give a folder that you may write, with room for the weights") from None
    typer.echo(f"export: {model.name} in {target} ({engine.precision}); serve it with:")
    typer.echo(serve_command(str(target), name=model.name, engine=engine, max_model_len=longest_request(config, model)))


def _chosen(models: Sequence[TrainedModel], arm: str, seed: int) -> TrainedModel:
    """Raises `UserError` naming the arms and seeds that are there."""
    for model in models:
        if (model.arm, model.seed) == (arm, seed):
            return model
    present = ", ".join(f"--arm {model.arm} --seed {model.seed}" for model in models)
    raise UserError(f"--arm {arm} --seed {seed}: was not trained in this run; it has: {present}")


def _unchanged_base(run: Run, model: TrainedModel) -> str:
    """Folder of the base model. Raises `UserError` where it is not the one that was trained on: an adapter fits no other."""
    trained = model.key["model"]
    path = resolve_model(found_again(run, trained["id"]), trained["revision"])
    if changed := differences(trained["identity"], model_identity(trained["id"], trained["revision"], path)):
        raise UserError(f"model {trained['id']}: has changed since it was trained on ({'; '.join(changed)}); restore it, or train again")
    return path


def _trained_templates(config: Config, run: Run, model: TrainedModel) -> PromptSet:
    """The arm's training templates. Raises `UserError` where they are no longer there."""
    found = arm_prompts(config, run, model.arm)  # type: ignore[arg-type]  # an arm that was trained
    if found.content_hash != model.key["prompts"][model.arm]:
        raise UserError(f"run {run.root}: its prompt set or score section is not the one that arm {model.arm} was trained on; train again")
    return found


def _empty_folder(out: str) -> Path:
    """The path of `--out`, its parent made. Raises `UserError` where something is there already."""
    if "://" in out:
        raise UserError(f"--out {out}: a folder of this machine is needed; copy it from there to other storage")
    target = Path(out).expanduser().resolve()
    try:
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            raise UserError(f"--out {out}: is not empty; give a new or empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error}); give the path of a folder that you may write") from None
    return target


def _weights(run: Run, model: TrainedModel, base: str, scratch: Path, precision: Precision) -> Path:
    """A folder in `scratch` with the whole weights; those of full fine-tuning are copied as they are."""
    run.download_dir(model.folder, scratch / "trained")
    if not model.is_adapter:
        return scratch / "trained"
    from paft_ray.training.export import merge_adapter

    merge_adapter(base, str(scratch / "trained"), str(scratch / "merged"), precision=precision)
    return scratch / "merged"
