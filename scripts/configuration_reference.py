"""Writes docs/configuration.md from the models of paft_ray/config/: `python scripts/configuration_reference.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from paft_ray import config

TARGET = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
NESTED = {
    "prompts.generators[]": config.GeneratorConfig,
    "prompts.generators[].endpoint": config.EndpointConfig,
    "prompts.judge": config.JudgeConfig,
    "train.sampling": (config.PerExampleConfig, config.EveryKConfig),
    "train.lora": config.LoraConfig,
    "sweep.space": config.SpaceConfig,
    "sweep.space.learning_rate": config.RangeConfig,
    "sweep.searcher": config.SearcherConfig,
    "sweep.scheduler": config.SchedulerConfig,
}


def reference() -> str:
    """The whole page."""
    parts = [
        "# Configuration",
        "",
        "One YAML file per run; `--set section.key=value` changes one setting. Made from `paft_ray/config/` by",
        "`scripts/configuration_reference.py`.",
        "",
        "A key that takes text gets the value of `--set` as it stands; the values of other keys are YAML, and "
        "one with a comment is refused.",
        "Relative paths start in the folder where the command is started, `~` is your home.",
        "",
    ]
    sections = {
        name: field.annotation for name, field in config.Config.model_fields.items() if _is_model(field.annotation)
    }
    parts += ["## top level", "", *_table(config.Config, set(sections))]
    for name, model in {**sections, **NESTED}.items():
        parts += [f"## `{name}`", "", *(_union(model) if isinstance(model, tuple) else _section(model))]
    return "\n".join(parts)


def _section(model: type[BaseModel]) -> list[str]:
    return [_first_paragraph(model), "", *_table(model, set())]


def _union(models: tuple[type[BaseModel], ...]) -> list[str]:
    """One table of a section whose `type` chooses what it holds."""
    types = [(model.model_fields["type"].default, _first_paragraph(model)) for model in models]
    meaning = " ".join(f"`{name}`: {text}" for name, text in types)
    others = dict.fromkeys(line for model in models for line in _table(model, {"type"})[2:-1])
    return ["| key | default | meaning |", "|---|---|---|", f'| `type` | `"{types[0][0]}"` | {meaning} |', *others, ""]


def _first_paragraph(model: type[BaseModel]) -> str:
    """The docstring's first paragraph, in one line."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _table(model: type[BaseModel], left_out: set[str]) -> list[str]:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if name not in left_out:
            lines.append(
                f"| `{name}` | {_default(field)} | "
                f"{' '.join((field.description or '').split()).replace('|', chr(92) + '|')}{_allowed(field)} |"
            )
    return [*lines, ""]


def _allowed(field: FieldInfo) -> str:
    """The choices of a field that has some."""
    choices = re.findall(r"Literal\[([^\]]*)\]", str(field.annotation))
    several = choices and "," in choices[0]  # one word beside other values is told in the text
    return f" Allowed: {choices[0].replace(chr(39), '`')}." if several else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory not in (None, dict):
        return "by device"
    value = {} if field.default_factory is dict else field.default
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, float) and value != round(value, 6):
        value = round(value, 4)
    return f"`{json.dumps(value)}`"


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
