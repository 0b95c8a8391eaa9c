"""ray.data.llm still has what paft_ray/compat/ray_llm_processor.py changes."""

import inspect

import pytest
from ray.data.llm import vLLMEngineProcessorConfig
from ray.llm._internal.batch.processor import vllm_engine_proc
from ray.llm._internal.batch.processor.base import Processor
from ray.llm._internal.batch.stages import base
from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStage, vLLMEngineStageUDF

from paft_ray.compat.ray_llm_processor import ERROR_COLUMN, replace_engine, without_telemetry


class Proxy:
    pass


def processor() -> Processor:
    stage = vLLMEngineStage(
        fn_constructor_kwargs={"model": "m", "engine_kwargs": {}, "placement_group_config": {"bundles": [{"CPU": 2}]}},
        map_batches_kwargs={"compute": "pool", "runtime_env": {"env_vars": {"A": "1"}}},
    )
    return Processor(vLLMEngineProcessorConfig(model_source="m"), [stage])


def test_rows_with_an_error_pass_the_engine() -> None:
    assert f'row.get("{ERROR_COLUMN}", "") != ""' in inspect.getsource(base.StatefulStageUDF.__call__)
    assert f'"{ERROR_COLUMN}": error_msg' in inspect.getsource(vLLMEngineStageUDF._generate_with_error_handling)


def test_telemetry_is_made_by_the_function_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made = vllm_engine_proc.get_or_create_telemetry_agent
    assert "= get_or_create_telemetry_agent()" in inspect.getsource(vllm_engine_proc.build_vllm_engine_processor)
    with without_telemetry():
        vllm_engine_proc.get_or_create_telemetry_agent().push_telemetry_report(object())
        assert vllm_engine_proc.get_or_create_telemetry_agent is not made
    assert vllm_engine_proc.get_or_create_telemetry_agent is made


def test_where_telemetry_has_moved_the_processor_is_built_all_the_same(
    monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(vllm_engine_proc, "get_or_create_telemetry_agent")
    with without_telemetry():
        assert not hasattr(vllm_engine_proc, "get_or_create_telemetry_agent")
    assert "get_or_create_telemetry_agent is not in the installed version" in warnings.text


def test_the_engines_stage_gets_numbered_actors_without_resources() -> None:
    made = processor()
    replace_engine(made, Proxy, weights={"a": 1})
    (name,) = made.list_stage_names()
    stage = made.get_stage_by_name(name)
    assert stage.fn is Proxy
    assert stage.fn_constructor_kwargs == {
        "model": "m",
        "engine_kwargs": stage.fn_constructor_kwargs["engine_kwargs"],
        "weights": {"a": 1},
    }
    given = dict(stage.map_batches_kwargs)
    names = [given["ray_remote_args_fn"]()["name"].rpartition("-") for _ in range(3)]
    assert [number for _, _, number in names] == ["0", "1", "2"]
    assert len({prefix for prefix, _, _ in names}) == 1
    del given["ray_remote_args_fn"]
    assert given == {"compute": "pool", "num_cpus": 0, "max_restarts": 0}


def test_a_processor_without_rays_engine_is_an_error() -> None:
    with pytest.raises(AssertionError, match="0 stages"):
        replace_engine(Processor(vLLMEngineProcessorConfig(model_source="m"), []), Proxy)
