"""PromptSet: an ordered, content-hashed table of templates with provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.fs as pafs

from paft_ray.errors import UserError, check_text, one_line
from paft_ray.files import parquet
from paft_ray.files.regular import LARGEST_TEXT, read_regular
from paft_ray.prompts.sampling import keyed_order
from paft_ray.prompts.template import PromptTemplate, TemplateError, check_fields
from paft_ray.sanitize import holds_hidden, visible
from paft_ray.tasks.readers import read_json

Split = Literal["train", "held_out"]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("system", pa.string()),
        ("split", pa.string()),
        ("cluster", pa.int32()),
        ("provenance", pa.string()),
    ]
)


_TEXT_COLUMNS = ("text", "system", "group", "provenance")
_NAMES = ("group", "frame")
_LONGEST_NAME = 40
_PEOPLE = ("seed", "held_out", "user", "unknown")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A template with where it comes from and where it goes."""

    template: PromptTemplate
    split: Split = "train"
    cluster: int = -1
    """Cluster of near-duplicates; templates of one cluster share a split."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """`source` (seed, held_out, user, or generator id), `group` where the template's file names one, `frame` where a
    grammar composed it, and for generated ones strategy, axes, attempt, grammar_share."""

    @property
    def source(self) -> str:
        """Who wrote it: `seed`, `held_out` or `user` for people, else the generator, which is the grammar where a
        user's file names a frame."""
        given = str(self.provenance.get("source", "unknown"))
        return "grammar" if given in _PEOPLE and "frame" in self.provenance else given

    @property
    def is_generated(self) -> bool:
        """Whether a generator wrote it."""
        return self.source not in _PEOPLE

    @classmethod
    def of_file(cls, template: PromptTemplate, source: str, split: Split = "train") -> Entry:
        """The entry of a template that somebody wrote into a file."""
        named = {name: getattr(template, name) for name in _NAMES if getattr(template, name) is not None}
        return cls(template=template, split=split, provenance={"source": source, **named})


@dataclass(frozen=True)
class PromptSet:
    """Templates sorted by content id, each once."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> PromptSet:
        """A set sorted by content id; a template that comes twice keeps its first entry, so file order is no input to
        draws."""
        unique: dict[str, Entry] = {}
        for entry in entries:
            unique.setdefault(entry.template.id, entry)
        return cls(tuple(unique[key] for key in sorted(unique)))

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def templates(self) -> tuple[PromptTemplate, ...]:
        """The templates in index order (what a draw's index points into)."""
        return tuple(entry.template for entry in self.entries)

    def split(self, name: Split) -> PromptSet:
        """The part of one split."""
        return PromptSet(tuple(entry for entry in self.entries if entry.split == name))

    def only(self, ids: Iterable[str]) -> PromptSet:
        """The templates with these content ids."""
        wanted = set(ids)
        return PromptSet(tuple(entry for entry in self.entries if entry.template.id in wanted))

    def take(self, n: int, seed: int) -> PromptSet:
        """A random subset of n templates; for one seed the smaller is part of the larger. Raises `UserError` where the
        set is smaller than n."""
        if not 1 <= n <= len(self):
            raise UserError(f"prompt set: {n} templates asked for, it holds {len(self)}; ask for 1 to {len(self)}")
        order = keyed_order([entry.template.id for entry in self.entries], seed, "subset")
        return PromptSet(tuple(self.entries[i] for i in sorted(order[:n])))

    @property
    def content_hash(self) -> str:
        """SHA-256 over ids and splits, 16 hex digits."""
        return hashlib.sha256(json.dumps([(e.template.id, e.split) for e in self.entries]).encode()).hexdigest()[:16]

    def to_table(self) -> pa.Table:
        """An Arrow table with `SCHEMA`."""
        rows = [
            {
                "id": e.template.id,
                "text": e.template.text,
                "system": e.template.system,
                "split": e.split,
                "cluster": e.cluster,
                "provenance": json.dumps(e.provenance, sort_keys=True),
            }
            for e in self.entries
        ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def to_jsonl(self) -> str:
        """Rows with `text` and, where there is one, `system`, `group` and `frame`: what `read_templates` reads."""
        rows = [
            {"text": e.template.text}
            | ({} if e.template.system is None else {"system": e.template.system})
            | {name: e.provenance[name] for name in _NAMES if name in e.provenance}
            for e in self.entries
        ]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    @classmethod
    def from_table(cls, table: pa.Table) -> PromptSet:
        """The set in a table made by `to_table`; content ids are computed anew. Raises `UserError` for any other
        table."""
        if not table.schema.equals(SCHEMA):
            raise UserError(
                f"prompt set: its columns are {', '.join(table.column_names)}, not those of this version; run "
                "stage synthesize again"
            )
        try:
            return cls.of(
                Entry(
                    template=PromptTemplate(text=row["text"], system=row["system"]),
                    split=_split(row["split"]),
                    cluster=row["cluster"],
                    provenance=json.loads(row["provenance"]),
                )
                for row in table.to_pylist()
            )
        except (ValueError, TypeError) as error:
            raise UserError(f"prompt set: a row cannot be read ({error}); run stage synthesize again") from None


def read_templates(path: str | Path) -> list[PromptTemplate]:
    """Templates of a JSONL file (rows with `text`, optional `system` and `group`) or of a Parquet file with these
    columns, in file order, not yet parsed.

    Raises `UserError` with file and line.
    """
    if str(path).endswith(".parquet"):
        return _parquet_templates(path)
    try:
        lines = read_regular(path, largest=LARGEST_TEXT).decode("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(
            f"templates {path}: cannot be read ({error}); give a UTF-8 JSONL file of rows with `text`"
        ) from None
    templates = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: not JSON ({error}); each line is one object with `text`") from None
        if not is_template_row(row):
            raise UserError(
                f"{path}:{number}: an object with the text `text` (and optional texts `system`, `group`) is needed"
            )
        templates.append(template_of_row(row, f"{path}:{number}"))
    if not templates:
        raise UserError(f"templates {path}: no templates in the file; give JSONL rows with `text`")
    return templates


def is_template_row(row: Any) -> bool:
    """Whether it is an object with the text `text`, and `system` and `group` are texts where they are there."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("text"), str)
        and all(isinstance(row.get(name), str | None) for name in ("system", *_NAMES))
    )


def template_of_row(row: Mapping[str, Any], where: str) -> PromptTemplate:
    """The template in a row that `is_template_row`. Raises `UserError`, opened by `where` (file and line), for text
    that no file can hold and for a group whose name cannot be shown."""
    check_text(row["text"] + (row.get("system") or ""), "text", where)
    for name in _NAMES:
        value: str | None = row.get(name)
        if value is not None:
            check_text(value, name, where)
            if not 0 < len(value.strip()) == len(value) <= _LONGEST_NAME or "\n" in value or holds_hidden(value):
                raise UserError(
                    f"{where}: {name} {visible(value)[:60]!r} is no short name; allowed: 1 to {_LONGEST_NAME} visible "
                    "characters on one line, without spaces around them"
                )
    system = row.get("system") or None
    return PromptTemplate(text=row["text"], system=system, group=row.get("group"), frame=row.get("frame"))


def _parquet_templates(path: str | Path) -> list[PromptTemplate]:
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise ValueError("not a regular file")
        rows = [
            row
            for _, row in parquet.read_rows(
                str(path),
                pafs.LocalFileSystem(),
                lambda schema: [name for name in _TEXT_COLUMNS if name in schema.names],
            )
        ]
    except UserError as error:
        raise UserError(f"templates {path}: {error}") from None
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"templates {path}: cannot be read ({one_line(error)[:200]}); give a Parquet or JSONL file with `text`"
        ) from None
    if not rows or not all(map(is_template_row, rows)):
        raise UserError(
            f"templates {path}: no rows with the text column `text` (and optional `system`, `group`); give a file that "
            "`paft prompts import` wrote, or JSONL"
        )
    return [
        template_of_row({**_names_in(row.get("provenance")), **row}, f"{path}: template {number}")
        for number, row in enumerate(rows, start=1)
    ]


def _names_in(provenance: Any) -> dict[str, str]:
    """The group and the frame that the provenance column of a written prompt set names."""
    try:
        found = json.loads(provenance)
    except (TypeError, ValueError, RecursionError):
        return {}
    names = {name: found.get(name) for name in _NAMES} if isinstance(found, dict) else {}
    return {name: value for name, value in names.items() if isinstance(value, str)}


def check_templates(templates: Sequence[PromptTemplate], fields: Iterable[str], source: str) -> None:
    """Raises `UserError` naming file and template for the first one that does not parse or does not name exactly the
    task's fields."""
    wanted = tuple(fields)
    for number, template in enumerate(templates, start=1):
        try:
            check_fields(template, wanted)
        except TemplateError as error:
            raise UserError(f"{source}: template {number}: {error}") from None


def _split(name: Any) -> Split:
    """Raises `ValueError` for a name that is none of a split."""
    if name not in get_args(Split):
        raise ValueError(f"split: given {str(name)[:60]!r}, allowed: {', '.join(get_args(Split))}")
    return name  # type: ignore[no-any-return]
