"""What is said of an engine's end, and whether another start can help."""

from ray.exceptions import ActorDiedError, NodeDiedError, RayError, RayTaskError, UserCodeException, WorkerCrashedError

from paft_ray.inference.engine_errors import failure_reason, is_process_failure

REFUSED = """ray::answers() (pid=1)
  File "engine.py", line 2, in answers
ray.exceptions.ActorDiedError: The actor died because of an error raised in its creation task, ray::MapWorker.__init__()
  File "vllm.py", line 3, in create
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
quantization
  Value error, Unknown quantization method: nothing
    For further information visit https://errors.pydantic.dev"""


def test_a_lost_process_or_node_is_worth_another_start() -> None:
    for lost in (ActorDiedError(), NodeDiedError("gone"), WorkerCrashedError()):
        assert is_process_failure(lost)
        assert is_process_failure(RayTaskError("answers", "traceback", RayTaskError("inner", "traceback", lost)))


def test_an_engine_that_refuses_its_settings_and_a_fault_in_our_code_are_not() -> None:
    refused = ActorDiedError(RayTaskError("__init__", REFUSED, ValueError("nothing")))
    assert not is_process_failure(refused)
    assert not is_process_failure(RayTaskError("answers", REFUSED, refused))
    assert not is_process_failure(RayTaskError("answers", "traceback", UserCodeException("encode")))
    assert not is_process_failure(RayTaskError("answers", "traceback", KeyError("x")))
    not_sent = RayTaskError("start", REFUSED, RayError("Unknown quantization method"))
    assert not is_process_failure(not_sent)
    assert not is_process_failure(RayTaskError("answers", REFUSED, not_sent))
    assert "Unknown quantization method: nothing" in failure_reason(not_sent)


def test_the_reason_is_one_line_with_the_whole_of_the_last_exception() -> None:
    said = failure_reason(RayTaskError("answers", REFUSED, ValueError("nothing")))
    assert said.startswith("pydantic_core._pydantic_core.ValidationError: 1 validation error")
    assert "Unknown quantization method: nothing" in said
    assert "\n" not in said
    assert "died unexpectedly" in failure_reason(RayTaskError("answers", "traceback", ActorDiedError()))
