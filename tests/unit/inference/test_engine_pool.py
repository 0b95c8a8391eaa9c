"""When engines are used again, and when they end. Ray's actors are stood for by plain objects."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from paft_ray.config import EngineConfig
from paft_ray.errors import StageError
from paft_ray.inference import engine_pool
from paft_ray.inference.engine_pool import EnginePool, kept_engines, shared_engines, stage_engines
from paft_ray.inference.model_weights import ModelCost
from paft_ray.models.reference import ModelFiles, ModelReference

ENGINE = EngineConfig(replicas=2, precision="fp32")
BASE = ModelFiles(reference=ModelReference(id="m", revision=None, identity={"files": {}}), path="/m")
OTHER = replace(BASE, path="/other")


class Actor:
    """Knows what was asked of it. `health`: what `check` raises; a text: it does not answer."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.health: RayError | str | None = None
        self.check = SimpleNamespace(remote=lambda: self.health)
        self.stop = SimpleNamespace(remote=lambda: self.calls.append("stop"))
        self.spent: dict[str, ModelCost] = {}
        self.costs = SimpleNamespace(remote=lambda: self.health or self.spent)


class Ray:
    """The functions of Ray that a pool calls; `made`: the actors so far."""

    def __init__(self) -> None:
        self.made: list[Actor] = []
        self.options: dict[str, Any] = {}

    def remote(self, cls: type) -> Any:
        return SimpleNamespace(options=self._with)

    def _with(self, **options: Any) -> Any:
        self.options = options
        return SimpleNamespace(remote=self._make)

    def _make(self, base: ModelFiles) -> Actor:
        self.made.append(Actor())
        return self.made[-1]

    def wait(self, references: Sequence[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return [r for r in references if r != "hangs"], [r for r in references if r == "hangs"]

    def get(self, reference: Any, timeout: float | None = None) -> Any:
        if isinstance(reference, RayError):
            raise reference
        if reference == "hangs":
            assert timeout, "it would wait for ever"
            raise GetTimeoutError
        return reference

    def kill(self, actor: Actor) -> None:
        actor.calls.append("kill")


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    fake = Ray()
    monkeypatch.setattr(engine_pool, "ray", fake)
    monkeypatch.setattr("paft_ray.inference.engine_actor.ray", SimpleNamespace(nodes=lambda: [{"Alive": True}]))
    return fake


def calls(actors: Sequence[Actor]) -> list[list[str]]:
    return [actor.calls for actor in actors]


def test_a_stage_uses_the_engines_of_the_one_before_and_none_is_left_at_the_end(ray: Ray) -> None:
    with shared_engines(BASE, 0):
        with stage_engines() as pool:
            first, started = pool.engines(BASE, ENGINE, 64)
            assert started
        assert calls(ray.made) == [[], []]
        with stage_engines() as pool:
            assert pool.engines(BASE, ENGINE, 40) == (first, False)
    assert calls(ray.made) == [["stop", "kill"]] * 2
    with stage_engines() as pool:
        assert pool.running is None, "after the block nothing is shared"


def test_inference_in_a_block_shares_the_commands_engines_or_those_of_the_block(ray: Ray) -> None:
    with kept_engines(BASE) as kept:
        with stage_engines() as pool:
            assert pool is kept
            pool.engines(BASE, ENGINE, 64)
        with stage_engines() as pool:
            assert pool.engines(BASE, ENGINE, 64)[1] is False
    assert calls(ray.made) == [["stop", "kill"]] * 2
    with shared_engines(BASE, 0) as shared:
        with kept_engines(BASE) as kept:
            assert kept is shared
            kept.engines(BASE, ENGINE, 64)
        assert calls(ray.made[2:]) == [[], []], "they are the command's"


def test_the_cost_of_a_model_is_that_of_the_engines_that_answered_for_it(ray: Ray) -> None:
    pool = EnginePool()
    with pytest.raises(StageError, match="no engine is left"):
        pool.cost("a")
    pool.engines(BASE, ENGINE, 64)
    ray.made[0].spent = {"a": ModelCost(load_s=2, answer_s=6), "b": ModelCost(load_s=0, answer_s=9)}
    ray.made[1].spent = {"a": ModelCost(load_s=4, answer_s=4)}
    assert pool.cost("a") == ModelCost(load_s=3, answer_s=5)
    assert pool.cost("b") == ModelCost(load_s=0, answer_s=9)
    for health in ("hangs", ActorDiedError()):
        ray.made[0].health = health
        assert pool.cost("a") == ModelCost(load_s=4, answer_s=4)
    with pytest.raises(StageError, match="no engine is left"):
        pool.cost("b")


def test_adapters_take_an_engine_with_room_for_them_which_then_serves_others_too(ray: Ray) -> None:
    pool = EnginePool(BASE, 64)
    first, _ = pool.engines(BASE, ENGINE, 64)
    served, started = pool.engines(BASE, ENGINE, 64, 8)
    assert (started, served.adapter_rank) == (True, 8)
    assert calls(first.actors)[0][-1] == "kill"
    assert pool.engines(BASE, ENGINE, 64) == (served, False)
    assert pool.engines(BASE, ENGINE, 64, 4) == (served, False)
    assert pool.engines(BASE, ENGINE, 64, 16)[1]


@pytest.mark.parametrize(
    ("base", "engine", "max_model_len"),
    [(OTHER, ENGINE, 64), (BASE, ENGINE.model_copy(update={"batch_rows": 8}), 64), (BASE, ENGINE, 65)],
)
def test_another_model_other_settings_or_longer_requests_take_engines_of_their_own(
    ray: Ray, base: ModelFiles, engine: EngineConfig, max_model_len: int
) -> None:
    pool = EnginePool()
    pool.engines(BASE, ENGINE, 64)
    found, started = pool.engines(base, engine, max_model_len)
    assert started
    assert (found.base, found.settings, found.max_model_len) == (base, engine, max_model_len)
    assert calls(ray.made) == [["stop", "kill"]] * 2 + [[]] * 2, "the first make place for them"


def test_engines_of_the_models_command_take_its_longest_request_and_others_their_own(ray: Ray) -> None:
    pool = EnginePool(BASE, 200)
    assert pool.engines(OTHER, ENGINE, 64)[0].max_model_len == 64
    assert pool.engines(BASE, ENGINE, 64)[0].max_model_len == 200
    assert pool.engines(BASE, ENGINE, 200)[1] is False


GONE = [ActorDiedError(), RayTaskError("check", "dead", ValueError("dead"))]


@pytest.mark.parametrize("health", GONE)
def test_an_engine_that_is_gone_is_replaced_and_the_others_stay(ray: Ray, health: RayError) -> None:
    pool = EnginePool()
    pool.engines(BASE, ENGINE, 64)
    ray.made[1].health = health
    found, started = pool.engines(BASE, ENGINE, 64)
    assert started
    assert found.actors == (ray.made[0], ray.made[2])
    assert calls(ray.made) == [[], ["kill"], []], "what it still holds is given back"
    assert pool.engines(BASE, ENGINE, 64) == (found, False)


@pytest.mark.parametrize("health", [(None, "hangs"), ("hangs", GONE[0]), (GONE[0], GONE[1])])
def test_engines_of_which_one_hangs_or_all_are_gone_are_not_used_again(ray: Ray, health: Sequence[Any]) -> None:
    pool = EnginePool()
    pool.engines(BASE, ENGINE, 64)
    ray.made[0].health, ray.made[1].health = health
    assert pool.engines(BASE, ENGINE, 64)[1]
    assert [actor[-1:] for actor in calls(ray.made)] == [["kill"], ["kill"], [], []]


def test_lost_engines_are_those_whose_process_is_gone(ray: Ray) -> None:
    pool = EnginePool()
    assert pool.lost() == []
    pool.engines(BASE, ENGINE, 64)
    assert pool.lost() == []
    ray.made[0].health, ray.made[1].health = "hangs", GONE[0]
    assert pool.lost() == [GONE[0]]
    ray.made[0].health = GONE[1]
    assert pool.lost() == [GONE[0]], "what an engine refuses is no loss"


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_stage_that_fails_leaves_no_engine(ray: Ray, shared: bool, error: type[BaseException]) -> None:
    def fail() -> None:
        with stage_engines() as pool:
            pool.engines(BASE, ENGINE, 64)
            raise error

    if shared:
        with shared_engines(BASE, 0), pytest.raises(error):
            fail()
    else:
        with pytest.raises(error):
            fail()
    assert calls(ray.made) == [["kill"]] * 2


def test_a_command_that_is_interrupted_between_its_stages_leaves_no_engine(ray: Ray) -> None:
    def interrupted() -> None:
        with shared_engines(BASE, 0):
            with stage_engines() as pool:
                pool.engines(BASE, ENGINE, 64)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert calls(ray.made) == [["stop", "kill"]] * 2, "idle ones are asked first: what they have on disk goes, too"


def test_each_replica_takes_what_the_configuration_says(ray: Ray) -> None:
    EnginePool().engines(BASE, ENGINE.model_copy(update={"num_cpus": 3, "num_gpus": 1, "tensor_parallel": 2}), 64)
    assert len(ray.made) == 2
    assert (ray.options["num_cpus"], ray.options["num_gpus"], ray.options["max_restarts"]) == (6, 2, 0)
    assert "OMP_NUM_THREADS" not in ray.options["runtime_env"]["env_vars"]
