"""vLLM and Ray's engine still have what paft_ray/compat/{vllm,vllm_engine,vllm_preload}.py rely on."""

import ast
import asyncio
import dataclasses
import importlib.util
import inspect
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paft_ray.compat import vllm as compat
from paft_ray.compat.vllm import WORKER_EXTENSION


class Engine:
    """Empties its cache at the last of `answers`."""

    def __init__(self, *answers: bool) -> None:
        self.answers, self.calls = list(answers), []

    async def collective_rpc(self, method: str, **kwargs: object) -> None:
        self.calls.append((method, kwargs))

    async def reset_prefix_cache(self) -> bool:
        self.calls.append("reset")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_what_is_preloaded_is_there() -> None:
    spec = importlib.util.find_spec(compat.PRELOAD)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names = [name for name in names if name.startswith("vllm")]
    assert len(names) == 3
    assert all(importlib.util.find_spec(name) for name in names)
    assert any("libgomp" in library for library in compat.preloaded_libraries())


def test_engines_start_in_the_context_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    import vllm.v1.engine.utils as engines

    monkeypatch.setattr(engines, "get_mp_context", engines.get_mp_context)
    assert "context = get_mp_context()" in inspect.getsource(engines.CoreEngineProcManager)
    context = multiprocessing.get_context("forkserver")
    assert compat.start_engines_in(context)
    assert engines.get_mp_context() is context


def test_where_vllms_context_has_moved_engines_are_spawned(
    monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    import vllm.v1.engine.utils as engines

    monkeypatch.delattr(engines, "get_mp_context")
    assert not compat.start_engines_in(multiprocessing.get_context("forkserver"))
    assert "get_mp_context is not in the installed version" in warnings.text


def test_rays_stage_and_vllms_engine_have_what_a_change_of_weights_calls() -> None:
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.worker.cpu_worker import CPUWorker
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    from paft_ray.compat.ray_llm_engine_stage import EngineStage

    assert "model" in inspect.signature(EngineStage.__init__).parameters
    assert "self.llm = vLLMEngineWrapper(" in inspect.getsource(EngineStage.__init__)
    assert "self.llm.engine." in inspect.getsource(EngineStage.udf)
    assert inspect.isasyncgenfunction(EngineStage.udf)
    assert {"method", "kwargs"} <= inspect.signature(AsyncLLM.collective_rpc).parameters.keys()
    assert inspect.signature(AsyncLLM.reset_prefix_cache).return_annotation in (bool, "bool")
    assert hasattr(CPUWorker, "reload_weights")
    assert "weights_path" in inspect.signature(GPUModelRunner.reload_weights).parameters


def test_new_weights_are_answered_from_an_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from paft_ray.compat import ray_llm_engine_stage

    monkeypatch.setattr(ray_llm_engine_stage, "_RESET_WAIT_S", 0)
    engine = Engine(False, False, True)
    asyncio.run(ray_llm_engine_stage.load_weights(SimpleNamespace(llm=SimpleNamespace(engine=engine)), "/m"))
    assert engine.calls == [
        ("reload_weights", {"kwargs": {"weights_path": "/m"}}),
        ("refresh_tied_heads", {}),
        *["reset"] * 3,
    ]


def test_vllms_worker_takes_on_what_refreshes_a_tied_head() -> None:
    from torch import nn
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.utils.import_utils import resolve_obj_by_qualname
    from vllm.v1.worker.cpu_worker import CPUWorker

    extension = resolve_obj_by_qualname(WORKER_EXTENSION)
    assert "worker_extension_cls" in {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    assert not hasattr(CPUWorker, "refresh_tied_heads")
    packed: list[Any] = []
    head, model = ParallelLMHead.__new__(ParallelLMHead), nn.Module()
    nn.Module.__init__(head)
    head.quant_method = SimpleNamespace(process_weights_after_loading=packed.append)
    model.head, model.other = head, nn.Linear(1, 1)
    worker = extension()
    worker.model_runner = SimpleNamespace(get_model=lambda: model)
    worker.refresh_tied_heads()
    assert packed == [head]


def test_a_cache_that_is_kept_after_a_change_of_weights_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM says it by returning False, which was dropped once: the next model would answer from this one's values."""
    from paft_ray.compat import ray_llm_engine_stage

    monkeypatch.setattr(ray_llm_engine_stage, "_RESET_WAIT_S", 0)
    with pytest.raises(RuntimeError, match="kept its prefix cache"):
        asyncio.run(ray_llm_engine_stage.load_weights(SimpleNamespace(llm=SimpleNamespace(engine=Engine(False))), "/m"))


def test_an_engine_whose_process_is_gone_ends_its_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    from paft_ray.compat.ray_llm_engine_stage import process_ends_with_engine

    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with process_ends_with_engine():
        raise EngineDeadError
    with pytest.raises(ValueError, match="other"), process_ends_with_engine():
        raise ValueError("other")
    assert codes == [1]
