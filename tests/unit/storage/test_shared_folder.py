"""A folder that the processes of a machine share: made once, whole or not at all, kept while somebody uses it."""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from paft_ray.storage import temp_dirs

NUM_PROCESSES = 4


def make(log: Path, folder: Path) -> None:
    with log.open("a") as lines:
        lines.write("made\n")
    time.sleep(0.3)
    (folder / "weights").write_text("whole")


def shared_folder(place: Path, make: Callable[[Path], None], *, instead_of: str) -> AbstractContextManager[Path]:
    """With its locks next to the parent of the place."""
    locks = place.parent.with_name(f"{place.parent.name}-locks")
    locks.mkdir(exist_ok=True)
    return temp_dirs.shared_folder(place, make, instead_of=instead_of, locks=locks)


def use(place: Path, log: Path) -> None:
    with shared_folder(place, partial(make, log), instead_of="m-") as folder:
        assert (folder / "weights").read_text() == "whole"
        time.sleep(0.2)
        assert (folder / "weights").read_text() == "whole"


def test_several_processes_make_it_once(tmp_path: Path) -> None:
    place, log = tmp_path / "m-a", tmp_path / "log"
    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=use, args=(place, log)) for _ in range(NUM_PROCESSES)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=60)
    assert [process.exitcode for process in running] == [0] * NUM_PROCESSES
    assert log.read_text() == "made\n"
    use(place, log)
    assert log.read_text() == "made\n", "one that comes later uses what is there"


def test_another_one_takes_the_place_of_those_that_nobody_uses(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "other-evaluation").mkdir()
    use(tmp_path / "m-a", log)
    with shared_folder(tmp_path / "m-b", partial(make, log), instead_of="m-"):
        use(tmp_path / "m-c", log)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "m-b", "m-c", "other-evaluation"]


def test_of_one_that_fails_nothing_is_left_and_the_next_makes_it(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_text("of it")
        raise FileNotFoundError("gone")

    place = tmp_path / "m-a"
    with pytest.raises(FileNotFoundError, match="gone"), shared_folder(place, fails, instead_of="m-"):
        raise AssertionError("it was not made")
    assert not place.exists()
    use(place, tmp_path / "log")


def test_what_a_killed_process_had_begun_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "m-a/begun").mkdir(parents=True)
    (tmp_path / "m-a/begun/half").write_text("of it")
    with shared_folder(tmp_path / "m-a", partial(make, tmp_path / "log"), instead_of="m-") as folder:
        assert [path.name for path in folder.iterdir()] == ["weights"]


def test_an_error_of_the_user_s_goes_through(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match="of the block"),
        shared_folder(tmp_path / "m-a", partial(make, tmp_path / "log"), instead_of="m-"),
    ):
        raise FileNotFoundError("of the block")
