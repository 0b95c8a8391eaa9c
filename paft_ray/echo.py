"""The one place that writes to the terminal: whatever the text holds, it shows as text, and the terminal's encoding
does not matter.

Secrets are masked. Control and hidden characters are written out (an escape sequence would rule the terminal), and so
are characters that the encoding lacks. A test over the syntax tree finds output by other ways.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Container, Sequence
from contextlib import suppress
from typing import Any, TextIO

from paft_ray.errors import UserError
from paft_ray.sanitize import holds_hidden, masked, visible

_BAR_WIDTH = 24
_ERASED = "\r\x1b[2K"
_bar_is_shown = False


def echo(text: object, *, err: bool = False, end: str = "\n") -> None:
    """Writes a text, of several lines too, to standard output (`err`: standard error) at once.

    Raises `UserError` where standard output takes nothing, such as a full disk behind `>`; a pipe that is closed stays
    a `BrokenPipeError`.
    """
    _write(f"{visible(masked(str(text)))}{end}", err=err)


def echo_json(value: Any) -> None:
    """Writes a value as JSON; where a text in it does not show, or not on this terminal, in ASCII."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if holds_hidden(text) or text != _encodable(text, sys.stdout):
        text = json.dumps(value, indent=2)
    echo(text)


def echo_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str,
    red: Container[int] = (),
    last_of_part: Container[int] = (),
) -> None:
    """Writes a table. `red`: numbers of rows that are marked; `last_of_part`: of rows with a line below them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(visible(title), style="italic"))
    for column in columns:
        table.add_column(Text(visible(column)), overflow="fold", no_wrap=column != columns[0])
    for number, row in enumerate(rows):
        cells = [Text(visible(masked(" ".join(str(value).split("\n"))))) for value in row]  # not markup
        table.add_row(*cells, style="red" if number in red else None, end_section=number in last_of_part)
    console = Console()
    with console.capture() as rendered:
        console.print(table)
    _write(rendered.get())


def shows_progress() -> bool:
    """Whether standard output is a terminal that can draw a line again."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


def echo_progress(text: str, fraction: float | None) -> None:
    """Draws a text and a bar (one that pulses where the fraction is not known) in the last line of the terminal;
    whatever is written next takes its place."""
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    global _bar_is_shown
    console = Console()
    line = Table.grid(padding=(0, 1))
    line.add_column(overflow="ellipsis", no_wrap=True, max_width=max(1, console.width - _BAR_WIDTH - 2))
    line.add_column(width=_BAR_WIDTH)
    line.add_row(
        Text(visible(masked(text))),
        ProgressBar(total=None if fraction is None else 1.0, completed=fraction or 0.0, width=_BAR_WIDTH),
    )
    with console.capture() as rendered:
        console.print(line)
    _write(rendered.get().rstrip("\n"))
    _bar_is_shown = True


def end_progress() -> None:
    """Removes the bar, if one is shown."""
    if _bar_is_shown:
        _write("")


def _write(text: str, *, err: bool = False) -> None:
    global _bar_is_shown
    if _bar_is_shown:
        _bar_is_shown = False
        if err:
            _write(_ERASED)
        else:
            text = _ERASED + text
    stream = sys.stderr if err else sys.stdout
    try:
        stream.write(_encodable(text, stream))
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _to_nothing(stream)
        if not err:
            reason = os.strerror(error.errno or errno.EIO)
            raise UserError(
                f"standard output cannot be written ({reason}); free some space there, or send it elsewhere"
            ) from None


def _encodable(text: str, stream: TextIO) -> str:
    """With what the stream's encoding lacks written out (`\\u201c`)."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, errors="backslashreplace").decode(encoding)


def _to_nothing(stream: TextIO) -> None:
    """What Python still holds for the stream is thrown away, so that it does not fail on it again at its end."""
    with suppress(OSError, io.UnsupportedOperation, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
