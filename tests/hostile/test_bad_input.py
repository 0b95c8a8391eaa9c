"""Bad input ends in one clear line and exit code 2, before Ray starts, without a secret in it and with nothing left
behind (tests/hostile/bad_inputs)."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paft_ray.cli import main as cli
from paft_ray.models.resolve import load_tokenizer, resolve_model
from paft_ray.sanitize import holds_hidden
from tests.hostile.bad_inputs import CASES
from tests.hostile.bad_inputs.case import Case
from tests.hostile.bad_inputs.secrets import SHOWN_NOWHERE

LONGEST_S = 20.0  # of one core: a bomb that goes off takes minutes
LONGEST_LINE = 1500


@pytest.fixture(scope="module", autouse=True)
def _libraries_are_imported() -> None:
    import ray.data  # registers extension types whose values are pickles, as in every command that has started Ray

    assert ray.data
    load_tokenizer(resolve_model("demo", None))


@pytest.fixture(autouse=True)
def _ray_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def started(*_: object) -> Iterator[None]:
        raise AssertionError("Ray would start: the input was not refused")
        yield

    monkeypatch.setattr("paft_ray.cli.session.ray_session", started)


def run_cli(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    return int(stopped.value.code or 0), *capsys.readouterr()


def content(folder: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.lstat().st_size) for path in folder.rglob("*"))


def test_the_table_has_hundreds_of_cases_each_once() -> None:
    names = [case.given for case in CASES]
    assert len(names) >= 200
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.given)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = case.write(tmp_path)
    before, here, start = content(tmp_path), sorted(os.listdir()), time.process_time()
    code, out, error = run_cli(capsys, arguments)
    seconds = time.process_time() - start
    assert (code, len(error.splitlines())) == (case.code, 1), error
    assert error.startswith("paft: ")
    assert case.says in error
    assert "Traceback" not in error
    assert not holds_hidden(error)
    assert len(error) <= LONGEST_LINE + len(str(tmp_path))
    assert not any(value in error + out for value in SHOWN_NOWHERE)
    assert (content(tmp_path), sorted(os.listdir())) == (before, here)
    assert seconds < LONGEST_S


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        ("score", "prepare/manifest"),
        ("train", "prepare/manifest"),
        ("evaluate", "prepare/manifest"),
        ("report", "evaluate/manifest"),
    ],
)
def test_a_stage_without_its_inputs_names_the_stage_before_it(
    stage: str, missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run_cli(capsys, [stage, "jobs/configs/demo.yaml", "--set", f"storage={tmp_path}"])
    assert (code, missing in error, "run stage" in error, len(error.splitlines())) == (2, True, True, 1)
