"""YAML of other tools as plain values: a tag of theirs (`!Template`, `!function`) makes no object, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from paft_ray.config.load import PlainLoader
from paft_ray.errors import UserError, one_line
from paft_ray.files.regular import read_regular

_LARGEST = 2**21


class Code(str):
    """Text that names code of theirs, such as `!function utils.doc_to_text`."""

    __slots__ = ()


class _Tagged(PlainLoader):
    """Reads what has an unknown tag as if it had none, a text with one as `Code`; of a key that comes twice the last
    value, as their own loaders do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return dict(yaml.SafeLoader.construct_mapping(self, node, deep))

    def untagged(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        return Code(node.value)


_Tagged.add_constructor(None, _Tagged.untagged)


def read_plain_yaml(path: Path) -> Any:
    """The value in a YAML file. Raises `UserError`."""
    try:
        text = read_regular(path, largest=_LARGEST).decode("utf-8-sig")
        return yaml.load(text, Loader=_Tagged)  # noqa: S506 (a SafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"templates {path}: cannot be read ({one_line(error)[:200] or 'nested too deep'}); give a UTF-8 YAML file"
        ) from None
