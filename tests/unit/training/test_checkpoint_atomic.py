"""A kill at any moment of writing never leaves a checkpoint that a resume would take, and folders stay bounded."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.storage.store import Store
from paft_ray.training import checkpoint

LEFT = (0.0, 0.5, 1.0)
"""Share of an operation that is done when the kill comes: of a file's bytes, or of a folder's files."""


class Killed(BaseException):
    """No handler of ours may catch it, as none catches SIGKILL."""


class CutRun(Store):
    """Storage whose writer is killed inside operation number `cut`; writes show up whole or under another name,
    removals of folders file by file."""

    def __init__(self, root: str, cut: int | None = None, left: float = 0.0, *, last_first: bool = False) -> None:
        super().__init__(root)
        self.num_operations, self.cut, self.left, self.last_first = 0, cut, left, last_first

    def write_chunks(self, relative: str, chunks: Iterable[bytes | memoryview]) -> None:
        if self._next():
            data = b"".join(chunks)
            path = Path(self.path(f"{relative}.1.part"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[: int(self.left * len(data))])
            raise Killed
        super().write_chunks(relative, chunks)

    def delete(self, relative: str) -> None:
        if self._next():
            files = sorted(Path(self.path(relative)).glob("*"), reverse=self.last_first)
            for file in files[: int(self.left * len(files) + 0.5)]:
                file.unlink()
            raise Killed
        super().delete(relative)

    def _next(self) -> bool:
        self.num_operations += 1
        return self.num_operations == self.cut


def _state(step: int) -> checkpoint.TrainingState:
    return checkpoint.TrainingState(
        step=step, tensors={"weight/a": torch.full((3,), float(step)), "exp_avg/a": torch.full((2,), -float(step))}
    )


def _train(store: Store, until: int, every: int, keep: int) -> int:
    """As a worker does it: goes on from the newest whole checkpoint. The last step written whole, as far as the writer
    knows."""
    done = checkpoint.newest(store, lambda line: None)
    try:
        checkpoint.discard_after(store, done)
        for step in range(done + every, until + 1, every):
            checkpoint.write(store, _state(step), {}, keep)
            done = step
    except Killed:
        pass
    return done


def _check_resumable(folder: Path, done: int, every: int) -> None:
    store = Store(str(folder))
    found = checkpoint.newest(store, lambda line: None)
    assert found in (done, done + every), f"step {done} was written, {found} is found"
    if found:
        read = checkpoint.read(store, found)
        assert all(torch.equal(tensor, _state(found).tensors[name]) for name, tensor in read.tensors.items())


def _check_bounded(folder: Path, until: int, keep: int) -> None:
    store = Store(str(folder))
    assert _train(store, until, 1, keep) == until
    assert [p.name for p in sorted(folder.iterdir())] == [f"step-{step:06d}" for step in checkpoint.steps(store)]
    assert len(checkpoint.steps(store)) <= keep
    assert not list(folder.glob("**/*.part"))


@pytest.mark.parametrize("last_first", [False, True])
@pytest.mark.parametrize("left", LEFT)
def test_every_storage_operation_may_be_the_last(tmp_path: Path, left: float, last_first: bool) -> None:
    whole = CutRun(str(tmp_path / "whole"))
    assert _train(whole, 5, 1, 2) == 5
    assert whole.num_operations > 5 * 4
    for cut in range(1, whole.num_operations + 1):
        folder = tmp_path / str(cut)
        done = _train(CutRun(str(folder), cut, left, last_first=last_first), 5, 1, 2)
        _check_resumable(folder, done, 1)
        _check_bounded(folder, 7, 2)


@given(
    kills=st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1), st.booleans()), max_size=8),
    every=st.integers(1, 3),
    keep=st.integers(1, 3),
)
def test_kill_after_kill_loses_no_written_checkpoint_and_folders_stay_bounded(
    kills: list[tuple[int, float, bool]], every: int, keep: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, before = Path(name), 0
        for killed, (cut, left, last_first) in enumerate(kills, start=1):
            done = _train(CutRun(name, cut, left, last_first=last_first), 12, every, keep)
            assert done >= before
            _check_resumable(folder, done, every)
            before = checkpoint.newest(Store(name), lambda line: None)
            assert len(list(folder.iterdir())) <= keep + 1 + killed, (
                "a kill leaves one folder at most, until the next whole write"
            )
        _check_bounded(folder, 14, keep)
