"""Task and Example: what is asked, what is the answer, and how a completion is judged."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from paft_ray.config import Place, builtin, read_yaml_file
from paft_ray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of a task."""

    id: str
    """Given by the data, else a content hash and occurrence number; unique in a run."""
    fields: Mapping[str, str]
    """Text of every field of the task."""
    answer: str
    """Label text (`choice`) or the whole reference answer (`free`)."""


class Source(BaseModel):
    """Where rows come from: a file, or a Hugging Face data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Place | None = None
    """JSONL, CSV or Parquet at any pyarrow URI; `builtin:NAME` is a file shipped with the package."""
    dataset: str | None = None
    """Hugging Face data set id."""
    config: str | None = None
    """Configuration name of the data set."""
    split: str | None = None
    """Split of the data set."""
    revision: str | None = None
    """Commit of the data set."""

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("a source names exactly one of path and dataset")
        if self.dataset is not None and self.split is None:
            raise ValueError(f"data set {self.dataset}: name its split, e.g. split: train")
        return self


class Task(BaseModel):
    """A task as its YAML file declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["choice", "free"]
    description: str
    """One sentence for the generator models: what is asked of whom."""
    fields: dict[str, str]
    """Field name -> what it holds, for the generator models."""
    answer: str = "label"
    """Column (dotted path) of the answer."""
    columns: dict[str, str] = {}
    """Field name -> column (dotted path, list items by number) where they differ."""
    labels: dict[str, str] = {}
    """`choice`: value in the data -> label text; the label texts are the allowed answers."""
    pattern: str | None = None
    """`free`: regular expression whose first group is the final answer, in completion and reference alike."""
    options: dict[str, str] = {}
    """`choice`: label text -> field that holds this option, where labels are letters; synthesized templates then show `A: {field}`."""
    answer_format: str | None = None
    """`free`: the sentence that asks for what `pattern` reads; ends the question of every synthesized template."""
    max_answer_tokens: Annotated[int, Field(gt=0)] = 16
    """Longest answer in tokens when it is generated."""
    sources: dict[Literal["train", "validation", "test"], Source] = {}
    seed_templates: Place | None = None
    """`builtin:NAME` or path of a JSONL file of templates shipped with the task."""
    held_out_templates: Place | None = None
    """Likewise for templates that are never trained on."""
    license: Annotated[str | None, Field(exclude=True)] = None
    """Licence of the rows in `sources`, for the model card; decides no result, so no stage's key holds it."""

    @model_validator(mode="before")
    @classmethod
    def _label_list(cls, values: Any) -> Any:
        given = values.get("labels") if isinstance(values, dict) else None
        texts = [*given, *given.values()] if isinstance(given, dict) else given if isinstance(given, list) else []
        if wrong := [value for value in texts if isinstance(value, bool) or not isinstance(value, str | int)]:
            raise ValueError(f"labels: text or whole numbers are needed, YAML reads {wrong[0]!r}; put the label in quotes")
        if isinstance(values, dict) and isinstance(values.get("labels"), list):
            values = {**values, "labels": {str(label): str(label) for label in values["labels"]}}
        elif isinstance(values, dict) and isinstance(values.get("labels"), dict):
            values = {**values, "labels": {str(k): str(v) for k, v in values["labels"].items()}}
        return values

    @model_validator(mode="after")
    def _complete(self) -> Task:
        if not self.fields:
            raise ValueError("fields: at least one field is needed")
        if wrong := [name for name in self.fields if not (name.isascii() and name.isidentifier())]:
            raise ValueError(f"fields: {wrong[0]!r} is no name that a template can hold as {{name}}; use letters, digits and _, not a digit first")
        if self.kind == "choice" and len(self.label_texts) < 2:
            raise ValueError("labels: a task of kind choice needs at least two")
        if wrong := [label for label in self.label_texts if label != label.strip() or not label]:
            raise ValueError(f"labels: {wrong[0]!r} is empty or has spaces around it, so no answer can be it; take them away")
        if self.kind == "free" and self.pattern is None:
            raise ValueError("pattern: a task of kind free needs a regular expression with one group")
        if unknown := sorted(set(self.columns) - set(self.fields)):
            raise ValueError(f"columns: {', '.join(unknown)} are no fields of the task; allowed: {', '.join(self.fields)}")
        if unknown := [f"{label}: {name}" for label, name in self.options.items() if label not in self.label_texts or name not in self.fields]:
            raise ValueError(f"options: {', '.join(unknown)}: label text -> field name is needed")
        if self.pattern is not None:
            try:
                if re.compile(self.pattern).groups != 1:
                    raise ValueError("pattern: exactly one group is needed")
            except re.error as error:
                raise ValueError(f"pattern: not a regular expression ({error})") from None
        return self

    @property
    def label_texts(self) -> tuple[str, ...]:
        """Allowed answers of a `choice` task, in the order of the YAML file, without repeats."""
        return tuple(dict.fromkeys(self.labels.values()))

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """The `Example` in a raw row; `where` (file and line) opens the `UserError` of a bad one."""
        fields = {name: _text(_at(row, self.columns.get(name, name), where), name, where) for name in self.fields}
        answer = _text(_at(row, self.answer, where), self.answer, where)
        if self.kind == "choice":
            if answer not in self.labels:
                raise UserError(f"{where}: unknown label {answer!r}; allowed: {', '.join(self.labels)}; mend the row or the labels of task {self.name}")
            answer = self.labels[answer]
        elif self.final(answer) is None:
            raise UserError(f"{where}: the reference answer does not match pattern {self.pattern!r} of task {self.name}; mend the row or the pattern")
        given = row.get("id")
        identity = _text(given, "id", where) if given is not None else content_id(fields, answer)
        return Example(id=identity, fields=fields, answer=answer)

    def final(self, text: str) -> str | None:
        """The judged part of a completion or a reference: a label, or the last match of `pattern`; None if there is none."""
        if self.kind == "choice":
            return text.strip() if text.strip() in self.label_texts else None
        matches = re.findall(self.pattern or "", text)
        return matches[-1].replace(",", "").rstrip(".").strip() if matches else None

    def judge(self, completion: str, answer: str) -> tuple[bool, bool]:
        """(parsed, correct) of a completion against a reference; what cannot be parsed is wrong."""
        found = self.final(completion)
        return found is not None, found is not None and found == self.final(answer)


def content_id(fields: Mapping[str, str], answer: str) -> str:
    """Identity of a row without an id: 16 hex digits over its content (the reader adds the occurrence number)."""
    return hashlib.sha256(json.dumps([sorted(fields.items()), answer], ensure_ascii=True).encode()).hexdigest()[:16]


def load_task(name: str) -> Task:
    """The built-in task of this name, or the task in a YAML file. Raises `UserError`."""
    shipped = builtin("tasks", "builtin")
    path = Path(name) if name.endswith((".yaml", ".yml")) else shipped / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped.glob("*.yaml")))
        raise UserError(f"task {name}: no such task; built in: {known}; or give the path of a task YAML file")
    try:
        return Task.model_validate(read_yaml_file(path, "task"))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'task'}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
        raise UserError(f"task {path}: {problems}") from None


def _at(row: Mapping[str, Any], path: str, where: str) -> Any:
    value: Any = row
    for part in path.split("."):
        try:
            value = value[int(part)] if isinstance(value, list | tuple) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise UserError(f"{where}: no column {path!r}; the row has: {', '.join(map(str, row))}; mend the row or set `columns` in the task") from None
    return value


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: {name} must be text or a number, found {type(value).__name__}; mend the row")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {name} is a missing value ({value}); fill it in or drop the row")
    text = str(value)
    if not text.strip():
        raise UserError(f"{where}: {name} is empty; fill it in or drop the row")
    return text
