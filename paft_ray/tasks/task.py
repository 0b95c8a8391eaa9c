"""Task and Example: what is asked, what is the answer, and how a completion is judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from paft_ray.config import Place, builtin, read_yaml_file
from paft_ray.errors import UserError
from paft_ray.sanitize import masked
from paft_ray.tasks.pattern import MATCH_S, PatternError, check_pattern, finditer
from paft_ray.tasks.values import at, find_label, listed, nfc, plain, shown, text_of


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of a task."""

    id: str
    """Given by the data, else a content hash and occurrence number; unique in a run."""
    fields: Mapping[str, str]
    """Text of every field of the task."""
    answer: str
    """Label text (`choice`) or the complete reference answer (`free`)."""


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
    """Column of the answer, or the dotted path to it."""
    columns: dict[str, str] = {}
    """Field name -> column, or dotted path (list items by number), where they differ."""
    labels: dict[str, str] = {}
    """`choice`: value in the data -> label text; the label texts are the allowed answers. `"true"` is also the value
    true of JSON and Parquet."""
    pattern: str | None = None
    """`free`: regular expression whose first group is the final answer, in completion and reference alike."""
    options: dict[str, str] = {}
    """`choice`: label text -> field that holds this option, where labels are letters; synthesized templates then show
    `A: {field}`."""
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
    """License of the rows in `sources`, for the model card; decides no result, so no stage's key holds it."""

    @model_validator(mode="before")
    @classmethod
    def _label_list(cls, values: Any) -> Any:
        given = values.get("labels") if isinstance(values, dict) else None
        texts = [*given, *given.values()] if isinstance(given, dict) else given if isinstance(given, list) else []
        if wrong := [value for value in texts if isinstance(value, bool) or not isinstance(value, str | int)]:
            raise ValueError(f"labels: text or integers are needed, YAML reads {wrong[0]!r}; put the label in quotes")
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
            raise ValueError(
                f"fields: {wrong[0]!r} is no name that a template can hold as {{name}}; use letters, digits and "
                "_, not a digit first"
            )
        if self.kind == "choice" and len(self.label_texts) < 2:
            raise ValueError("labels: a task of kind choice needs at least two")
        if wrong := [label for label in self.label_texts if label != label.strip() or not label]:
            raise ValueError(
                f"labels: {wrong[0]!r} is empty or has spaces around it, so no answer can be it; take them away"
            )
        if self.kind == "free" and self.pattern is None:
            raise ValueError("pattern: a task of kind free needs a regular expression with one group")
        if unknown := sorted(set(self.columns) - set(self.fields)):
            raise ValueError(
                f"columns: {', '.join(unknown)} are no fields of the task; allowed: {', '.join(self.fields)}"
            )
        if unknown := [
            f"{label}: {name}"
            for label, name in self.options.items()
            if label not in self.label_texts or name not in self.fields
        ]:
            raise ValueError(f"options: {', '.join(unknown)}: label text -> field name is needed")
        if self.pattern is not None:
            try:
                check_pattern(self.pattern)
            except PatternError as error:
                raise ValueError(f"pattern: {error}") from None
        return self

    @model_validator(mode="after")
    def _labels_apart(self) -> Task:
        """No two labels, and no two values with different labels, are one text in two Unicode forms."""
        for pairs in ([(label, label) for label in self.label_texts], list(self.labels.items())):
            first: dict[str, tuple[str, str]] = {}
            for key, label in pairs:
                other = first.setdefault(nfc(key), (key, label))
                if other[1] != label:
                    raise ValueError(
                        f"labels: {other[0]!a} and {key!a} are the same text in two Unicode forms; keep one of them"
                    )
        return self

    @property
    def label_texts(self) -> tuple[str, ...]:
        """Allowed answers of a `choice` task, in the order of the YAML file, without repeats."""
        return tuple(dict.fromkeys(self.labels.values()))

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """The `Example` in a raw row; `where` (file and line) opens the `UserError` of a bad one."""
        fields = {name: text_of(at(row, self.columns.get(name, name), where), name, where) for name in self.fields}
        value = plain(at(row, self.answer, where))
        answer = (
            self._label(value, where)
            if self.kind == "choice"
            else self._reference(text_of(value, self.answer, where), where)
        )
        given = row.get("id")
        identity = text_of(given, "id", where) if given is not None else content_id(fields, answer)
        return Example(id=identity, fields=fields, answer=answer)

    def _label(self, value: Any, where: str) -> str:
        text = str(value) if isinstance(value, bool) else text_of(value, self.answer, where)
        label = find_label(self.labels, text)
        if label is None:
            raise UserError(
                f"{where}: unknown label {shown(text, self.labels)}; allowed: {listed(self.labels)}; fix the "
                f"row or the labels of task {self.name}"
            )
        return label

    def _reference(self, answer: str, where: str) -> str:
        pattern = f"pattern {masked(self.pattern or '')[:100]!r} of task {self.name}"
        try:
            if self._last_match(answer) is None:
                raise UserError(f"{where}: the reference answer does not match {pattern}; fix the row or the pattern")
        except TimeoutError:
            raise UserError(
                f"{where}: {pattern} searches the reference answer for over {MATCH_S:g} s; write one without "
                "repeats of repeats"
            ) from None
        return answer

    def _last_match(self, text: str) -> str | None:
        """What the group of `pattern` holds at its last match. Raises `TimeoutError`."""
        matches = finditer(self.pattern or "", text)
        return (matches[-1].group(1) or "").replace(",", "").rstrip(".").strip() if matches else None

    def final(self, text: str) -> str | None:
        """The judged part of a completion or a reference: a label, or the last match of `pattern`; None if there is
        none, or none in time."""
        if self.kind == "choice":
            return next((label for label in self.label_texts if nfc(label) == nfc(text.strip())), None)
        try:
            return self._last_match(text)
        except TimeoutError:
            return None

    def judge(self, completion: str, answer: str) -> tuple[bool, bool]:
        """(parsed, correct) of a completion against a reference; what cannot be parsed is wrong."""
        found = self.final(completion)
        return found is not None, found is not None and found == self.final(answer)


def content_id(fields: Mapping[str, str], answer: str) -> str:
    """Identity of a row without an id: 16 hex digits over its content (the reader adds the occurrence number)."""
    return hashlib.sha256(json.dumps([sorted(fields.items()), answer], ensure_ascii=True).encode()).hexdigest()[:16]


def load_task(name: str) -> Task:
    """The built-in task of this name, or the task in a YAML file. Raises `UserError`."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else builtin("tasks", "builtin") / f"{name}.yaml"
    if not path.is_file():
        raise UserError(
            f"task {name}: no such task; built in: {', '.join(_built_in())}; or give the path of a task YAML file"
        )
    values = read_yaml_file(path, "task")
    _check_written(values, yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader), f"task {path}")  # noqa: S506 (reads scalars as text)
    try:
        return Task.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'task'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise UserError(f"task {path}: {problems}") from None


def is_built_in(task: Task) -> bool:
    """Whether the task ships with the package, as it is."""
    return task.name in _built_in() and load_task(task.name).model_dump() == task.model_dump()


def _built_in() -> list[str]:
    return sorted(path.stem for path in builtin("tasks", "builtin").glob("*.yaml"))


def _check_written(value: Any, written: Any, where: str, path: tuple[str, ...] = ()) -> None:
    """Raises `UserError` for a name or a text that YAML reads as something else than what is written (`on`, `007`,
    `12:30`)."""
    if isinstance(value, Mapping) and isinstance(written, Mapping):
        for (key, inner), (name, text) in zip(value.items(), written.items(), strict=False):
            _check_scalar(key, name, where, path)
            _check_written(inner, text, where, (*path, name))
    elif isinstance(value, list) and isinstance(written, list):
        for inner, text in zip(value, written, strict=False):
            _check_written(inner, text, where, path)
    elif value is not None and path != ("max_answer_tokens",):
        _check_scalar(value, written, where, path)


def _check_scalar(value: Any, written: Any, where: str, path: tuple[str, ...]) -> None:
    label = path[:1] == ("labels",)
    if isinstance(written, str) and not isinstance(value, str) and not (label and str(value) == written):
        thing = "the label" if label else "it"
        raise UserError(
            f"{where}: {'.'.join(path) or 'task'}: {written!r} is written, YAML reads {value!r}; put {thing} in quotes"
        )
