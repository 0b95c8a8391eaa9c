"""What rank 0 reports while it trains: console lines, metrics.jsonl, TensorBoard events, trackers."""

from __future__ import annotations

import shutil
import time
from typing import Any

from paft_ray.log import get_logger, log_progress
from paft_ray.storage.store import Store
from paft_ray.storage.temp_dirs import only_folder
from paft_ray.tracking.tracker_run import scalars
from paft_ray.tracking.trackers import Trackers
from paft_ray.training.job import FOLDERS
from paft_ray.training.step_metrics import read_metrics, write_metrics

_log = get_logger(__name__)
_LINE_EVERY = 10
_BAR_EVERY_S = 1.0


class MetricsWriter:
    """Writes the metrics of the lineage of the final weights: what a restart repeats is dropped first.

    They stand beside the checkpoints as well: a training that is resumed goes on with its own, whatever another one of
    other settings has left in `out` meanwhile.
    """

    def __init__(
        self, out: Store, *, checkpoints: Store, label: str, start_step: int, num_steps: int, trackers: Trackers
    ) -> None:
        self.out, self.checkpoints = out, checkpoints
        self.label = label
        self.num_steps = num_steps
        self.start_step = start_step
        self._shown_at = time.monotonic()
        self.trackers = trackers
        own = read_metrics(checkpoints) or read_metrics(out) if start_step else []
        self.history = [row for row in own if row["step"] <= start_step]
        if start_step:  # a training of which no step is left saves none
            write_metrics(out, self.history)
        from torch.utils.tensorboard import SummaryWriter  # late: the driver reads metrics without it

        self._events = _folder(out)
        self._writer = SummaryWriter(self._events, purge_step=start_step + 1)
        if start_step:
            _log.info(f"{label} resuming from checkpoint at step {start_step}")
        self.publish(start_step)

    def add(self, row: dict[str, Any]) -> None:
        """Takes the metrics of one optimizer step (`step` counts from 1)."""
        self.history.append(row)
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, row["step"])
        done = row["step"]
        is_plain = done % _LINE_EVERY == 0 or done in (self.start_step + 1, self.num_steps)
        if is_plain or time.monotonic() - self._shown_at > _BAR_EVERY_S:
            self._shown_at = time.monotonic()
            log_progress(_log, self._line(row), done / self.num_steps, is_plain=is_plain)

    def save(self, step: int) -> None:
        """Writes metrics up to a step, and events, to storage; training may continue meanwhile."""
        for folder in (self.checkpoints, self.out):
            write_metrics(folder, self.until(step))
        self._writer.flush()
        self.out.upload_dir(self._events, f"tensorboard/from-step-{self.start_step:06d}")

    def publish(self, step: int) -> None:
        """Sends the trackers all steps up to a checkpoint that is written: none of them is repeated."""
        self.trackers.send(self.until(step))

    def close(self) -> None:
        """Publishes once more, to a tracker that was away at the last checkpoint, and closes everything."""
        self.publish(self.num_steps)
        self._writer.close()
        shutil.rmtree(self._events)
        self.trackers.close()

    def until(self, step: int) -> list[dict[str, Any]]:
        """Metrics up to a step."""
        return [row for row in self.history if row["step"] <= step]

    def _line(self, row: dict[str, Any]) -> str:
        recent = self.history[-_LINE_EVERY:]
        seconds = sum(r["time_s"] for r in recent)
        speed = sum(r["tokens"] for r in recent) / seconds
        left = (self.num_steps - row["step"]) * seconds / len(recent)
        loss = sum(r["loss"] for r in recent) / len(recent)
        return (
            f"{self.label} step {row['step']}/{self.num_steps}  loss {loss:.4f}  {speed:.0f} tokens/s  ETA "
            f"{int(left) // 60}:{int(left) % 60:02d}"
        )


def _folder(out: Store) -> str:
    """Path of a new folder of this node for the events of a training; those of its killed attempts are removed."""
    return only_folder(FOLDERS, out.root)
