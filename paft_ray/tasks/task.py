"""A task: what is asked, what is the answer, and which grader judges it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from paft_ray.config import Place, builtin, read_yaml_file
from paft_ray.errors import UserError
from paft_ray.tasks.example import Example
from paft_ray.tasks.graders.grader import UNJUDGED, ChecksReferences, Grader
from paft_ray.tasks.graders.guard import guarded
from paft_ray.tasks.graders.plugins import Found, PluginFile, find
from paft_ray.tasks.graders.registry import GRADERS, make_grader
from paft_ray.tasks.values import at, find_label, listed, nfc, plain, shown, text_of


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

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    name: str
    kind: Literal["choice", "free"] | None = None
    """Short for a grader: `choice` for that one, `free` for `regex` with `pattern`."""
    grader_settings: Annotated[dict[str, JsonValue] | None, Field(alias="grader")] = None
    """`grader`: how answers are judged, `type` with its settings; instead of `kind`."""
    description: str
    """One sentence for the generator models: what is asked of whom."""
    fields: dict[str, str]
    """Field name -> what it holds, for the generator models."""
    answer: str = "label"
    """Column of the answer, or the dotted path to it."""
    columns: dict[str, str] = {}
    """Field name -> column, or dotted path (list items by number), where they differ."""
    labels: dict[str, str] = {}
    """Value in the data -> label text; the label texts are the allowed answers. `"true"` is also the value true of JSON
    and Parquet."""
    pattern: str | None = None
    """`free`: regular expression whose first group is the final answer, in completion and reference alike."""
    options: dict[str, str] = {}
    """Label text -> field that holds this option, where labels are letters; synthesized templates then show
    `A: {field}`."""
    answer_format: str | None = None
    """The sentence that asks for what the grader reads; ends the question of every synthesized template."""
    max_answer_tokens: Annotated[int, Field(gt=0)] = 16
    """Longest answer in tokens when it is generated."""
    sources: dict[Literal["train", "validation", "test"], Source] = {}
    seed_templates: Place | None = None
    """`builtin:NAME` or path of a JSONL file of templates shipped with the task."""
    held_out_templates: Place | None = None
    """Likewise for templates that are never trained on."""
    license: Annotated[str | None, Field(exclude=True)] = None
    """License of the rows in `sources`, for the model card; decides no result, so no stage's key holds it."""
    _plugins: tuple[PluginFile, ...] = PrivateAttr(default=())
    """Files of graders that the user's configuration names; they travel with the task."""

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
        self._check_grader_named()
        if wrong := [label for label in self.label_texts if label != label.strip() or not label]:
            raise ValueError(
                f"labels: {wrong[0]!r} is empty or has spaces around it, so no answer can be it; take them away"
            )
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
        if self._grader_key[0] in GRADERS:  # one of a third party is made when it is asked for
            make_grader(*self._grader_key)
        if self.kind == "free" and self.labels:
            raise ValueError("labels: a task of kind free has none; take them away, or write kind: choice")
        return self

    def _check_grader_named(self) -> None:
        """Raises `ValueError` where neither `kind` nor `grader` says how answers are judged, or both do."""
        settings = self.grader_settings
        if (self.kind is None) == (settings is None):
            raise ValueError("kind: choice or free is needed, or grader: {type: ...} instead")
        if settings is not None and not isinstance(settings.get("type"), str):
            raise ValueError("grader.type: the name of a grader is needed, e.g. grader: {type: token_f1}")
        if self.kind != "free" and self.pattern is not None:
            raise ValueError("pattern: is of kind free; write it into grader, or take it away")
        if self.kind == "free" and self.pattern is None:
            raise ValueError("pattern: a task of kind free needs a regular expression with one group")

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

    @model_serializer(mode="wrap")
    def _as_given(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Of `kind` and `grader` the one that was given: what a task says is in every stage's key."""
        return {key: value for key, value in plain(self).items() if value is not None or key not in ("kind", "grader")}

    @property
    def label_texts(self) -> tuple[str, ...]:
        """Allowed answers, in the order of the YAML file, without repeats; `()`: answers are generated only."""
        return tuple(dict.fromkeys(self.labels.values()))

    @property
    def grader(self) -> Grader:
        """What judges the answers; its labels are `label_texts`. Raises `UserError` for a third party's that cannot be
        made, `NoGraderError` where nothing has one of this type."""
        kind, settings, labels = self._grader_key
        return _made(self.name, kind, json.dumps(settings), labels, self._plugins)

    @property
    def grader_identity(self) -> dict[str, str]:
        """Which code a third party's grader is, as a stage's key holds it; empty for one of this package. Raises as
        `grader`."""
        kind = self._grader_key[0]
        return {} if kind in GRADERS else dict(_found(self.name, kind, self._plugins).identity)

    def with_plugins(self, plugins: Sequence[PluginFile]) -> Task:
        """The same task, whose grader may come from these files."""
        task = self.model_copy()
        task._plugins = tuple(plugins)
        return task

    @property
    def _grader_key(self) -> tuple[str, dict[str, JsonValue], tuple[str, ...]]:
        """(type of the grader, its settings, the task's labels)."""
        if self.grader_settings is not None:
            settings = dict(self.grader_settings)
            return str(settings.pop("type")), settings, self.label_texts
        return ("choice", {}, self.label_texts) if self.kind == "choice" else ("regex", {"pattern": self.pattern}, ())

    @property
    def answer_pattern(self) -> str | None:
        """The pattern that finds an answer, None where the grader has none."""
        kind, settings, _ = self._grader_key
        return str(settings["pattern"]) if kind == "regex" else None

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """The `Example` in a raw row; `where` (file and line) opens the `UserError` of a bad one."""
        fields = {name: text_of(at(row, self.columns.get(name, name), where), name, where) for name in self.fields}
        value = plain(at(row, self.answer, where))
        answer = (
            self._label(value, where)
            if self.label_texts
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
        grader = self.grader
        fault = (
            grader.reference_fault(answer)
            if isinstance(grader, ChecksReferences)
            else None
            if grader.parse(answer) is not None
            else UNJUDGED
        )
        if fault:
            raise UserError(f"{where}: {fault}")
        return answer


class NoGraderError(UserError):
    """Nothing here has a grader of the type that a task names."""


@lru_cache(maxsize=64)
def _made(task: str, kind: str, settings: str, labels: tuple[str, ...], plugins: tuple[PluginFile, ...]) -> Grader:
    if kind in GRADERS:
        return make_grader(kind, json.loads(settings), labels)
    return guarded(kind, json.loads(settings), labels, _found(task, kind, plugins))


def _found(task: str, kind: str, plugins: tuple[PluginFile, ...]) -> Found:
    found = find(kind, plugins)
    if found is None:
        raise NoGraderError(
            f"task {task}: no grader {kind!r}; allowed: {', '.join(GRADERS)}; one of your own is in a file that the "
            "configuration names (plugins: [FILE]), or in an installed package"
        )
    return found


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


@lru_cache(maxsize=1)
def built_in_tasks() -> tuple[Task, ...]:
    """Every task that ships with the package, by name."""
    return tuple(map(load_task, _built_in()))


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
    elif value is not None and path != ("max_answer_tokens",) and path[:1] != ("grader",):  # which checks its types
        _check_scalar(value, written, where, path)


def _check_scalar(value: Any, written: Any, where: str, path: tuple[str, ...]) -> None:
    label = path[:1] == ("labels",)
    if isinstance(written, str) and not isinstance(value, str) and not (label and str(value) == written):
        thing = "the label" if label else "it"
        raise UserError(
            f"{where}: {'.'.join(path) or 'task'}: {written!r} is written, YAML reads {value!r}; put {thing} in quotes"
        )
