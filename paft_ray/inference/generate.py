"""Requests -> answers, whatever happens to the engine: answers are stored as they arrive, only requests without one are
sent, limits end what hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.exceptions import GetTimeoutError, RayError

from paft_ray.config import EngineConfig, engine_key
from paft_ray.errors import StageError
from paft_ray.inference.answer_cache import AnswerCache, BufferedWriter, identity
from paft_ray.inference.arrived import Arrived
from paft_ray.inference.engine import ANSWERS, answers, take_nodes
from paft_ray.inference.engine_actor import Engines
from paft_ray.inference.engine_errors import failure_reason, is_process_failure, log_dir
from paft_ray.inference.engine_pool import EnginePool, stage_engines
from paft_ray.inference.model_weights import ModelWeights
from paft_ray.inference.vllm_args import check_adapter_rank
from paft_ray.log import get_logger, log_progress
from paft_ray.models.reference import ModelFiles
from paft_ray.placement import on_this_node

DATA_CPUS = 0.25
"""Logical CPUs of a task that prepares requests."""
SHOWN_FAILURES = 5
"""Failed rows that are named."""
_log = get_logger(__name__)
_POLL_EVERY_S = 1
_BAR_EVERY_S = 1.0
_SAY_EVERY_S = _LOOK_EVERY_S = 15
_SAY_STALLED_AFTER_S = 60


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The answers of one inference stage, and what they cost."""

    answers: pa.Table
    """Schema `ANSWERS` without `request` and `error`; failed rows are absent."""
    num_failed: int
    failures: list[dict[str, str]]
    """`weights`, `key` and `error` of the first failed rows."""
    num_kept: int
    """Rows that an earlier attempt had answered."""
    time_s: float
    """Seconds, starts of the engine included."""
    nodes: tuple[str, ...]
    """Address of the node of each engine replica that answered."""
    engine_starts: int
    """0 where all rows had been answered before, or an engine of an earlier stage answered them."""


def generate(
    requests: ray.data.Dataset,
    *,
    name: str,
    base: ModelFiles,
    models: Sequence[ModelWeights],
    cache: AnswerCache,
    engine: EngineConfig,
    max_model_len: int,
    seed: int = 0,
) -> Generated:
    """Answers to requests: rows with `weights` (the id of one of `models`), `key` (string, each once per model),
    `prompt_ids` (token ids), `sampling` (JSON of vLLM sampling parameters) and, where the row cannot be asked, the
    reason as `error`: it counts as failed.

    One engine, started with the model `base` as its node finds it, answers for all `models`, whose rows best come
    one model after another; that of an earlier stage, where the command shares its engines (`engine_pool.py`).
    `name` opens its log lines. `seed` is part of the answers' key: rows that are sampled have a seed of their own.
    Of a killed attempt at most the batches in progress and the answers of the last `SAVE_EVERY_S` seconds are
    computed again. Raises `StageError` where the engine cannot start, crashes more often than `engine.max_restarts`
    without an answer in between, answers nothing for `engine.stall_timeout_s` or is not done in `engine.timeout_s`
    per model, and where more rows fail than allowed (quoting the first error).
    """
    key = {"engine": engine_key(engine), "max_model_len": max_model_len, "seed": seed}
    session = _Session(name, cache.keyed(key), engine, base, models)
    with stage_engines() as pool:
        while (missing := session.missing(requests)) is not None:
            session.run(missing, pool, max_model_len)
    return session.result()


def data_tasks(engine: EngineConfig) -> int:
    """Concurrent tasks that prepare requests. One makes 11,000 of them a second and outruns any engine a hundred or,
    on GPUs, 35 times; each costs half a GiB, and seconds of imports during the engine's start. More than one for a GPU
    let a resumed stage pass over what is answered."""
    return 1 if engine.num_gpus == 0 else 4 * engine.replicas


def accept(rows: pa.Table, max_failed_fraction: float) -> pa.Table:
    """The rows that did not fail. Raises `StageError`, quoting the first error, where a larger fraction failed."""
    failed = rows.filter(pc.field("error") != "")
    if failed.num_rows > max_failed_fraction * rows.num_rows:
        raise StageError(
            f"{failed.num_rows} of {rows.num_rows} rows failed (engine.max_failed_fraction={max_failed_fraction}); "
            f"the first, {failed['key'][0].as_py()}: {failed['error'][0].as_py()}"
        )
    return rows.filter(pc.field("error") == "").drop_columns(["request", "error"])


class _Session:
    """The answers of a stage so far, and what was spent on them."""

    def __init__(
        self, name: str, cache: AnswerCache, engine: EngineConfig, base: ModelFiles, models: Sequence[ModelWeights]
    ) -> None:
        self.base = base
        self.label, self.cache, self.engine = f"[{name}]", cache, engine
        self.models = {model.id: model for model in models}
        self.adapter_rank = max((model.adapter_rank for model in models), default=0)
        check_adapter_rank(self.adapter_rank)
        self.begin_s = self.bar_s = time.monotonic()
        known = cache.read(ANSWERS)
        kept = kept_rows(known.filter(pc.is_in(known["weights"], pa.array(self.models))), engine.max_failed_fraction)
        self.arrived = Arrived(kept)
        self.num_kept = kept.num_rows
        self.crashes = self.starts = self.num_lost = 0
        self.nodes: dict[str, str] = {}
        self.done = False
        if self.num_kept:
            _log.info(f"{self.label} {self.num_kept} answers of an earlier attempt are reused")

    def missing(self, requests: ray.data.Dataset) -> ray.data.Dataset | None:
        """The requests without an answer, None where there are none."""
        if self.done:
            return None
        missing = _unanswered(requests, self.arrived.table["request"], data_tasks(self.engine))
        if not self.arrived.num_rows:
            return missing
        has_rows = _any_row.options(scheduling_strategy=on_this_node()).remote(missing)
        try:
            with _canceled_if_left(has_rows):
                return missing if ray.get(has_rows, timeout=self.engine.stall_timeout_s) else None
        except GetTimeoutError:
            raise StageError(
                f"no requests were prepared within {self.engine.stall_timeout_s} s (engine.stall_timeout_s); "
                f"{self._state()}; {self._hint()}"
            ) from None
        except RayError as error:
            raise StageError(
                f"requests could not be prepared: {failure_reason(error)}; full logs: {log_dir()}"
            ) from error

    def run(self, missing: ray.data.Dataset, pool: EnginePool, max_model_len: int) -> None:
        """One attempt, until an engine has answered all or has crashed. Raises `StageError` where it may not be started
        again, or a limit ends it."""
        engines, started = pool.engines(self.base, self.engine, max_model_len, self.adapter_rank)
        self.starts += started
        self.num_lost = 0
        again = f" again ({self.crashes} of {self.engine.max_restarts})" if self.crashes else ""
        _log.info(f"{self.label} {'starting the engine' if started else 'using the running engine'}{again}")
        try:
            self._receive(missing, engines, pool)
            self.done = True
        except RayError as error:
            self._crashed(pool, error)
        else:
            self._say_lost(pool)

    def _crashed(self, pool: EnginePool, error: RayError) -> None:
        """Ends what is left of the engines. Raises `StageError` where another start would not help, or is one too
        many."""
        lost = is_process_failure(error)
        reason = _reasons((pool.lost() if lost else []) or [error])
        pool.kill()
        if not lost:
            raise StageError(f"the engine failed: {reason}; full logs: {log_dir()}") from error
        self.crashes += 1
        if self.crashes > self.engine.max_restarts:
            often = "once" if self.crashes == 1 else f"{self.crashes} times without a new answer in between"
            raise StageError(
                f"the engine crashed {often} (engine.max_restarts={self.engine.max_restarts}), the last time: "
                f"{reason}; {self._state()}; {self._hint()}"
            ) from error
        _log.warning(f"{self.label} the engine crashed after {self.arrived.num_rows} answers: {reason}")

    def _say_lost(self, pool: EnginePool) -> None:
        """Names engines that were lost since it was said last, in whose place others answer."""
        if self.engine.replicas > 1 and len(lost := pool.lost()) > self.num_lost:
            self.num_lost = len(lost)
            _log.warning(
                f"{self.label} {len(lost)} of {self.engine.replicas} engines lost, the others answer their requests: "
                f"{_reasons(lost)}"
            )

    def _receive(self, missing: ray.data.Dataset, engines: Engines, pool: EnginePool) -> None:
        """Stores answers as they come, until all are there. They come through a child task: whatever ends it leaves
        nothing of its pipeline."""
        writer = BufferedWriter(self.cache)
        running = answers.options(scheduling_strategy=on_this_node()).remote(missing, engines, self.models)
        last = said = looked = time.monotonic()
        with writer, _canceled_if_left(running):
            for arrived in _arriving(running):
                now = time.monotonic()
                if arrived is not None:
                    rows, nodes = take_nodes(arrived)
                    self.nodes |= nodes
                    self.arrived.add(rows)
                    self.crashes = 0
                    writer.add(rows)
                    last = now
                writer.save_due()
                self._check(now, last)
                if now - looked > _LOOK_EVERY_S:
                    looked = now
                    self._say_lost(pool)
                said = self._say_progress(now, last, said)

    def _say_progress(self, now: float, last: float, said: float) -> float:
        """The time of the newest console line. `last`: of the last answer, `said`: of the last line."""
        if now == last and now - self.bar_s > _BAR_EVERY_S:
            self.bar_s, is_due = now, now - said > _SAY_EVERY_S
            text = f"{self.label} {self.arrived.num_rows} requests answered, {now - self.begin_s:.0f} s"
            log_progress(_log, text, None, is_plain=is_due)
            return now if is_due else said
        if now - max(last, said) > _SAY_STALLED_AFTER_S:
            _log.warning(f"{self.label} no response for {now - last:.0f} s; {self._state()}")
            return now
        return said

    def _check(self, now: float, last: float) -> None:
        """Raises `StageError` where a limit is reached."""
        stall_s, num_models = self.engine.stall_timeout_s, len(self.models)
        timeout_s = self.engine.timeout_s * num_models
        if now - self.begin_s > timeout_s:
            each = f"engine.timeout_s={self.engine.timeout_s} for each of {num_models} models"
            setting = each if num_models > 1 else "engine.timeout_s"
            raise StageError(
                f"engine timed out: not done within {timeout_s} s ({setting}), killed; {self._state()}; {self._hint()}"
            )
        if now - last > stall_s:
            raise StageError(
                f"engine stalled: no response for {stall_s} s (engine.stall_timeout_s), killed; {self._state()}; "
                f"{self._hint()}"
            )

    def _state(self) -> str:
        free = ray.available_resources()
        return (
            f"{self.arrived.num_rows} requests answered; free: CPU {free.get('CPU', 0):g}, GPU {free.get('GPU', 0):g}; "
            f"an engine takes {self.engine.num_cpus:g} CPUs and {self.engine.num_gpus:g} GPUs"
        )

    def _hint(self) -> str:
        return (
            "give it more time or resources; the same command computes only the missing answers; full logs: "
            f"{log_dir()}"
        )

    def result(self) -> Generated:
        """All answers. Raises `StageError` where too many requests failed."""
        rows = self.arrived.table
        good = accept(rows, self.engine.max_failed_fraction)
        failed = rows.filter(pc.field("error") != "")
        failures = failed.select(["weights", "key", "error"]).slice(0, SHOWN_FAILURES).to_pylist()
        if failures:
            _log.warning(
                f"{self.label} {failed.num_rows} of {rows.num_rows} requests failed; the first, "
                f"{failures[0]['key']}: {failures[0]['error']}"
            )
        return Generated(
            answers=good,
            num_failed=failed.num_rows,
            failures=failures,
            num_kept=self.num_kept,
            time_s=time.monotonic() - self.begin_s,
            nodes=tuple(sorted(self.nodes.values())),
            engine_starts=self.starts,
        )


def _reasons(errors: Sequence[RayError]) -> str:
    """Each reason once."""
    return "; ".join(dict.fromkeys(map(failure_reason, errors)))


def kept_rows(rows: pa.Table, max_failed_fraction: float) -> pa.Table:
    """Stored rows that are not retried: a failed one is, where more failed than allowed, for the cause may be
    fixed."""
    failed = pc.sum(pc.not_equal(rows["error"], "")).as_py() or 0
    return rows.filter(pc.field("error") == "") if failed > max_failed_fraction * rows.num_rows else rows


def _unanswered(requests: ray.data.Dataset, answered: pa.ChunkedArray, most_tasks: int) -> ray.data.Dataset:
    """Requests with their identity, without those that are answered."""
    shared = ray.put(np.sort(np.append(answered.to_numpy(), "").astype("S16")))

    def keep(batch: pa.Table) -> pa.Table:
        found = pa.array(
            [
                identity(f"{row['weights']} {row['key']}", row["prompt_ids"], row["sampling"])
                for row in batch.to_pylist()
            ],
            pa.string(),
        )
        known, asked = ray.get(shared), found.to_numpy(zero_copy_only=False).astype("S16")
        new = known[np.searchsorted(known, asked).clip(max=len(known) - 1)] != asked
        return batch.append_column("request", found).filter(pa.array(new))

    tasks = ray.data.TaskPoolStrategy(most_tasks)
    return requests.map_batches(
        keep, batch_format="pyarrow", compute=tasks, num_cpus=DATA_CPUS, udf_modifying_row_count=True
    )


@ray.remote(num_cpus=0, max_retries=0)
def _any_row(rows: ray.data.Dataset) -> bool:
    return bool(rows.take(1))


@contextmanager
def _canceled_if_left(task: Any) -> Iterator[None]:
    """Cancels a task that is left while it runs, and not one that has ended: where a cancellation meets the end of its
    task, Ray 2.60 ends the driver ("Tried to complete task that was not pending")."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, RayError) or isinstance(error, GetTimeoutError):
            ray.cancel(task, force=True)
        raise


def _arriving(running: Any) -> Iterator[pa.Table | None]:
    """Tables as they come; None after each `_POLL_EVERY_S` without one."""
    while True:
        ready, _ = ray.wait([running], timeout=_POLL_EVERY_S)
        if not ready:
            yield None
            continue
        try:
            reference = next(running)
        except StopIteration:
            return
        yield ray.get(reference)
