"""Requests -> answers, whatever happens to the engine: answers are stored as they arrive, only rows without one are
asked, limits end what hangs."""

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
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paft_ray.config import EngineConfig, engine_key
from paft_ray.console import say
from paft_ray.errors import StageError
from paft_ray.inference.answer_cache import AnswerCache, BufferedWriter, identity
from paft_ray.inference.engine import ANSWERS, answers, processor_config, replicas
from paft_ray.inference.engine_errors import died, logs, reason
from paft_ray.inference.model_weights import ModelWeights

DATA_CPUS = 0.25
"""Logical CPUs of a task that prepares requests."""
SHOWN_FAILURES = 5
"""Failed rows that are named."""
_LOOK_EVERY_S = 1
_SAY_EVERY_S = 15
_SILENT_S = 60  # before the console says that nothing comes


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What was answered."""

    answers: pa.Table
    """Schema `ANSWERS` without `request` and `error`; failed rows are absent."""
    num_failed: int
    failures: list[dict[str, str]]
    """`weights`, `key` and `error` of the first failed rows."""
    num_kept: int
    """Rows that an earlier attempt had answered."""
    time_s: float
    """Starts of the engine included."""
    nodes: tuple[str, ...]
    """Address of the node of each replica of the engine."""
    engine_starts: int
    """0 where all had been answered before."""


def generate(
    requests: ray.data.Dataset,
    *,
    name: str,
    base: str,
    models: Sequence[ModelWeights],
    parts: AnswerCache,
    engine: EngineConfig,
    max_model_len: int,
    seed: int = 0,
) -> Generated:
    """Answers to requests: rows with `weights` (the id of one of `models`), `key` (string, each once per model),
    `prompt_ids` (token ids), `sampling` (JSON of vLLM sampling parameters) and, where the row cannot be asked, the
    reason as `error`: it counts as failed.

    One engine, which starts with the model folder `base`, answers for all `models`, whose rows best come one model
    after another. `name` opens the console lines of its progress. Of a killed attempt at most the batches under way in
    the engine and the answers of the last `SAVE_EVERY_S` seconds are asked again. Raises `StageError` where the engine
    cannot start, dies more often than `engine.max_restarts`, answers nothing for `engine.stall_timeout_s` or is not
    done in `engine.timeout_s` per model, and where more rows fail than allowed (quoting the first error).
    """
    key = {"engine": engine_key(engine), "max_model_len": max_model_len, "seed": seed}
    asking = _Asking(name, parts.keyed(key), engine, models)
    while (missing := asking.missing(requests)) is not None:
        asking.ask(missing, processor_config(base, engine, max_model_len, seed))
    return asking.result()


def data_tasks(engine: EngineConfig) -> int | None:
    """Tasks that prepare requests at once. One outruns any engine on a CPU a hundred times, and each costs seconds of
    imports beside the engine's start."""
    return 1 if engine.num_gpus == 0 else None


def accept(rows: pa.Table, max_failed_fraction: float) -> pa.Table:
    """The rows that did not fail. Raises `StageError`, quoting the first error, where a larger share failed."""
    failed = rows.filter(pc.field("error") != "")
    if failed.num_rows > max_failed_fraction * rows.num_rows:
        raise StageError(
            f"{failed.num_rows} of {rows.num_rows} rows failed (engine.max_failed_fraction={max_failed_fraction}); "
            f"the first, {failed['key'][0].as_py()}: {failed['error'][0].as_py()}"
        )
    return rows.filter(pc.field("error") == "").drop_columns(["request", "error"])


class _Asking:
    """The answers so far, and what was spent on them."""

    def __init__(self, name: str, parts: AnswerCache, engine: EngineConfig, models: Sequence[ModelWeights]) -> None:
        self.name, self.parts, self.engine = name, parts, engine
        self.models = {model.id: model for model in models}
        self.begin_s = time.monotonic()
        known = parts.read(ANSWERS)
        kept = kept_rows(known.filter(pc.is_in(known["weights"], pa.array(self.models))), engine.max_failed_fraction)
        self.tables = [kept]
        self.num_answered = self.num_kept = kept.num_rows
        self.starts = 0
        self.nodes: dict[str, str] = {}
        self.done = False
        if self.num_kept:
            say(f"{name}: {self.num_kept} answers of an earlier attempt are kept")

    def missing(self, requests: ray.data.Dataset) -> ray.data.Dataset | None:
        """The requests without an answer, None where there are none."""
        if self.done:
            return None
        missing = _unanswered(requests, pa.concat_tables(self.tables)["request"], data_tasks(self.engine))
        if not self.num_answered:
            return missing
        looking = _any_row.options(scheduling_strategy=_here()).remote(missing)
        try:
            with _ended_if_left(looking):
                return missing if ray.get(looking, timeout=self.engine.stall_timeout_s) else None
        except GetTimeoutError:
            raise StageError(
                f"requests were not prepared within engine.stall_timeout_s={self.engine.stall_timeout_s} s; "
                f"{self._state()}; {self._hint()}"
            ) from None
        except RayError as error:
            raise StageError(
                f"requests could not be prepared: {reason(error)}; the whole story is in {logs()}"
            ) from error

    def ask(self, missing: ray.data.Dataset, config: Any) -> None:
        """One start of the engine, until it has answered all or has died. Raises `StageError` where it may not be
        started again, or a limit ends it.

        The engine belongs to a child task, so that its resources are free again however this ends.
        """
        self.starts += 1
        say(
            f"{self.name}: starts an engine"
            if self.starts == 1
            else f"{self.name}: starts the engine again ({self.starts - 1} of {self.engine.max_restarts})"
        )
        try:
            self._take(missing, config)
            self.done = True
        except RayError as error:
            why = reason(error)
            if not died(error):
                raise StageError(f"the engine failed: {why}; the whole story is in {logs()}") from error
            if self.starts > self.engine.max_restarts:
                raise StageError(
                    f"the engine died {self.starts} times (engine.max_restarts={self.engine.max_restarts}), the "
                    f"last time: {why}; "
                    f"{self._state()}; {self._hint()}"
                ) from error
            say(f"{self.name}: the engine died after {self.num_answered} answers: {why}")

    def _take(self, missing: ray.data.Dataset, config: Any) -> None:
        """Stores what comes until the end of the engine."""
        before, saver = replicas(), BufferedWriter(self.parts)
        running = answers.options(scheduling_strategy=_here()).remote(missing, config, self.models)
        last = said = time.monotonic()
        with saver, _ended_if_left(running):
            for rows in _arriving(running):
                now = time.monotonic()
                if rows is not None:
                    self.nodes |= {actor: node for actor, node in replicas().items() if actor not in before}
                    self.tables.append(rows)
                    self.num_answered += rows.num_rows
                    saver.add(rows)
                    last = now
                saver.save_due()
                self._check(now, last)
                if rows is not None and now - said > _SAY_EVERY_S:
                    say(f"{self.name}: {self.num_answered} requests answered, {now - self.begin_s:.0f} s")
                    said = now
                if now - max(last, said) > _SILENT_S:
                    say(f"{self.name}: no answer for {now - last:.0f} s; {self._state()}")
                    said = now

    def _check(self, now: float, last: float) -> None:
        """Raises `StageError` where a limit is reached."""
        longest, silence, number = self.engine.timeout_s, self.engine.stall_timeout_s, len(self.models)
        each = f" for each of {number} models" if number > 1 else ""
        limits = (
            ("no end", f"timeout_s={longest} s{each}", longest * number, self.begin_s),
            ("no answer", f"stall_timeout_s={silence} s", silence, last),
        )
        for what, setting, limit, since in limits:
            if now - since > limit:
                raise StageError(
                    f"the engine gave {what} within engine.{setting} and was ended; {self._state()}; {self._hint()}"
                )

    def _state(self) -> str:
        free = ray.available_resources()
        return (
            f"{self.num_answered} requests are answered; free: CPU {free.get('CPU', 0):g}, GPU {free.get('GPU', 0):g}; "
            f"an engine takes {self.engine.num_cpus:g} CPUs and {self.engine.num_gpus:g} GPUs"
        )

    def _hint(self) -> str:
        return (
            "give it more time or resources, the same command asks only for what is missing; the whole story is in "
            f"{logs()}"
        )

    def result(self) -> Generated:
        """All answers. Raises `StageError` where too many requests failed."""
        rows = pa.concat_tables(self.tables)
        good = accept(rows, self.engine.max_failed_fraction)
        failed = rows.filter(pc.field("error") != "")
        failures = failed.select(["weights", "key", "error"]).slice(0, SHOWN_FAILURES).to_pylist()
        if failures:
            say(
                f"{self.name}: {failed.num_rows} of {rows.num_rows} requests failed; the first, "
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


def kept_rows(rows: pa.Table, max_failed_fraction: float) -> pa.Table:
    """Stored rows that are not asked again: a failed one is, where more failed than allowed, for the cause may be
    mended."""
    failed = pc.sum(pc.not_equal(rows["error"], "")).as_py() or 0
    return rows.filter(pc.field("error") == "") if failed > max_failed_fraction * rows.num_rows else rows


def _unanswered(requests: ray.data.Dataset, answered: pa.ChunkedArray, most_tasks: int | None) -> ray.data.Dataset:
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


def _here() -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


@ray.remote(num_cpus=0, max_retries=0)
def _any_row(rows: ray.data.Dataset) -> bool:
    return bool(rows.take(1))


@contextmanager
def _ended_if_left(task: Any) -> Iterator[None]:
    """Ends a task that is left while it runs. One that has ended is not told to: where the order meets the last word of
    its task, Ray 2.60 ends the driver ("Tried to complete task that was not pending")."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, RayError) or isinstance(error, GetTimeoutError):
            ray.cancel(task, force=True)
        raise


def _arriving(running: Any) -> Iterator[pa.Table | None]:
    """Tables as they come; None after each `_LOOK_EVERY_S` without one."""
    while True:
        ready, _ = ray.wait([running], timeout=_LOOK_EVERY_S)
        if not ready:
            yield None
            continue
        try:
            reference = next(running)
        except StopIteration:
            return
        yield ray.get(reference)
