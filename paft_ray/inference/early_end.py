"""Where an unconstrained answer can name no label any more: the rest of it would be computed for nothing. Imports no
vLLM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from paft_ray.tasks.graders.choice import Choice

LABELS = "labels"
"""Key of vLLM's sampling parameter `extra_args`, which vLLM itself does not read: label -> its token ids as trained."""
_FEWEST_TOKENS = 4
"""An answer is no shorter: readers of a report see what the model says."""


class EarlyEnd:
    """Finds the end of answers, with the tokenizer of their model, which is loaded when it is needed."""

    def __init__(self, load_tokenizer: Callable[[], Any]) -> None:
        self._load_tokenizer = load_tokenizer
        self._names_none = lru_cache(maxsize=65536)(self._rules_out)

    @cached_property
    def _tokenizer(self) -> Any:
        return self._load_tokenizer()

    def num_tokens(self, token_ids: Sequence[int], arguments: Mapping[str, Any] | None) -> int | None:
        """How many tokens of an answer show that it will name no label; None: these do not, or it is not asked.
        `arguments`: its `extra_args`."""
        if not arguments or LABELS not in arguments:
            return None
        if getattr(self._tokenizer, "clean_up_tokenization_spaces", False):
            return None  # it changes what it has decoded by what follows ("do not" to "don't")
        labels = tuple((label, tuple(ids)) for label, ids in arguments[LABELS].items())
        for num in range(_FEWEST_TOKENS, len(token_ids) + 1):
            if self._names_none(tuple(token_ids[:num]), labels):
                return num
        return None

    def _rules_out(self, token_ids: tuple[int, ...], labels: tuple[tuple[str, tuple[int, ...]], ...]) -> bool:
        if any(ids[: len(token_ids)] == token_ids for _, ids in labels):  # judged by its tokens, whatever their text
            return False
        text = str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))
        return _grader(tuple(label for label, _ in labels)).rules_out(text)


@lru_cache(maxsize=16)
def _grader(labels: tuple[str, ...]) -> Choice:
    return Choice(labels=labels)
