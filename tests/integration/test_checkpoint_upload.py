"""How the loop saves: beside the training, metrics before the checkpoint and trackers after it. The real collecting and
writing, a torch model, no Ray."""

import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from paft_ray.config import TrainConfig
from paft_ray.errors import StageError
from paft_ray.storage.store import Store
from paft_ray.training import checkpoint, checkpoint_saving
from paft_ray.training.background_upload import BackgroundUpload

WAIT_S = 20.0


class NotingStore(Store):
    """Notes what is written; a write fails with `error`."""

    def __init__(self, root: str, notes: list[str]) -> None:
        super().__init__(root)
        self.notes, self.error = notes, ""

    def write_chunks(self, relative: str, chunks: Iterable[bytes | memoryview]) -> None:
        if self.error:
            raise OSError(self.error)
        super().write_chunks(relative, chunks)
        self.notes.append(relative)


class Told:
    """Progress that notes its calls; an upload stands at its metrics while `open` is not set."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()

    def until(self, step: int) -> list[dict[str, Any]]:
        return [{"step": step}]

    def save(self, step: int) -> None:
        self.reached.set()
        assert self.open.wait(WAIT_S)
        self.notes.append(f"metrics until {step}")

    def publish(self, step: int) -> None:
        self.notes.append(f"trackers until {step}")


class Setting:
    """What `_save` needs: an engine of ZeRO stage 0 as far as it is asked, a job, a store."""

    def __init__(self, folder: Path) -> None:
        self.notes: list[str] = []
        self.store, self.told = NotingStore(str(folder), self.notes), Told(self.notes)
        self.model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        self.engine = SimpleNamespace(module=self.model, optimizer=optimizer, zero_optimization_stage=lambda: 0)
        self.job: Any = SimpleNamespace(
            config=TrainConfig(), store=self.store, seed=0, fingerprint="f", num_steps=9, label="[train paft/seed0]"
        )

    def save(self, step: int, upload: BackgroundUpload) -> None:
        checkpoint_saving.save(self.engine, self.job, step, self.told, upload)  # type: ignore[arg-type]


def test_metrics_come_before_the_checkpoint_and_trackers_after_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    with BackgroundUpload() as upload:
        setting.save(1, upload)
    assert setting.notes == [
        "metrics until 1",
        "step-000001/state.safetensors",
        "step-000001/manifest.json",
        "trackers until 1",
    ]


def test_weights_that_change_while_a_checkpoint_is_uploaded_do_not_change_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    expected = setting.model.weight.detach().clone()
    with BackgroundUpload() as upload:
        setting.told.open.clear()
        setting.save(1, upload)
        assert setting.told.reached.wait(WAIT_S)
        with torch.no_grad():
            setting.model.weight.zero_()
        assert checkpoint.newest(Store(str(tmp_path)), lambda line: None) == 0
        setting.told.open.set()
    assert torch.equal(checkpoint.read(setting.store, 1).tensors["weight/weight"], expected)


def test_a_save_waits_for_the_one_before(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    with BackgroundUpload() as upload:
        setting.told.open.clear()
        setting.save(1, upload)
        second = threading.Thread(target=setting.save, args=(2, upload))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert setting.notes == []
        setting.told.open.set()
        second.join(WAIT_S)
    assert checkpoint.steps(setting.store) == [1, 2]


def test_a_checkpoint_that_cannot_be_written_ends_the_training_in_one_line_and_trackers_never_hear_of_it(
    tmp_path: Path,
) -> None:
    setting = Setting(tmp_path)
    setting.store.error = "[Errno 28] No space left on device"
    upload = BackgroundUpload()
    setting.save(1, upload)
    with pytest.raises(StageError) as caught:
        upload.wait()
    assert str(caught.value).startswith(
        f"[train paft/seed0] checkpoint of step 1 was not written to {tmp_path}: [Errno 28] No space left on device; "
    )
    assert setting.notes == ["metrics until 1"]


def test_ranks_that_hold_no_progress_upload_nothing(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    with BackgroundUpload() as upload:
        checkpoint_saving.save(setting.engine, setting.job, 1, None, upload)
    assert setting.notes == []
