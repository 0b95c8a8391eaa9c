"""The one token boundary: (template, example) -> token ids, for training and inference alike.

Plain input: trailing spaces are stripped, line breaks kept; the answer follows after one space, or after nothing where a line break stands.
Chat input: the model's own chat template with its generation prompt. In both, text of templates and fields never becomes a special token.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from paft_ray.errors import UserError, one_line
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example, Task
from paft_ray.text import masked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DATE = "26 Jul 2024"  # Llama 3.2 puts a date into every prompt, by default today's: its own fixed default keeps prompts the same from day to day
_CHARACTERS_PER_TOKEN = 8
_MARK = "\u2063PAFT-CONTENT\u2063"


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids of one prompt and its answer."""

    prompt_ids: list[int]
    """[prompt length] as the model reads it."""
    answer_ids: list[int]
    """[answer length] with the end token; exactly these positions carry loss."""
    after_newline: bool
    """The prompt ends with a line break, so the answer has no space before it."""
    cut_characters: int
    """Characters taken off `cut_field` to keep to the longest prompt."""


class Encoder:
    """Encodes examples of one task for one tokenizer; pure apart from its caches."""

    def __init__(
        self, task: Task, tokenizer: PreTrainedTokenizerBase, *, chat: bool = False, max_prompt_tokens: int = 512, cut_field: str | None = None
    ) -> None:
        """Raises `UserError` where the tokenizer lacks an end token, a chat template (chat input), or the task lacks `cut_field`."""
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end token (eos_token); choose a model that has one")
        if chat and not tokenizer.chat_template:
            raise UserError("model.chat=true, but the tokenizer has no chat template; set model.chat=false or choose a chat model")
        if cut_field is not None and cut_field not in task.fields:
            raise UserError(f"model.cut_field={cut_field}: not a field of task {task.name}; allowed: {', '.join(task.fields)}")
        self.task = task
        self.tokenizer = tokenizer
        self.chat = chat
        self.max_prompt_tokens = max_prompt_tokens
        self.cut_field = cut_field
        # `all_special_tokens` holds the named ones only; a tokenizer can have hundreds more (`<|eot_id|>`).
        added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        special = sorted((t for t in added.union(tokenizer.all_special_tokens) if t), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None
        self._answer = lru_cache(maxsize=4096)(self._encode_answer)
        self._frame = lru_cache(maxsize=2)(self._chat_frame)

    def __reduce__(self) -> tuple[Callable[..., Encoder], tuple[Task, PreTrainedTokenizerBase]]:
        """Goes to other processes with its tokenizer: to find the class of one that lies in a folder takes seconds of imports."""
        return partial(Encoder, chat=self.chat, max_prompt_tokens=self.max_prompt_tokens, cut_field=self.cut_field), (self.task, self.tokenizer)

    def encode(self, template: PromptTemplate, example: Example) -> Encoded:
        """Ids of the prompt and of the answer with its end token.

        A prompt over the limit loses the end of `cut_field` (default: the longest field), then of the other fields, longest first.
        Raises `UserError` as `check`.
        """
        fields = dict(example.fields)
        ids, after_newline = self._prompt(template, fields)
        cut = 0
        for name in sorted(fields, key=lambda field: (field != self.cut_field, -len(fields[field]))):
            if len(ids) <= self.max_prompt_tokens:
                break
            whole = fields[name]
            fields[name] = whole[: self._longest_fit(template, fields, name)]
            cut += len(whole) - len(fields[name])
            ids, after_newline = self._prompt(template, fields)
        if len(ids) > self.max_prompt_tokens:
            self.check(template)
        return Encoded(prompt_ids=ids, answer_ids=list(self._answer(example.answer, after_newline)), after_newline=after_newline, cut_characters=cut)

    def check(self, template: PromptTemplate) -> None:
        """Raises `UserError` where the template alone, all fields empty, is longer than the longest prompt."""
        length = len(self._prompt(template, dict.fromkeys(self.task.fields, ""))[0])
        if length > self.max_prompt_tokens:
            raise UserError(
                f"template {template.id}: {length} tokens without its fields, model.max_prompt_tokens={self.max_prompt_tokens} are allowed; "
                f"raise the limit or shorten the template ({masked(template.text)[:40]!r}...)"
            )

    def label_ids(self, after_newline: bool) -> dict[str, list[int]]:
        """Label text -> its answer ids (with end token) behind a prompt that does or does not end with a line break."""
        return {label: list(self._answer(label, after_newline)) for label in self.task.label_texts}

    def _longest_fit(self, template: PromptTemplate, fields: dict[str, str], name: str) -> int:
        """Most characters of field `name` with which the prompt keeps to its limit, 0 where it does not even without (bisection over its real length)."""

        def fits(length: int) -> bool:
            return len(self._prompt(template, {**fields, name: fields[name][:length]})[0]) <= self.max_prompt_tokens

        low, high = 0, len(fields[name])
        reach = _CHARACTERS_PER_TOKEN * self.max_prompt_tokens
        while reach < high and fits(reach):  # from below: of a megabyte only the part that may fit is encoded again and again
            low, reach = reach, 2 * reach
        high = min(high, reach)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _prompt(self, template: PromptTemplate, fields: dict[str, str]) -> tuple[list[int], bool]:
        text = template.render(fields)
        if self.chat:
            frame = self._frame(bool(template.system))
            return self._chat_ids(frame, [template.system, text] if template.system else [text]), frame[-1].endswith("\n")
        if template.system:
            text = f"{template.system}\n\n{text}"
        text = text.rstrip(" \t")
        return self._plain_ids(text), text.endswith("\n")

    def _plain_ids(self, text: str) -> list[int]:
        """Ids of plain text with the tokenizer's own start token, special tokens in the text split into ordinary ones."""
        return list(self.tokenizer(text, add_special_tokens=True, split_special_tokens=self._has_special(text))["input_ids"])

    def _chat_frame(self, with_system: bool) -> list[str]:
        """What the chat template writes before, between and after the contents. Raises `UserError` where it does not take them."""
        roles = ["system", "user"] if with_system else ["user"]
        messages = [{"role": role, "content": _MARK} for role in roles]
        try:
            whole = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, date_string=_DATE)
        except TemplateError as error:
            raise UserError(
                f"the model's chat template refuses {' and '.join(roles)} ({one_line(error)}); leave out system parts, or set model.chat=false"
            ) from None
        frame = str(whole).split(_MARK)
        if len(frame) != len(roles) + 1:
            raise UserError(f"the model's chat template does not write {' and '.join(roles)} once each; leave out system parts, or set model.chat=false")
        return frame

    def _chat_ids(self, frame: list[str], contents: list[str]) -> list[int]:
        """Ids of a chat prompt. Only where a content holds a special token's spelling is it encoded in pieces, with the contents as plain text."""
        if not any(map(self._has_special, contents)):
            return self._piece("".join(chain.from_iterable(zip_longest(frame, contents, fillvalue=""))), special=True)
        ids = self._piece(frame[0], special=True)
        for content, after in zip(contents, frame[1:], strict=True):
            ids += self._piece(content, special=False) + self._piece(after, special=True)
        return ids

    def _piece(self, text: str, *, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"]) if text else []

    def _has_special(self, text: str) -> bool:
        return self._special is not None and self._special.search(text) is not None

    def _encode_answer(self, answer: str, after_newline: bool) -> tuple[int, ...]:
        """Ids of an answer behind an anchor of the same kind as the prompt's end, so that the tokenizer sees the boundary it will see."""
        anchor, text = ("\n", answer) if after_newline else (":", f" {answer}")
        before, both = self._piece(anchor, special=False), self._piece(anchor + text, special=False)
        ids = both[len(before) :] if both[: len(before)] == before else self._piece(text, special=False)
        return (*ids, int(self.tokenizer.eos_token_id))


def encode(task: Task, template: PromptTemplate, example: Example, tokenizer: PreTrainedTokenizerBase, *, chat: bool = False) -> Encoded:
    """Token ids of one (template, example); for many, keep an `Encoder`."""
    return Encoder(task, tokenizer, chat=chat, max_prompt_tokens=2**31).encode(template, example)
