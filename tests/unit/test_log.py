"""Log lines have time and level, and go through the one place that writes to the terminal."""

import io
import logging
import re
import sys

import pytest

from paft_ray import echo as echo_module
from paft_ray import log
from paft_ray.echo import echo, end_progress
from paft_ray.log import get_logger, log_progress, show_from, stage_label

CLOCK = r"\d\d:\d\d:\d\d "
_log = get_logger("paft_ray.tests")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def usual_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_shown_from", logging.INFO)
    monkeypatch.setattr(echo_module, "_bar_is_shown", False)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, term: str = "xterm") -> Terminal:
    """Standard output from here on."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "80")
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    return made


def test_a_line_has_the_time_and_a_warning_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    _log.debug("unseen")
    _log.info("[prepare] done in 3 s")
    _log.warning("[train paft/seed0] skipping incomplete checkpoint")
    _log.error("[train] lost")
    first, second, third = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{CLOCK}\[prepare\] done in 3 s", first)
    assert re.fullmatch(rf"{CLOCK}warning: \[train paft/seed0\] skipping incomplete checkpoint", second)
    assert re.fullmatch(rf"{CLOCK}error: \[train\] lost", third)


def test_quiet_shows_warnings_and_verbose_debug_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_from(logging.WARNING)
    _log.info("a")
    _log.warning("b")
    show_from(logging.DEBUG)
    _log.debug("c")
    assert [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()] == ["warning: b", "debug: c"]


def test_a_line_is_shown_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    _log.info("run \x1b[2J 100% %s")
    assert capsys.readouterr().out.split(" ", 1)[1] == "run \\x1b[2J 100% %s\n"


def test_handlers_of_libraries_on_the_root_do_not_repeat_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)
    try:
        _log.warning("once")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().out.count("once") == 1


def test_progress_is_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log_progress(_log, "step 1/20", 0.05, is_plain=False)
    log_progress(_log, "step 10/20", 0.5)
    log_progress(_log, "step 20/20", 1.0)
    assert [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()] == ["step 10/20", "step 20/20"]


def test_progress_is_a_bar_on_a_terminal_and_other_lines_take_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    log_progress(_log, "step 5/20 \x1b[2J", 0.25, is_plain=False)
    bar = terminal.getvalue()
    assert "step 5/20 \\x1b[2J" in bar
    assert "━" in bar
    assert "\n" not in bar
    _log.info("[train] another line")
    log_progress(_log, "step 6/20", 0.3)
    log_progress(_log, "step 20/20", 1.0)
    end_progress()
    lines = terminal.getvalue().split("\n")
    assert len(lines) == 3
    assert re.search(rf"\r\x1b\[2K{CLOCK}\[train\] another line$", lines[0])
    assert re.search(rf"\r\x1b\[2K{CLOCK}step 20/20$", lines[1]), "the end of the work stays as a line"
    assert lines[2] == ""


def test_a_bar_is_gone_before_an_error_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    log_progress(_log, "step 5/20", 0.25)
    echo("paft: stopped", err=True)
    assert terminal.getvalue().endswith("\r\x1b[2K")
    end_progress()
    assert terminal.getvalue().count("\x1b[2K") == 1


def test_a_bar_is_no_longer_than_the_terminal_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    log_progress(_log, "x" * 500, 0.25)
    assert len(re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())) <= 80


def test_work_of_unknown_length_has_a_bar_too(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    log_progress(_log, "[score] 12 requests answered", None)
    assert "[score] 12 requests answered" in terminal.getvalue()
    assert "━" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_draw_again_gets_lines(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch, term)
    log_progress(_log, "step 5/20", 0.25)
    assert re.fullmatch(rf"{CLOCK}step 5/20\n", terminal.getvalue())


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("prepare", "[prepare]"),
        ("train/paft-s0", "[train paft/seed0]"),
        ("train/top_accuracy-s12", "[train top_accuracy/seed12]"),
        ("sweep/size1-subset0", "[sweep size1-subset0]"),
    ],
)
def test_a_label_names_stage_and_model(folder: str, label: str) -> None:
    assert stage_label(folder) == label
