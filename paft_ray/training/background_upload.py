"""Uploads while training continues: one thread, one upload at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from paft_ray.errors import StageError, UserError, one_line


class BackgroundUpload:
    """Runs uploads in a thread of its own, at most one at a time; what fails there is raised in the training, never
    lost.

    A context: its end waits for the upload in flight, whether the training ends well or by an error.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="paft-upload")
        self._running: Future[None] | None = None
        self._what = ""

    def start(self, what: str, work: Callable[[], None]) -> None:
        """Begins an upload, after the one before. `what` opens the message of an error. Raises as `wait`."""
        self.wait()
        self._what = what
        self._running = self._pool.submit(work)

    def check(self) -> None:
        """Raises what an upload that has ended failed with; never waits."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Returns when nothing is in flight. Raises `StageError` where the upload failed (a `UserError` as it is)."""
        running, self._running = self._running, None
        if running is None:
            return
        error = running.exception()
        if isinstance(error, UserError):
            raise error
        if error is not None:
            raise StageError(
                f"{self._what}: {one_line(error) or type(error).__name__}; fix the storage and start again: training "
                "resumes from its newest checkpoint"
            ) from error

    def __enter__(self) -> BackgroundUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        try:
            self.wait()
        except (StageError, UserError) as failed:
            if error is None:
                raise
            error.add_note(str(failed))
