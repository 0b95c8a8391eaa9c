"""`paft prompts import`: lists of templates through the gate, into a file that a configuration can name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from paft_ray.cli.out_file import written_to
from paft_ray.echo import echo
from paft_ray.errors import UserError, one_line, some
from paft_ray.prompts.imports import Imported, Rejection, import_templates
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task

_SHOWN = 60  # characters of a rejected template


def import_files(
    files: Sequence[str], task: str, out: str, max_words: int, renames: Sequence[str], *, as_json: bool
) -> None:
    """Writes the kept templates to `out` and prints what became of all. Raises `UserError` for files that cannot be
    read or written, and where none was kept."""
    if not out.endswith((".parquet", ".jsonl")):
        raise UserError(f"--out {out}: unknown kind of file; allowed: .parquet, .jsonl")
    result = import_templates(files, load_task(task), max_words, renames)
    if result.kept:
        _write(result, out)
    _show(result, as_json=as_json)
    if not result.kept:
        raise UserError(
            f"templates {some(files)}: none of {len(result.verdicts)} came through the gate ({result.rejected}); "
            "nothing was written, see paft prompts import --help"
        )


def _write(result: Imported, out: str) -> None:
    name = Path(out).name
    kept = PromptSet(tuple(Entry.of_file(template, "user") for template in result.kept))  # the first one is arm sft's
    with written_to(out):
        folder = Store("/".join(out.split("/")[:-1] or ["."]) or "/")
        if name.endswith(".parquet"):
            folder.write_table(name, kept.to_table())
        else:
            folder.write_bytes(name, kept.to_jsonl().encode())


def _show(result: Imported, *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps({**result.summary(), "rejections": [asdict(each) for each in result.rejections]}))
        return
    counts = [f"{name}: {value}" for name, value in result.summary().items()]
    echo("\n".join([*counts, *map(_line, result.rejections)]))


def _line(rejection: Rejection) -> str:
    about = f" ({one_line(rejection.detail)[:_SHOWN]})" if rejection.detail else ""
    return f"{rejection.file}, {rejection.name}: {rejection.reason}{about}: {one_line(rejection.text)[:_SHOWN]!r}"
