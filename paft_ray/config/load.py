"""A YAML file plus `section.key=value` overrides becomes a validated `Config`; unknown keys are refused with the
nearest valid key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from os.path import expanduser
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from paft_ray.config.endpoint import VARIABLE
from paft_ray.config.renamed import RENAMED, renamed_keys
from paft_ray.config.run import Config
from paft_ray.errors import UserError
from paft_ray.files.regular import FileTooLargeError, read_regular
from paft_ray.sanitize import count_as_secret, holds_hidden, masked

_LARGEST_FILE = 2**18
_MOST_BITS = 1024
_MOST_FAULTS = 20  # reported at once: a file may hold a million unknown keys
_SPELLINGS = {"evaluation": "evaluate"}
"""Sections under another name that a file and `--set` may give them."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A validated `Config` from a YAML file and `section.key=value` overrides (values are YAML; a key that takes text
    gets it as it is given).

    Relative paths in the file are kept as they are: relative to the working directory. A `~` at the beginning of one is
    the user's home. Raises `UserError` for a missing file, broken YAML, an unknown key or a value out of range.
    """
    values = read_yaml_file(expanduser(path), "config")
    for other, name in _SPELLINGS.items():
        if other in values and name in values:
            raise UserError(f"config {path}: {other} and {name} are the same section; keep one of them")
    values = {_SPELLINGS.get(key, key): value for key, value in values.items()}
    return parse_config(with_overrides(values, overrides), source=str(path))


def with_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The values, changed in place by `section.key=value` overrides. Raises `UserError` for one that is none."""
    for override in overrides:
        _apply(values, override)
    return values


class PlainLoader(yaml.SafeLoader):
    """A safe loader that refuses aliases, which a few lines can multiply to billions of values, and a key that comes
    twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{event.anchor}: write the value itself", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():  # `!!map text` has a text there
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} comes twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:  # Python would not even write it in an error
                raise OverflowError
            return value
        except (
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
            OverflowError,
        ) as error:  # PyYAML lets through: 2024-13-45, !!int x
            reason = (
                f"{masked(str(node.value))[:40]!r} is not of its type {node.tag.rpartition(':')[2]} "
                f"({type(error).__name__})"
            )
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from None


def read_yaml(text: str) -> Any:
    """Plain values of a YAML text. Raises `yaml.YAMLError`, also for an alias, a key that comes twice and nesting that
    is too deep."""
    try:
        return yaml.load(text, Loader=PlainLoader)  # noqa: S506 (a SafeLoader)
    except RecursionError:
        raise yaml.YAMLError("nested too deep") from None


def read_yaml_file(path: str | Path, what: str) -> dict[Any, Any]:
    """The mapping in a YAML file; `what` it is (config, task) opens the `UserError` for anything else, and for hidden
    characters in its texts."""
    try:
        text = read_regular(path, largest=_LARGEST_FILE).decode("utf-8")
    except FileTooLargeError as error:
        raise UserError(
            f"{what} {path}: {error}; give a YAML file of settings, and name data and templates in it by their paths"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{what} {path}: cannot be read ({error}); give the path of a YAML file, e.g. jobs/configs/demo.yaml"
        ) from None
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{what} {path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{what} {path}: a mapping of sections is needed, found {type(values).__name__}")
    _check_texts(values, f"{what} {path}")
    return values


def _check_texts(value: Any, where: str) -> None:
    """Raises `UserError` for a hidden character in any text: no file name and no key that a person reads has one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_texts(key, where)
            _check_texts(inner, f"{where}: {key}")
    elif isinstance(value, list | tuple | set):
        for inner in value:
            _check_texts(inner, where)
    elif isinstance(value, str) and holds_hidden(value):
        raise UserError(
            f"{where}: {masked(value)[:60]!a} holds a character that does not show (or half of one); remove it"
        )


def parse_config(values: dict[str, Any], source: str) -> Config:
    """A validated `Config` from plain values; `source` names them in error messages."""
    for variable in _named_variables(values):  # before anything of the configuration is shown
        count_as_secret(variable)
    if old := renamed_keys(values):
        raise UserError(f"config {source}: " + "; ".join(old))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        faults = [each for each in error.errors() if each["type"] != "default_factory_not_called"]
        raise UserError(f"config {source}: " + "; ".join(map(_explain, faults[:_MOST_FAULTS]))) from None


def _named_variables(values: Any) -> Iterator[str]:
    """Variables that a configuration names as holding a key, whether the rest of it is valid or not."""
    prompts = values.get("prompts") if isinstance(values, dict) else None
    found = prompts if isinstance(prompts, dict) else {}
    generators = found.get("generators")
    for model in [*(generators if isinstance(generators, list | tuple) else ()), found.get("judge")]:
        endpoint = model.get("endpoint") if isinstance(model, dict) else None
        variable = endpoint.get("api_key_env") if isinstance(endpoint, dict) else None
        if isinstance(variable, str) and VARIABLE.fullmatch(variable):
            yield variable


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override}: write section.key=value, e.g. --set train.num_steps=10")
    first, *rest = key.split(".")
    *parents, last = [_SPELLINGS.get(first, first), *rest]
    if new := RENAMED.get(".".join([*parents, last])):
        raise UserError(f"--set {override}: was renamed; write {new}")
    node: Any = values
    for parent in parents:
        node = node.setdefault(parent, {}) if isinstance(node, dict) else None
        if node is None:
            raise UserError(f"--set {override}: {parent} has no keys below it")
    if not isinstance(node, dict):
        raise UserError(f"--set {override}: {'.'.join(parents)} has no keys below it")
    node[last] = _value(text, [*parents, last], override)
    _check_texts(node[last], f"--set {key}")


def _value(text: str, path: Sequence[str], override: str) -> Any:
    """What an override gives the key at `path`. Raises `UserError` for what is no YAML, and where YAML would leave out
    a part of the text."""
    bare = text.strip()
    takes_text, quoted = _takes_text(_annotation_at(path)), bare[:1] in tuple("'\"|>!")
    try:
        value, has_comment = read_yaml(text), _holds_comment(text)
    except yaml.YAMLError:
        if takes_text and not quoted:
            return bare
        raise UserError(f"--set {override}: {text!r} is not a YAML value") from None
    if takes_text and not quoted and (has_comment or value is not None):
        return bare  # 007, /data/run #1, on: no number, comment or truth value, but text
    if has_comment:
        raise UserError(
            f"--set {override}: YAML reads a comment behind the # and would leave it out; put the text into "
            "quotes, or take it away"
        )
    if _is_other_number(value, bare):
        raise UserError(
            f"--set {override}: YAML reads {value} (a nought in front is base 8, a colon base 60); write a plain "
            "decimal number"
        )
    return value


def _is_other_number(value: Any, text: str) -> bool:
    """Whether YAML reads a number that nobody means: 8 for `010`, 90 for `1:30`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return ":" in text or (text.lstrip("+-").isdecimal() and int(text) != value)


def _takes_text(annotation: Any) -> bool:
    """Whether a field of this type holds text and nothing else, but for null."""
    if get_origin(annotation) in (Union, UnionType):
        return all(kind is NoneType or _takes_text(kind) for kind in get_args(annotation))
    if get_origin(annotation) is Literal:
        return all(isinstance(choice, str) for choice in get_args(annotation))
    return annotation is str or (hasattr(annotation, "__metadata__") and _takes_text(annotation.__origin__))


def _holds_comment(text: str) -> bool:
    """Whether something stands between the tokens of a YAML text: only a comment can."""
    end = 0
    for token in yaml.scan(text, Loader=PlainLoader):
        if text[end : token.start_mark.index].strip():
            return True
        end = token.end_mark.index
    return False


def _explain(error: Any) -> str:
    """One clause for a pydantic error: where, what was given, what is allowed."""
    path = [str(part) for part in error["loc"]]
    shown = [part for number, part in enumerate(path) if part not in map(_tag, _models_at(path[:number]))]
    where = ".".join(shown) or "top level"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys_at(path[:-1]), n=1, cutoff=0.5)
        hint = (
            f"did you mean {'.'.join([*shown[:-1], near[0]])}?"
            if near
            else f"allowed: {', '.join(_keys_at(path[:-1]))}"
        )
        return f"unknown key {where}; {hint}"
    if error["type"] == "missing":
        return f"{where} is required"
    if error["type"] == "union_tag_not_found":
        return f"{where}.type is required; allowed: {', '.join(filter(None, map(_tag, _models_at(path))))}"
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    value = "" if isinstance(given, dict | BaseModel) else f" (given {given!r})"
    return f"{message if message.startswith(where) else f'{where}: {message}'}{value}"


def _keys_at(path: Sequence[str]) -> list[str]:
    """Valid keys of the section at `path`."""
    return sorted({key for model in _models_at(path) for key in model.model_fields})


def _models_at(path: Sequence[str]) -> list[type[BaseModel]]:
    """The section at `path`; several where its `type` chooses one."""
    return _models_in(_annotation_at(path))


def _tag(model: type[BaseModel]) -> str | None:
    """The `type` that chooses this section among several; None for a section that has none."""
    return model.model_fields["type"].default if "type" in model.model_fields else None


def _annotation_at(path: Sequence[str]) -> Any:
    """Type of the section or key at `path`; None where there is none."""
    kind: Any = Config
    for part in path:
        if not part.isdigit():
            models = _models_in(kind)
            fields = [model.model_fields[part].annotation for model in models if part in model.model_fields]
            kind = next(iter([*(model for model in models if _tag(model) == part), *fields]), None)
    return kind


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]
