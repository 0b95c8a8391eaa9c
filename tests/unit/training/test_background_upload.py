"""Uploads beside the training: one at a time, waited for at the end, and no error of theirs is lost."""

import threading
import time

import pytest

from paft_ray.errors import StageError, UserError
from paft_ray.training.background_upload import BackgroundUpload

WAIT_S = 20.0


def _fail(error: Exception) -> None:
    raise error


def test_work_goes_on_while_an_upload_is_in_flight() -> None:
    held, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert held.wait(WAIT_S)

    with BackgroundUpload() as upload:
        upload.start("a", work)
        assert begun.wait(WAIT_S)
        upload.check()
        held.set()


def test_the_next_upload_waits_for_the_one_before() -> None:
    order: list[str] = []
    held = threading.Event()

    def release() -> None:
        order.append("released")
        held.set()

    def work(name: str) -> None:
        order.append(f"{name} begins")
        assert held.wait(WAIT_S)
        order.append(f"{name} ends")

    with BackgroundUpload() as upload:
        upload.start("first", lambda: work("first"))
        threading.Timer(0.2, release).start()
        upload.start("second", lambda: work("second"))
    assert order == ["first begins", "released", "first ends", "second begins", "second ends"]


def test_the_end_waits_for_the_upload_in_flight() -> None:
    written: list[int] = []

    def work() -> None:
        time.sleep(0.2)
        written.append(1)

    with BackgroundUpload() as upload:
        upload.start("a", work)
    assert written == [1]


@pytest.mark.parametrize("where", ["check", "start", "wait", "end"])
def test_an_upload_that_failed_is_raised_in_one_clear_line_and_once(where: str) -> None:
    upload = BackgroundUpload()
    with pytest.raises(StageError) as caught:
        _fail_and_meet(upload, where)
    assert str(caught.value) == (
        "checkpoint of step 3 was not written to s3://b: [Errno 28] No space left on device; fix the storage "
        "and start again: training resumes from its newest checkpoint"
    )
    upload.wait()


def _fail_and_meet(upload: BackgroundUpload, where: str) -> None:
    with upload:
        upload.start(
            "checkpoint of step 3 was not written to s3://b", lambda: _fail(OSError(28, "No space\nleft on device"))
        )
        if where == "check":
            while True:
                upload.check()
        if where == "start":
            upload.start("another", lambda: pytest.fail("the upload after a failed one began"))
        if where == "wait":
            upload.wait()


def test_a_user_error_stays_what_it_is() -> None:
    with pytest.raises(UserError, match=r"^storage x: cannot be read$"), BackgroundUpload() as upload:
        upload.start("a", lambda: _fail(UserError("storage x: cannot be read")))


def test_an_error_of_the_training_waits_for_the_upload_and_is_not_replaced_by_one_of_the_upload() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _break_beside_a_failing_upload()
    assert caught.value.__notes__ == [
        "checkpoint of step 3 was not written: gone; fix the storage and start again: training resumes from its newest "
        "checkpoint"
    ]


def _break_beside_a_failing_upload() -> None:
    with BackgroundUpload() as upload:
        upload.start("checkpoint of step 3 was not written", lambda: _fail(OSError("gone")))
        raise ZeroDivisionError
