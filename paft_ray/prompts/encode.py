"""The one token boundary: (template, example) -> token ids, for training and inference alike.

Plain input: the BOS token, if the model was trained with one (`tokens.start_ids`), then the text; trailing spaces are
stripped, line breaks kept; the answer follows after one space, or after nothing where a line break stands. Chat input:
the model's own chat template with its generation prompt; a BOS token is what the template writes. In both, text of
templates and fields never becomes a special token, and only the answer is followed by the EOS token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from paft_ray.config import ModelConfig
from paft_ray.errors import UserError
from paft_ray.prompts.chat import Scalar, open_thinking
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.tokens import PromptTokens
from paft_ray.sanitize import masked
from paft_ray.tasks.task import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHARACTERS_PER_TOKEN = 8
_SETTINGS = {"chat", "chat_template_kwargs", "max_prompt_tokens", "truncate_field"}
"""Keys of section `model` that the token boundary follows."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids of one prompt and its answer."""

    prompt_ids: list[int]
    """[prompt length] as the model reads it."""
    answer_ids: list[int]
    """[answer length] with the EOS token; exactly these positions carry loss."""
    after_newline: bool
    """The prompt ends with a line break, so the answer has no space before it."""
    truncated_characters: int
    """Characters by which fields were truncated to keep to `model.max_prompt_tokens`, `truncate_field` first."""


class Encoder:
    """Encodes examples of one task for one tokenizer; pure apart from its caches."""

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        *,
        chat: bool = False,
        chat_template_kwargs: Mapping[str, Scalar] | None = None,
        max_prompt_tokens: int = 512,
        truncate_field: str | None = None,
    ) -> None:
        """Raises `UserError` where the tokenizer lacks an EOS token, a chat template (chat input), or the task lacks
        `truncate_field`."""
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no EOS token (eos_token); choose a model that has one")
        if chat and not tokenizer.chat_template:
            raise UserError(
                "model.chat=true, but the tokenizer has no chat template; set model.chat=false or choose a chat model"
            )
        if truncate_field is not None and truncate_field not in task.fields:
            raise UserError(
                f"model.truncate_field={truncate_field}: not a field of task {task.name}; allowed: "
                f"{', '.join(task.fields)}"
            )
        self.task = task
        self.tokenizer = tokenizer
        self.chat = chat
        self.chat_template_kwargs = chat_template_kwargs or {}
        self.max_prompt_tokens = max_prompt_tokens
        self.truncate_field = truncate_field
        self._answer = lru_cache(maxsize=4096)(self._encode_answer)
        self._tokens = PromptTokens(tokenizer)
        self._frames: dict[bool, list[str]] = {}

    @classmethod
    def of(cls, task: Task, tokenizer: PreTrainedTokenizerBase, model: ModelConfig) -> Encoder:
        """The encoder of a section `model`. Raises `UserError` as the constructor."""
        return cls(task, tokenizer, **model.model_dump(include=_SETTINGS))

    def __reduce__(self) -> tuple[Callable[..., Encoder], tuple[Task, PreTrainedTokenizerBase], dict[str, Any]]:
        """Goes to other processes with its tokenizer, whose class takes seconds of imports to find, and with its chat
        frames."""
        settings = {name: getattr(self, name) for name in _SETTINGS}
        return partial(Encoder, **settings), (self.task, self.tokenizer), {"_frames": self._frames}

    def encode(self, template: PromptTemplate, example: Example) -> Encoded:
        """Ids of the prompt and of the answer with its EOS token.

        A prompt over the limit loses the end of `truncate_field` (default: the longest field), then of the other
        fields, longest first. Raises `UserError` as `check`.
        """
        fields = dict(example.fields)
        ids, after_newline = self._prompt(template, fields)
        num_truncated = 0
        for name in sorted(fields, key=lambda field: (field != self.truncate_field, -len(fields[field]))):
            if len(ids) <= self.max_prompt_tokens:
                break
            whole = fields[name]
            fields[name] = whole[: self._longest_fit(template, fields, name)]
            num_truncated += len(whole) - len(fields[name])
            ids, after_newline = self._prompt(template, fields)
        if len(ids) > self.max_prompt_tokens:
            self.check(template)
        return Encoded(
            prompt_ids=ids,
            answer_ids=list(self._answer(example.answer, after_newline)),
            after_newline=after_newline,
            truncated_characters=num_truncated,
        )

    def check(self, template: PromptTemplate) -> None:
        """Raises `UserError` where the template alone, all fields empty, is longer than the longest prompt."""
        length = len(self._prompt(template, dict.fromkeys(self.task.fields, ""))[0])
        if length > self.max_prompt_tokens:
            raise UserError(
                f"template {template.id}: {length} tokens without its fields, "
                f"model.max_prompt_tokens={self.max_prompt_tokens} are allowed; raise the limit or shorten the "
                f"template ({masked(template.text)[:40]!r}...)"
            )

    def label_ids(self, after_newline: bool) -> dict[str, list[int]]:
        """Label text -> its answer ids (with EOS token) behind a prompt that does or does not end with a line break."""
        return {label: list(self._answer(label, after_newline)) for label in self.task.label_texts}

    def largest_id(self) -> tuple[str, int]:
        """(token, id) of the largest id that a prompt or an answer can hold: of text, of the chat template, start and
        EOS token.

        Special tokens that none of these writes are left out. Raises `UserError` where the chat template does not
        serve.
        """
        unused = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        used = {self.tokenizer.eos_token_id, *self._tokens.start, *({self.tokenizer.unk_token_id} - {None})}
        for part in self._frame(with_system=False) if self.chat else ():
            used.update(self._tokens.piece(part, special=True))
        largest = max(used | (set(self.tokenizer.get_vocab().values()) - unused))
        return str(self.tokenizer.convert_ids_to_tokens(largest)), largest

    def _longest_fit(self, template: PromptTemplate, fields: dict[str, str], name: str) -> int:
        """Most characters of field `name` with which the prompt keeps to its limit, 0 where it does not even without
        (bisection over its real length)."""

        def fits(length: int) -> bool:
            return len(self._prompt(template, {**fields, name: fields[name][:length]})[0]) <= self.max_prompt_tokens

        low, high = 0, len(fields[name])
        reach = _CHARACTERS_PER_TOKEN * self.max_prompt_tokens
        while reach < high and fits(
            reach
        ):  # from below: of a megabyte only the part that may fit is encoded again and again
            low, reach = reach, 2 * reach
        high = min(high, reach)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _prompt(self, template: PromptTemplate, fields: dict[str, str]) -> tuple[list[int], bool]:
        text = template.render(fields)
        if self.chat:
            frame = self._frame(template.system is not None)
            contents = [text] if template.system is None else [template.system, text]
            return self._tokens.chat(frame, contents), frame[-1].endswith("\n")
        if template.system:
            text = f"{template.system}\n\n{text}"
        text = text.rstrip(" \t")
        return self._tokens.plain(text), text.endswith("\n")

    def _frame(self, with_system: bool) -> list[str]:
        if with_system not in self._frames:
            self._frames[with_system] = self._chat_frame(with_system)
        return self._frames[with_system]

    def _chat_frame(self, with_system: bool) -> list[str]:
        """What the chat template writes before, between and after the contents.

        Raises `UserError` where it does not take them, or leaves a block of thinking open in front of the answer.
        """
        frame, reads = self._tokens.frame(["system", "user"] if with_system else ["user"], self.chat_template_kwargs)
        if unknown := sorted(set(self.chat_template_kwargs) - reads):
            raise UserError(
                f"model.chat_template_kwargs: the model's chat template does not read {', '.join(unknown)}; it "
                f"reads {', '.join(sorted(reads))}"
            )
        if tag := open_thinking(frame[-1]):
            raise UserError(
                f"the model's chat template opens a block of thinking ({tag}) in front of the answer; "
                f"{_closing(reads, self.chat_template_kwargs)}"
            )
        return frame

    def _encode_answer(self, answer: str, after_newline: bool) -> tuple[int, ...]:
        """Ids of an answer behind an anchor of the same kind as the prompt's end, so that the tokenizer sees the
        boundary it will see."""
        anchor, text = ("\n", answer) if after_newline else (":", f" {answer}")
        before, both = self._tokens.piece(anchor, special=False), self._tokens.piece(anchor + text, special=False)
        ids = both[len(before) :] if both[: len(before)] == before else self._tokens.piece(text, special=False)
        return (*ids, int(self.tokenizer.eos_token_id))


def _closing(reads: AbstractSet[str], given: Mapping[str, Scalar]) -> str:
    """What closes a block of thinking: a variable of the template that says so by its name, else another kind of
    input."""
    switches = sorted(name for name in reads if re.search("think|reason", name))
    if given and switches:
        return (
            f"model.chat_template_kwargs leaves it open, of {', '.join(switches)} other values may close it, or set "
            "model.chat=false"
        )
    if switches:
        return f"set model.chat_template_kwargs={{{switches[0]}: false}}, or model.chat=false"
    return (
        "no variable of the template (model.chat_template_kwargs) closes it; set model.chat=false, or choose another "
        "model"
    )


def encode(
    task: Task, template: PromptTemplate, example: Example, tokenizer: PreTrainedTokenizerBase, *, chat: bool = False
) -> Encoded:
    """Token ids of one (template, example); for many, keep an `Encoder`."""
    return Encoder(task, tokenizer, chat=chat, max_prompt_tokens=2**31).encode(template, example)
