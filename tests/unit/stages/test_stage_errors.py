"""What goes wrong in a stage is one line with its cause, wherever Ray carries it. Issue 5, promise 7."""

import shutil
from pathlib import Path

import pytest

from paft_ray.errors import StageError, StorageError
from paft_ray.stages.stage_errors import causes, named
from paft_ray.storage.stage_cache import Manifest, cached
from paft_ray.storage.store import Store


class Carrier(Exception):
    """As Ray's and Ray Train's exceptions carry those of workers."""

    def __init__(self, **carried: object) -> None:
        super().__init__("Ray says:\n" + "line\n" * 100)
        vars(self).update(carried)


@pytest.mark.parametrize("kind", [StorageError, StageError])
def test_the_cause_is_found_wherever_ray_carries_it(kind: type[Exception], tmp_path: Path) -> None:
    cause = kind("the cause")
    for error in (
        cause,
        Carrier(cause=cause),
        Carrier(worker_failures={0: Carrier(_base_exc=cause)}),
        Carrier(controller_failure=Carrier(cause=cause)),
    ):
        assert causes(error)[-1] is cause
        with pytest.raises(StageError) as caught, named(Store(str(tmp_path)), "train"):
            raise error
        assert str(caught.value) == f"run {tmp_path.name} ({tmp_path}), stage train: the cause"


def test_what_no_one_foresaw_is_one_line_with_its_traceback_in_the_run(tmp_path: Path) -> None:
    def broken() -> Manifest:
        raise Carrier(cause=KeyError("x")) from ZeroDivisionError("first")

    run = Store.open(str(tmp_path), "a")
    with pytest.raises(StageError) as caught, named(run, "score"):
        cached(run, "score", {}, broken)
    place = str(caught.value).partition("traceback: ")[2]
    assert str(caught.value) == f"run a ({run.root}), stage score: ZeroDivisionError: first; traceback: {place}"
    assert Path(place).parent == Path(run.root, "logs")
    assert "in broken" in Path(place).read_text()


def test_a_traceback_is_kept_on_this_machine_where_the_run_takes_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError) as caught, named(Store(str(tmp_path / "file")), "score"):
        raise KeyError("x")
    place = Path(str(caught.value).partition("traceback: ")[2])
    assert "KeyError: 'x'" in place.read_text()
    shutil.rmtree(place.parent)
