"""One bad input: what is given and what the command line must say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Content = str | bytes
GOOD_ROW = '{"text": "a fine film", "label": "positive"}\n'
GOOD_CONFIG = "name: a\ntask: demo\n"
GOOD_TASK = (
    "name: t\nkind: choice\ndescription: d\nfields: {text: the text}\nlabels: [bad, good]\nsources: {train: {path: "
    "'{dir}/rows.jsonl'}}\n"
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """`{dir}` stands for the case's own folder in arguments and in files of text."""

    given: str
    """What is wrong, the name of the case."""
    arguments: tuple[str, ...]
    """Of `paft`."""
    says: str
    """Part of the one line on stderr."""
    files: Mapping[str, Content] = field(default_factory=dict)
    """Name -> content, written before; `name -> target` in place of a name is a link."""
    code: int = 2

    def write(self, folder: Path) -> list[str]:
        """The arguments, with the files of the case in `folder`."""
        for name, content in self.files.items():
            link, arrow, target = name.partition(" -> ")
            path = folder / link
            path.parent.mkdir(parents=True, exist_ok=True)
            if arrow:
                path.symlink_to(target)
            else:
                path.write_bytes(
                    content if isinstance(content, bytes) else content.replace("{dir}", str(folder)).encode()
                )
        return [argument.replace("{dir}", str(folder)) for argument in self.arguments]


def setting(
    given: str, says: str, *overrides: str, files: Mapping[str, Content] | None = None, dry: bool = False
) -> Case:
    """The demo configuration with one or more settings changed."""
    changes = ["prompts.generators=[]", "storage={dir}/runs", *overrides]
    arguments = [
        "run",
        "jobs/configs/demo.yaml",
        *(part for change in changes for part in ("--set", change)),
        *(["--dry-run"] if dry else []),
    ]
    return Case(given=given, arguments=tuple(arguments), says=says, files=files or {})


def config(given: str, says: str, content: Content) -> Case:
    """A configuration file of its own."""
    return Case(given=given, arguments=("run", "{dir}/c.yaml", "--dry-run"), says=says, files={"c.yaml": content})


def task(given: str, says: str, content: Content) -> Case:
    """A task file of its own."""
    files = {"t.yaml": content, "rows.jsonl": '{"text": "a fine film", "label": "good"}\n'}
    return setting(given, says, "task={dir}/t.yaml", files=files, dry=True)


def rows(given: str, says: str, content: Content, name: str = "rows.jsonl") -> Case:
    """A file of training rows, looked through as a whole."""
    return setting(given, says, "data.train={dir}/" + name, files={name: content}, dry=True)


def templates(given: str, says: str, content: Content, name: str = "templates.jsonl") -> Case:
    """A file of seed templates."""
    return setting(given, says, "prompts.seed_templates={dir}/" + name, files={name: content}, dry=True)


def imported(given: str, says: str, content: Content, name: str) -> Case:
    """A file of templates for `paft prompts import`."""
    arguments = ("prompts", "import", "{dir}/" + name, "--task", "demo", "--out", "{dir}/out.jsonl")
    return Case(given=given, arguments=arguments, says=says, files={name: content})


def parquet(table: pa.Table) -> bytes:
    """The bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())
