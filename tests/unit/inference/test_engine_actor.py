"""Batches go to another replica once their own is lost. Ray's actors are stood for by plain objects."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from paft_ray.inference import engine_actor
from paft_ray.inference.engine_actor import EngineProxy

WEIGHTS: dict[str, Any] = {"base": object()}


class Actor:
    """Answers a batch with its own name, unless it is lost; remembers what it was asked. `gone`: before it was asked;
    `starts`: it has started."""

    def __init__(self, name: str, error: RayError | None = None, *, gone: bool = False, starts: bool = True) -> None:
        self.name, self.error, self.gone, self.starts = name, error, gone, starts
        self.asked: list[dict[str, Any]] = []
        self.answer = SimpleNamespace(remote=self._answer)
        self.check = SimpleNamespace(remote=self._check)
        self.start = SimpleNamespace(remote=lambda weights, arguments: self)

    async def _answer(self, batch: dict[str, Any], weights: dict[str, Any] | None) -> dict[str, Any]:
        await self._check()
        self.asked.append(batch)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return {**batch, "by": self.name, "weights": weights}

    async def _check(self) -> None:
        if self.gone:
            raise ActorDiedError


def started(actor: Actor) -> None:
    """In place of `ray.get` of a start."""
    if not actor.starts:
        raise ActorDiedError


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Codes that the process was to end with."""
    codes: list[int] = []
    monkeypatch.setattr(engine_actor.os, "_exit", codes.append)
    return codes


def proxy(monkeypatch: pytest.MonkeyPatch, actors: list[Actor], number: int = 0) -> EngineProxy:
    context = SimpleNamespace(get_actor_name=lambda: f"engine-proxy-0-{number}")
    fake = SimpleNamespace(get_runtime_context=lambda: context, get=started)
    monkeypatch.setattr(engine_actor, "ray", fake)
    return EngineProxy(actors=actors, weights=WEIGHTS)


def answers(found: EngineProxy, num: int = 1) -> list[str]:
    """Who answers batches that are asked at once."""

    async def one(number: int) -> str:
        (answered,) = [row async for row in found({"number": number})]
        assert answered["weights"] in (None, WEIGHTS)
        assert (answered["weights"] is None) == (answered["by"] == found.own.name), "a replica knows its own stage's"
        return str(answered["by"])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(one, range(num)))

    return asyncio.run(all_of_them())


def test_each_proxy_asks_a_replica_of_its_own(monkeypatch: pytest.MonkeyPatch, exits: list[int]) -> None:
    actors = [Actor("first"), Actor("second")]
    assert [answers(proxy(monkeypatch, actors, number)) for number in range(3)] == [["first"], ["second"], ["first"]]


def test_batches_of_a_lost_replica_are_asked_of_the_next_one(monkeypatch: pytest.MonkeyPatch, exits: list[int]) -> None:
    actors = [Actor("first", ActorDiedError()), Actor("second"), Actor("third")]
    found = proxy(monkeypatch, actors)
    assert answers(found, 3) == ["second"] * 3, "three that were in progress lose one replica"
    assert answers(found) == ["second"]
    assert (len(actors[0].asked), len(actors[2].asked), exits) == (3, 0, [])


def test_a_replica_that_was_lost_before_costs_a_batch_nothing(
    monkeypatch: pytest.MonkeyPatch, exits: list[int]
) -> None:
    actors = [Actor("first", ActorDiedError()), Actor("second", gone=True), Actor("third")]
    assert answers(proxy(monkeypatch, actors), 2) == ["third"] * 2
    assert exits == []
    every = [Actor(name, gone=True) for name in ("first", "second", "third")]
    with pytest.raises(ActorDiedError):
        answers(proxy(monkeypatch, every))
    assert exits == [1]


def test_a_replica_that_is_lost_while_it_starts_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, exits: list[int]
) -> None:
    actors = [Actor("first", starts=False), Actor("second")]
    assert answers(proxy(monkeypatch, actors)) == ["second"]
    assert exits == []
    with pytest.raises(ActorDiedError):
        proxy(monkeypatch, [Actor("only", starts=False)])
    assert exits == [1]


def test_what_costs_two_replicas_is_asked_of_no_third(monkeypatch: pytest.MonkeyPatch, exits: list[int]) -> None:
    actors = [Actor("first", ActorDiedError()), Actor("second", ActorDiedError()), Actor("third")]
    with pytest.raises(ActorDiedError):  # the process would have ended
        answers(proxy(monkeypatch, actors))
    assert (exits, actors[2].asked) == ([1], [])


def test_a_single_replica_that_is_lost_ends_the_process(monkeypatch: pytest.MonkeyPatch, exits: list[int]) -> None:
    actor = Actor("only", ActorDiedError())
    with pytest.raises(ActorDiedError):
        answers(proxy(monkeypatch, [actor]))
    assert (exits, len(actor.asked)) == ([1], 1)


def test_what_an_engine_refuses_is_asked_of_no_other(monkeypatch: pytest.MonkeyPatch, exits: list[int]) -> None:
    actors = [Actor("first", RayTaskError("answer", "refused", ValueError("refused"))), Actor("second")]
    with pytest.raises(ValueError, match="refused"):
        answers(proxy(monkeypatch, actors))
    assert (exits, actors[1].asked) == ([], [])
