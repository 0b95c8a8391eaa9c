"""Engines that the inference stages of one command share: a start takes as long as thousands of short answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from paft_ray.config import EngineConfig
from paft_ray.errors import StageError
from paft_ray.inference.engine_actor import EngineActor, Engines, actor_options
from paft_ray.inference.engine_errors import is_process_failure
from paft_ray.inference.model_weights import ModelCost
from paft_ray.models.reference import ModelFiles

_CHECK_S = 30  # as long as a start: on a machine under load a healthy engine answers late
_SAY_S = 2  # a lost one says so at once, one that starts says nothing
_STOP_S = 10


class EnginePool:
    """The engines that run now, all alike. They belong to the driver, and end with it however it ends."""

    def __init__(self, base: ModelFiles | None = None, max_model_len: int = 0) -> None:
        """`max_model_len`: most tokens, with the answer, of the requests to come for the model `base`."""
        self.base, self.max_model_len = base, max_model_len
        self.running: Engines | None = None

    def engines(
        self, base: ModelFiles, settings: EngineConfig, max_model_len: int, adapter_rank: int = 0
    ) -> tuple[Engines, bool]:
        """(Engines of the model `base`, whether this call starts any). Those that are gone are replaced; others, and
        those of which one does not answer, are stopped first."""
        if self.running is not None and self.running.serve(base, settings, max_model_len, adapter_rank):
            lost, is_late = self._check()
            if not is_late and len(lost) < len(self.running.actors):
                for actor in lost:
                    ray.kill(actor)  # its engine may be gone while it still holds what it took
                self.running = replace(
                    self.running,
                    actors=tuple(_actor(base, settings) if a in lost else a for a in self.running.actors),
                )
                return self.running, bool(lost)
        self.stop()
        longest = max(max_model_len, self.max_model_len if base == self.base else 0)
        actors = tuple(_actor(base, settings) for _ in range(settings.replicas))
        self.running = Engines(
            base=base, settings=settings, max_model_len=longest, actors=actors, adapter_rank=adapter_rank
        )
        return self.running, True

    def cost(self, weights: str) -> ModelCost:
        """What a model took, by the id of its weights, since the engines last began to serve; of those that answered
        for it and are still there. Raises `StageError` where none is."""
        found = []
        for actor in self.running.actors if self.running is not None else ():
            with suppress(RayError):
                known = ray.get(actor.costs.remote(), timeout=_CHECK_S)
                found += [known[weights]] if weights in known else []
        if not found:
            raise StageError("no engine is left that answered")
        return ModelCost.of_replicas(found)

    def lost(self) -> list[RayError]:
        """How the engines that are lost have ended, as far as they say at once."""
        return [error for error in self._check(_SAY_S)[0].values() if is_process_failure(error)]

    def stop(self) -> None:
        """Ends the engines, and frees what they take."""
        if self.running is not None:
            asked = [actor.stop.remote() for actor in self.running.actors]
            try:
                ray.wait(asked, num_returns=len(asked), timeout=_STOP_S)
            finally:
                self.kill()

    def kill(self) -> None:
        """Ends the engines at once."""
        engines, self.running = self.running, None
        for actor in engines.actors if engines is not None else ():
            ray.kill(actor)

    def _check(self, timeout_s: float = _CHECK_S) -> tuple[dict[Any, RayError], bool]:
        """(Engines that are gone, with their errors; whether one does not answer now)."""
        actors = self.running.actors if self.running is not None else ()
        if not actors:
            return {}, False
        checks = [actor.check.remote() for actor in actors]
        _, late = ray.wait(checks, num_returns=len(checks), timeout=timeout_s)
        errors = {}
        for actor, check in zip(actors, checks, strict=True):
            try:
                if check not in late:
                    ray.get(check)
            except RayError as error:
                errors[actor] = error.with_traceback(None)  # whose frames hold the actor
        return errors, bool(late)


def _actor(base: ModelFiles, settings: EngineConfig) -> Any:
    """The actor of one more replica."""
    return ray.remote(EngineActor).options(**actor_options(settings)).remote(base)


_OF_COMMAND: ContextVar[EnginePool | None] = ContextVar("engines", default=None)


@contextmanager
def shared_engines(base: ModelFiles, max_model_len: int) -> Iterator[EnginePool]:
    """Inference stages in the block use each other's engines; none is left at its end. `max_model_len`: most tokens,
    with the answer, of a request to the model `base`."""
    with _stopped_at_the_end(EnginePool(base, max_model_len)) as pool:
        token = _OF_COMMAND.set(pool)
        try:
            yield pool
        finally:
            _OF_COMMAND.reset(token)


@contextmanager
def kept_engines(base: ModelFiles) -> Iterator[EnginePool]:
    """The engines that the command shares; where it shares none, inference in the block does."""
    shared = _OF_COMMAND.get()
    with shared_engines(base, 0) if shared is None else nullcontext(shared) as pool:
        yield pool


@contextmanager
def stage_engines() -> Iterator[EnginePool]:
    """The engines of one inference stage: those that it shares, else its own, of which none is left at the end of the
    block. None at all is left where the block ends with an error, for they may still compute."""
    shared = _OF_COMMAND.get()
    with _stopped_at_the_end(EnginePool()) if shared is None else nullcontext(shared) as pool:
        try:
            yield pool
        except BaseException:
            pool.kill()
            raise


@contextmanager
def _stopped_at_the_end(pool: EnginePool) -> Iterator[EnginePool]:
    try:
        yield pool
    finally:
        pool.stop()
