"""`engine.adapters`: one engine serves trained adapters upon their base and answers as with merged weights; `auto`
takes what costs less."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from paft_ray.config import Config, EngineConfig, EvaluateConfig
from paft_ray.robustness.models import given_models, keep_adapter
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.manifests import ModelKey, TrainedModel
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from paft_ray.training.export import merge_adapter
from tests.chaos.tiny import save_tiny_model
from tests.support.label_reference import LONGEST, apart, cells, label_logprobs, label_reference
from tests.support.peft_adapter import write_peft_adapter

TOLERANCE = 0.02  # nats
NUM_TEMPLATES, NUM_EXAMPLES = 4, 6


@pytest.mark.parametrize("adapters", ["lora", "auto"])
def test_adapters_upon_one_base_answer_as_merged(ray_session: None, tmp_path: Path, adapters: str) -> None:
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.stages.evaluate import evaluate_models

    base = tmp_path / "base"
    save_tiny_model(base)
    config = Config.model_validate(
        {
            "name": "adapters",
            "task": "demo",
            "storage": str(tmp_path),
            "model": {"id": str(base), "max_prompt_tokens": LONGEST},
            "engine": EngineConfig(
                precision="fp32",
                adapters=adapters,
                timeout_s=300,
                batch_rows=1,  # rows of all models are on their way together
            ).model_dump(),
            "evaluate": EvaluateConfig(latency_sample_rows=0, max_answer_tokens=2).model_dump(),
        }
    )
    templates, examples = cells(NUM_TEMPLATES, NUM_EXAMPLES)
    store = Store.at(str(tmp_path / "out"))
    models: dict[ModelKey, TrainedModel | None] = {ModelKey("base", -1): None}
    wanted = {"base": label_reference(base, templates, examples)}
    for seed, rank in enumerate((4, 12)):
        folder = write_peft_adapter(tmp_path / f"adapter{rank}", str(base), seed=seed, rank=rank)
        (given,) = given_models(
            [f"rank{rank}={folder}"], base=str(base), chat=False, config=config, task=load_task("demo")
        )
        (trained,) = keep_adapter(given, store, base=str(base)).trained
        models[trained.model.key] = trained.model
        merge_adapter(str(base), str(folder), str(tmp_path / f"merged{rank}"), precision="fp32")
        wanted[f"rank{rank}"] = label_reference(tmp_path / f"merged{rank}", templates, examples)
    resolved = ResolvedRun.of(config).with_model()
    found = evaluate_models(
        resolved, models, templates, examples, AnswerCache.of(store, ""), dict.fromkeys(models, store)
    )
    assert found.manifest["engine_starts"] == 1, "the engine that measures answers"
    if adapters == "auto":
        choice = found.manifest["adapters"]
        assert min(choice["merge_s"], choice["lora_s"]) > 0
        assert choice["way"] == ("lora" if choice["lora_s"] < choice["merge_s"] else "merge")
    _as_wanted({key.arm: label_logprobs(_of(found.outcomes, key)) for key in models}, wanted)
    assert not list(tmp_path.glob("**/merged-*")), "nothing is left of what the engine was given"


def _of(outcomes, key: ModelKey):
    import pyarrow.compute as pc

    return outcomes.filter(pc.equal(outcomes["arm"], key.arm))


def _as_wanted(answered: Mapping[str, Mapping], wanted: Mapping[str, Mapping]) -> None:
    assert answered.keys() == wanted.keys()
    for arm, labels in wanted.items():
        assert apart(answered[arm], labels) < TOLERANCE, arm
    others = [(one, other) for one in wanted for other in wanted if one < other]
    assert all(apart(wanted[one], wanted[other]) > 5 * TOLERANCE for one, other in others), "they say different things"
