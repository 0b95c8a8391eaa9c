"""`paft export RUN`: a trained model as a folder of full weights that a server takes, with its card and its
templates."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from paft_ray.cli.signals import interruptible
from paft_ray.config import Config, Precision
from paft_ray.echo import echo
from paft_ray.errors import StorageError, UserError, one_line
from paft_ray.inference.vllm_args import serve_command
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.report.inputs import Measured
from paft_ray.report.model_card import evaluated_engine, of_weights, render_card
from paft_ray.report.trained_models import longest_request
from paft_ray.stages.report import origins
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.stages.train import arm_prompts
from paft_ray.storage.artifacts import OUTCOMES, PROMPT_SET
from paft_ray.storage.manifests import TrainedModel, trained_models
from paft_ray.storage.stage_keys import differences
from paft_ray.storage.store import Store
from paft_ray.storage.temp_dirs import owned_prefix, remove_left
from paft_ray.training.trained_weights import check_trained, fetch_trained

_OF_A_MODEL = (".safetensors", ".json", ".jinja", ".txt", ".model")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def export_run(folder: str, arm: str, seed: int, out: str, precision: Precision | None) -> None:
    """Writes weights, tokenizer, README.md and templates.jsonl into `out`, all or nothing, and prints the command
    that serves them.

    `precision`: of the weights; default: that of the evaluation, so that the served answers are the evaluated ones.
    Raises `UserError` before it merges.
    """
    run = Store(folder)
    models = trained_models(run)
    model = _chosen(models, arm, seed)
    resolved = ResolvedRun.load(run).as_trained(model.settings)
    config = resolved.config
    base = _unchanged_base(resolved, model)
    check_trained(run, [model], base=base)
    templates = _trained_templates(config, run, model)
    target = _empty_folder(out)
    measured = Measured.of(run) if OUTCOMES.is_made(run) else None
    engine = evaluated_engine(config, measured)
    if precision:
        engine = engine.model_copy(update={"precision": precision})
    card = render_card(model, config, origins(resolved), of_weights(measured, models), engine=engine, adapter=False)
    stored = engine.precision if model.is_adapter else model.settings["train"]["precision"]
    if precision and not model.is_adapter and precision != stored:
        raise UserError(
            f"--precision {precision}: all weights of {model.name} were trained and are stored in {stored}; leave it "
            "out, a server converts them as it loads (--dtype)"
        )
    with interruptible("start the same command again"), _into(target, out) as scratch:
        written = _weights(run, model, base, scratch, engine.precision)
        (written / "README.md").write_text(card, encoding="utf-8")
        (written / "templates.jsonl").write_text(templates.to_jsonl(), encoding="utf-8")
        written.rename(target)
    echo(f"export: {model.name} in {target} ({stored}); serve it with:")
    echo(serve_command(str(target), name=model.name, engine=engine, max_model_len=longest_request(config, model)))


def _chosen(models: Sequence[TrainedModel], arm: str, seed: int) -> TrainedModel:
    """Raises `UserError` naming the arms and seeds that are there."""
    for model in models:
        if (model.arm, model.seed) == (arm, seed):
            return model
    present = ", ".join(f"--arm {model.arm} --seed {model.seed}" for model in models)
    raise UserError(f"--arm {arm} --seed {seed}: was not trained in this run; it has: {present}")


def _unchanged_base(resolved: ResolvedRun, model: TrainedModel) -> str:
    """Folder of the base model. Raises `UserError` where it is not the one that was trained on: an adapter fits no
    other."""
    trained = model.settings["model"]
    found = resolved.with_model().model
    if changed := differences(trained["identity"], found.identity):
        raise UserError(
            f"model {trained['id']}: has changed since it was trained on ({'; '.join(changed)}); restore it, or "
            "train again"
        )
    return found.path


def _trained_templates(config: Config, run: Store, model: TrainedModel) -> PromptSet:
    """The arm's training templates. Raises `UserError` where they are no longer there."""
    found = arm_prompts(config, run, model.arm, PROMPT_SET.read(run))  # type: ignore[arg-type]  # that was trained
    if found.content_hash != model.settings["prompts"].get(model.arm):
        raise UserError(
            f"run {run.root}: its prompt set or score section is not the one that arm {model.arm} was trained "
            "on; train again"
        )
    return found


def _empty_folder(out: str) -> Path:
    """The path of `--out`, its parent made. Raises `UserError` where something is there already."""
    if "://" in out:
        raise UserError(f"--out {out}: a folder of this machine is needed; copy it from there to other storage")
    if not out.strip():
        raise UserError("--out: names no folder; give a new or empty one")
    try:
        target = Path(out).expanduser().resolve()
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            raise UserError(f"--out {out}: is not empty; give a new or empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # pathlib: a NUL, a loop of links, an unknown user
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(
            f"--out {out}: cannot be written ({reason}); give the path of a folder that you may write"
        ) from None
    return target


@contextmanager
def _into(target: Path, out: str) -> Iterator[Path]:
    """A scratch folder next to `target`, gone afterwards, also where an earlier export was killed. Raises `UserError`
    where it cannot be written."""
    prefix = owned_prefix(".export", str(target))
    remove_left(str(target.parent), prefix)
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as scratch:
            yield Path(scratch)
    except (OSError, SafetensorError) as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        full = getattr(cause, "errno", None) in _FULL or "No space left" in str(cause) or "StorageFull" in str(cause)
        if (isinstance(error, OSError) and cause is error) or full:
            reason = getattr(cause, "strerror", None) or one_line(cause)
            raise UserError(
                f"--out {out}: cannot be written ({reason}); give a folder that you may write, with room for the "
                "weights"
            ) from None
        raise


def _weights(run: Store, model: TrainedModel, base: str, scratch: Path, precision: Precision) -> Path:
    """A folder in `scratch` with the full weights; of full fine-tuning its files are copied, and nothing that is
    next to them."""
    fetch_trained(run, model, scratch / "trained", base=base)
    if not model.is_adapter:
        for path in (scratch / "trained").rglob("*"):
            if path.is_file() and path.suffix not in _OF_A_MODEL:
                path.unlink()
        return scratch / "trained"
    from paft_ray.training.export import merge_adapter

    merge_adapter(base, str(scratch / "trained"), str(scratch / "merged"), precision=precision)
    return scratch / "merged"
