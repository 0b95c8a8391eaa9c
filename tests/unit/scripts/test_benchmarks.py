"""`make bench` names parts that exist."""

from pathlib import Path

import pytest

from benchmarks.__main__ import PARTS, main


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_a_module_that_can_be_started(part: str) -> None:
    assert 'if __name__ == "__main__":' in Path(f"benchmarks/{part}.py").read_text(encoding="utf-8")


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["growth"]) == 2
    assert "allowed: training" in capsys.readouterr().err
