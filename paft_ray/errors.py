"""The exception types, and what their messages of one line need."""

from collections.abc import Sequence
from typing import Any

from paft_ray.sanitize import masked, visible


class UserError(ValueError):
    """Bad input: one line that says what was given, what is allowed and what to do.

    The command line prints it without a traceback and exits with code 2. Raised before any resource is requested.
    """


def one_line(text: object) -> str:
    """What an error (or anything else) says, for a message of one line: no line breaks, repeated spaces, hidden
    characters or secrets.

    What is too long is truncated afterwards, never before: half a secret is found by no one.
    """
    return visible(masked(" ".join(masked(str(text)).split())))


def first_fault(error: Any, whole: str = "it") -> str:
    """`entry: what is wrong` of the first fault that pydantic found; `whole`: stands for the value itself."""
    fault = error.errors()[0]
    return one_line(f"{'.'.join(map(str, fault['loc'])) or whole}: {fault['msg']}")


def some(names: Sequence[str], most: int = 3) -> str:
    """The first `most` of the names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_text(text: str, name: str, where: str) -> None:
    """Raises `UserError` for half a character (such as a lone `\\ud83d` in JSON), which no file or tokenizer downstream
    can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {name} holds half a character ({text[error.start]!a}); write the complete character or drop it"
        ) from None


class StorageError(OSError):
    """The storage of a run fails: one line that says which, what could not be done, why, and what to do.

    At the start of a command it is the user's to fix (exit code 2), in a stage it becomes a `StageError`. It travels
    out of Ray's workers as it is.
    """


class StageError(RuntimeError):
    """A stage failed on work that had started (an engine crashed, too many rows failed); exit code 1, the run can be
    resumed."""
