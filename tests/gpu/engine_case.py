"""Cases with an engine: its answers beside transformers', and the small pipeline from prepare to a served export."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from paft_ray.cli.session import ray_session
from paft_ray.config import EngineConfig
from paft_ray.models.local import find_model
from paft_ray.models.resolve import load_tokenizer
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.stages.prepare import examples_of
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from paft_ray.training.export import merge_adapter
from tests.chaos.tiny import save_tiny_model
from tests.gpu.plan import Case
from tests.support.label_reference import LONGEST, apart, cells, label_logprobs, label_reference, model_config
from tests.support.peft_adapter import write_peft_adapter
from tests.support.small_run import ONE_ARM
from tests.support.vllm_server import Server, serving

NUM_TEMPLATES, NUM_EXAMPLES = 10, 20
_SERVED, _RANK = 16, 4


def engine(case: Case, folder: Path) -> dict[str, Any]:
    """Largest differences, in nats, of the labels' log-probabilities from those of transformers in fp32: of the weights
    that the engine started with, of an adapter's merged ones loaded into it, and of the first ones loaded again; and
    how far the adapter moves them. Rows are (template, example) cells of the demo's task."""
    from paft_ray.inference.model_weights import ModelWeights

    base, _, merged = _models(case, folder)
    places = {"start": None, "adapter": merged, "again": base}
    weights = [
        ModelWeights(key={"at": at}, materialize=partial(nullcontext, str(place)) if place else None)
        for at, place in places.items()
    ]
    return _beside_transformers(case, folder, weights)


def adapters(case: Case, folder: Path) -> dict[str, Any]:
    """The same of an engine that serves the adapter upon its base."""
    from paft_ray.inference.model_weights import ModelWeights

    _, adapter, _ = _models(case, folder)
    materialize = partial(nullcontext, str(adapter))
    served = ModelWeights(key={"at": "adapter"}, materialize=materialize, adapter_rank=_RANK)
    return _beside_transformers(case, folder, [ModelWeights(key={"at": "start"}), served])


def pipeline(case: Case, folder: Path) -> dict[str, Any]:
    """Rows that were answered, exit code of `paft audit`, and the largest difference, in nats, of a right label's
    log-probability at vLLM's own server of the exported weights from that of the evaluation."""
    model, runs = folder / f"{case.name}-base", folder / f"{case.name}-runs"
    save_tiny_model(model)
    settings = (f"storage={runs}", "name=small", f"model.id={model}", f"engine.precision={case.precision}", *ONE_ARM)
    settings += (
        f"engine.num_gpus={int(case.device == 'cuda')}",
        f"train.gpus_per_worker={int(case.device == 'cuda')}",
    )
    _paft("run", "jobs/configs/demo.yaml", *(part for setting in settings for part in ("--set", setting)))
    audit = _paft("audit", str(runs / "small"), check=False).returncode
    line = _paft("export", str(runs / "small"), "--out", str(folder / f"{case.name}-export")).stdout.splitlines()[-1]
    run = Store(str(runs / "small"))
    rows = [row for row in run.read_table("evaluate/outcomes.parquet").to_pylist() if row["arm"] == "paft"]
    with serving(line, folder / f"{case.name}-server.log") as url:
        served = _served(Server(line, url), run, model, rows[:: max(1, len(rows) // _SERVED)])
    return {"rows": len(rows), "audit": audit, "served": served}


def _places(case: Case, folder: Path) -> tuple[Path, ...]:
    return tuple(folder / f"{case.name}-{what}" for what in ("base", "adapter", "merged"))


def _models(case: Case, folder: Path) -> tuple[Path, ...]:
    """(Base, adapter, the base with the adapter merged into it), written."""
    base, adapter, merged = _places(case, folder)
    save_tiny_model(base)
    write_peft_adapter(adapter, str(base), rank=_RANK)
    merge_adapter(str(base), str(adapter), str(merged), precision="fp32")
    return base, adapter, merged


def _beside_transformers(case: Case, folder: Path, weights: Sequence[Any]) -> dict[str, Any]:
    """What one engine answers with each of the weights, beside transformers. Their keys say where the engine has them
    from: `adapter` ones are those of the merged model, all others the base's."""
    templates, examples = cells(NUM_TEMPLATES, NUM_EXAMPLES)
    base, _, merged = _places(case, folder)
    with ray_session():
        # Ray reads its settings when it is imported.
        from paft_ray.inference.answer_cache import AnswerCache
        from paft_ray.inference.evaluator import evaluate

        results, _ = evaluate(
            name=case.name,
            task=load_task("demo"),
            templates=templates,
            examples=examples,
            model=model_config(base),
            base=find_model(str(base), None),
            models=weights,
            cache=AnswerCache.of(Store(str(folder / f"{case.name}-answers")), ""),
            engine=EngineConfig(num_gpus=int(case.device == "cuda"), precision=case.precision, timeout_s=case.limit_s),
        )
    plain, moved = (label_reference(place, templates, examples, case.device) for place in (base, merged))
    answered = {
        model.key["at"]: label_logprobs(result.outcomes) for model, result in zip(weights, results, strict=True)
    }
    return {
        "rows": len(answered["start"]),
        **{at: apart(found, moved if at == "adapter" else plain) for at, found in answered.items()},
        "adapter_moves": apart(moved, plain),
    }


def _served(server: Server, run: Store, model: Path, rows: Sequence[Mapping[str, Any]]) -> float:
    encoder = Encoder(load_task("demo"), load_tokenizer(str(model)), max_prompt_tokens=LONGEST)
    prompts = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet")).templates
    templates, examples = {t.id: t for t in prompts}, {e.id: e for e in examples_of(run, "test")}
    gaps = []
    for row in rows:
        encoded = encoder.encode(templates[row["template_id"]], examples[row["example_id"]])
        labels = encoder.label_ids(encoded.after_newline)
        _, scores = server.choice(encoded.prompt_ids, labels)
        gaps.append(abs(scores[row["answer"]] - row["logprob"]))
    return max(gaps)


def _paft(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paft_ray", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    if check and done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], flush=True)
        raise SystemExit(f"paft {arguments[0]} ended with {done.returncode}")
    return done


KINDS = {"engine": engine, "adapters": adapters, "pipeline": pipeline}
