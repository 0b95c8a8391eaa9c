"""All output goes through one place: nothing in it rules the terminal, is taken as markup, or fails on the terminal's
encoding."""

import ast
import io
import json
import logging
import subprocess
import sys
import threading
import types
from dataclasses import asdict
from pathlib import Path

import pytest

from paft_ray import console
from paft_ray.cli.audit import audit_run
from paft_ray.cli.main import main
from paft_ray.cli.summary import print_summary
from paft_ray.echo import echo, echo_json, echo_table
from paft_ray.errors import UserError
from paft_ray.log import Line
from paft_ray.sanitize import holds_hidden
from paft_ray.storage.artifacts import RESULTS
from paft_ray.storage.run_lock import LEASE, Holder, hold
from paft_ray.storage.store import Store
from tests.support.made_stage import finish_stage
from tests.unit.cli.test_audit_run import log, made

ESCAPES = [
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\u202egnp.exe",
    "a\rb",
    "\x9b31m",
    "\u2028",
    "\x08\x08",
    "\u200bx",
    "\x85",
    "\U000e0041",
]
MARKUP = ["[/x]", "[red]x", "[link=file:///etc/passwd]x[/link]", "[", "[/]", "\\[bold]"]


def outputs(tree: ast.AST) -> list[str]:
    """Ways of writing to the terminal in a module."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("print", "Console"):
            found.append(f"{node.lineno}: {node.id}")
        if isinstance(node, ast.Attribute) and node.attr in ("echo", "secho", "Console", "__stdout__", "__stderr__"):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("write", "writelines", "buffer")
            and "sys.std" in ast.unparse(node)
        ):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("rich", "click", "typer")):
            found.append(f"{node.lineno}: from {node.module}")
    return found


_OTHERS = ("echo.py", "chat_child.py")  # the latter answers its parent process on a pipe


def test_nothing_but_echo_writes_to_the_terminal() -> None:
    files = sorted(Path("paft_ray").rglob("*.py"))
    assert len(files) > 100
    assert {
        str(path): ways for path in files if (ways := outputs(ast.parse(path.read_text()))) and path.name not in _OTHERS
    } == {}
    for way in (
        "print(1)",
        "f(announce=print)",
        "typer.echo(1)",
        "c = rich.console.Console()",
        "sys.stdout.write('a')",
        "from rich import print",
    ):
        assert outputs(ast.parse(way)), way


@pytest.mark.parametrize("text", ESCAPES)
def test_control_and_hidden_characters_are_written_out(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"run {text} done")
    echo(text, err=True)
    echo_table([f"arm {text}", "n"], [(text, 1), (f"x{text}", 2)], title=f"title {text}")
    out, err = capsys.readouterr()
    assert not any(holds_hidden(line) for line in (out + err).replace("\u200c", "").split("\n"))
    assert "\\" in out.split("\n")[0]


@pytest.mark.parametrize("text", MARKUP)
def test_markup_is_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    echo(text)
    echo_table(["arm", text], [(text, text)], title=text)
    out, _ = capsys.readouterr()
    assert out.split("\n")[0] == text
    assert out.count(text) >= 4


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    for value in ({"é": ["ü", 1.5, None]}, *({text: [text]} for text in ESCAPES)):
        echo_json(value)
        out, _ = capsys.readouterr()
        assert json.loads(out) == value
        assert not holds_hidden(out)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_takes_every_line(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    text = "a template\u2019s “text” – é 日本 😀 \ud83d"
    echo(text)
    echo_table(["arm", "text"], [("paft", text * 20)], title=text)
    echo_json({"text": "é 日本"})
    sys.stdout.flush()
    shown = raw.getvalue().decode(encoding)
    assert "a template" in shown.split("\n")[0]
    assert ("\\u65e5" in shown) == (encoding != "utf-8")


def test_a_curly_quote_does_not_end_the_thread_of_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    texts = ("before", "a template\u2019s text", "\ud83d half", "after")
    batches = iter([[Line(level=logging.INFO, created=0.0, text=text)] for text in texts])
    monkeypatch.setattr(ray, "get", lambda _: next(batches, []))
    monkeypatch.setattr(console, "_EVERY_S", 0.01)
    done = threading.Event()
    threading.Timer(0.5, done.set).start()
    console._show_lines(types.SimpleNamespace(take=types.SimpleNamespace(remote=lambda: None)), done)
    lines = raw.getvalue().decode("latin-1").split("\n")
    assert [line.partition(" ")[2] for line in lines] == [
        "before",
        "a template\\u2019s text",
        "\\ud83d half",
        "after",
        "",
    ]


def test_a_full_disk_behind_the_output_is_one_line_and_a_code(tmp_path: Path) -> None:
    for arguments in (["run", "jobs/configs/demo.yaml", "--dry-run", "--set", f"storage={tmp_path}/runs"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "paft_ray", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "free some space there" in done.stderr


def test_example_ids_of_the_data_are_shown_not_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, of = made(tmp_path / "r")
    log(run, of)
    store = run.below("train/paft-s3/audit/f")
    table = store.read_table("steps-00000000-00000007.parquet")
    ids = ["\x1b[2J[/x]" if n == 2 else value for n, value in enumerate(table["example_id"].to_pylist())]
    store.write_table("steps-00000000-00000007.parquet", table.set_column(3, table.schema.field(3), [ids]))
    assert audit_run(run.root) == 1
    out, _ = capsys.readouterr()
    assert "\\x1b[2J[/x] under" in out
    assert "\x1b" not in out


def test_a_verdict_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Store(str(tmp_path))
    row = dict.fromkeys(("mean", "std", "decile", "worst", "best", "named_rate"), 0.5)
    arms = {"[/y]\x1b[2J": {**row, "measures": {"behavior": {"mean": 0.5}}}}
    for verdict in ("[/x] paft is better \x1b[31m", "[link=x]y"):
        values = {"schema_version": 2, "headline": "behavior", "verdict": verdict, "findings": [f"found: {verdict}"]}
        outputs = RESULTS.write(run, {**values, "arms": arms})
        finish_stage(run, "report", outputs)
        print_summary(run)
        out, _ = capsys.readouterr()
        assert verdict.replace("\x1b", "\\x1b") in out
        assert "[/y]" in out
        assert "\x1b" not in out


def test_the_holder_of_a_lease_is_shown_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paft_ray.storage.run_lock.WATCH_S", 0.0)
    holder = Holder(
        id="a",
        host="\x1b]0;x\x07",
        pid=1,
        started=0.0,
        boot=None,
        namespace=None,
        user="\x1b[2J",
        command="run",
        since=0.0,
        renewed=0.0,
    )
    run = Store.at(str(tmp_path))
    run.write_json(LEASE, asdict(holder))
    with hold(run, "run"):
        pass
    out, _ = capsys.readouterr()
    assert "waiting 0 s for its heartbeat" in out
    assert "\x1b" not in out


def test_a_pipe_that_is_closed_stays_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        echo("x")

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    echo("an error has nowhere else to go", err=True)
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(UserError, match="standard output cannot be written"):
        echo("x")


@pytest.mark.parametrize("text", ESCAPES)
def test_an_option_that_is_none_is_shown_as_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([f"--x{text}"], ["run", "c.yaml", f"--x{text}=1"], ["audit", f"-{text}"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert not any(holds_hidden(line) for line in capsys.readouterr().err.split("\n"))
