"""Text -> token ids of one tokenizer: which text may become special tokens, and what stands in front of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise, zip_longest
from typing import TYPE_CHECKING

from paft_ray.errors import UserError
from paft_ray.prompts.chat import Scalar, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "\u2063PAFT-CONTENT\u2063"
_PROBE = "a"


class PromptTokens:
    """Ids of plain and of chat prompts; contents are text, whatever special token's spelling they hold."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises `UserError` where the tokenizer does not say what it puts in front of a text."""
        self.tokenizer = tokenizer
        self.start = start_ids(tokenizer)
        # `all_special_tokens` holds the named ones only; a tokenizer can have hundreds more (`<|eot_id|>`).
        added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        special = sorted((t for t in added.union(tokenizer.all_special_tokens) if t), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None
        # Unigram and word models hold them as ordinary pieces, too: splitting special tokens does not keep these out.
        self._special_ids = {
            number
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special and str(token) != tokenizer.special_tokens_map.get("unk_token")
        }

    def plain(self, text: str) -> list[int]:
        """Ids of plain text behind the BOS token."""
        return [*self.start, *self.piece(text, special=not self._has_special(text))]

    def frame(
        self, roles: Sequence[str], variables: Mapping[str, Scalar] | None = None
    ) -> tuple[list[str], frozenset[str]]:
        """(what the chat template writes before, between and after the contents, names that it reads).

        Raises `UserError` where it does not take them.
        """
        rendered = render(self.tokenizer, [{"role": role, "content": _MARK} for role in roles], variables)
        frame = rendered.text.split(_MARK)
        if len(frame) != len(roles) + 1:
            raise UserError(
                f"the model's chat template does not write {' and '.join(roles)} once each; leave out system "
                "parts, or set model.chat=false"
            )
        return frame, rendered.reads

    def chat(self, frame: Sequence[str], contents: Sequence[str]) -> list[int]:
        """Ids of a chat prompt. Only where a content holds a special token's spelling is it encoded in pieces."""
        if not any(map(self._has_special, contents)):
            return self.piece("".join(chain.from_iterable(zip_longest(frame, contents, fillvalue=""))), special=True)
        ids = self.piece(frame[0], special=True)
        for content, after in zip(contents, frame[1:], strict=True):
            ids += self.piece(content, special=False) + self.piece(after, special=True)
        return ids

    def piece(self, text: str, *, special: bool) -> list[int]:
        """Ids of a part of a prompt, nothing added; `special`: whether spellings of special tokens become these."""
        ids = _ids(self.tokenizer, text, special=special) if text else []
        if special or self._special is None or self._special_ids.isdisjoint(ids):
            return ids
        cuts = [0, *(found.start() + 1 for found in self._special.finditer(text)), len(text)]  # within each spelling
        parts = [text[start:end] for start, end in pairwise(cuts) if start < end]
        return [i for part in parts for i in _ids(self.tokenizer, part, special=False)]

    def _has_special(self, text: str) -> bool:
        return self._special is not None and self._special.search(text) is not None


def start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids in front of every plain text: what the tokenizer itself puts there, without an EOS token that is no BOS
    token.

    What it puts behind a text (an EOS token, by `add_eos_token`) is left out: the answer follows a prompt.
    A BOS token that is only named (`bos_token`, which SmolLM2 has for its chat turns) is not one that plain text was
    trained with. Of models that were, but whose converted tokenizer adds none (Gemma; `add_bos_token: true` in
    tokenizer_config.json), `models.resolve.load_tokenizer` makes the tokenizer add it.
    """
    bare = _ids(tokenizer, _PROBE, special=True)
    whole = list(tokenizer(_PROBE, add_special_tokens=True, split_special_tokens=False)["input_ids"])
    at = next((i for i in range(len(whole)) if bare and whole[i : i + len(bare)] == bare), None)
    if at is None:
        raise UserError("the tokenizer writes a text otherwise where it adds special tokens; choose another model")
    return [i for i in whole[:at] if i != tokenizer.eos_token_id or i == tokenizer.bos_token_id]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"])
