"""Where an unconstrained answer can name no label any more: the rest of it would be computed for nothing. Imports no
vLLM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from paft_ray.tasks.graders.choice import Choice

LABELS = "labels"
"""Key of vLLM's sampling parameter `extra_args`, which vLLM itself does not read: label -> its token ids as trained."""
MOST_LABELS = 64
"""With more of them every request would carry kilobytes, and answers are generated to their end."""
_FEWEST_TOKENS = 4
"""An answer is no shorter: readers of a report see what the model says."""
_PROBE = "a do not . b"


class EarlyEnd:
    """Finds the end of answers, with the tokenizer of their model, which is loaded when it is needed."""

    def __init__(self, load_tokenizer: Callable[[], Any]) -> None:
        self._load_tokenizer = load_tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        return self._load_tokenizer()

    @cached_property
    def _is_exact(self) -> bool:
        """Whether what is decoded stays as it is when more follows; some tokenizers make " do not ." to " don't."."""
        ids = self._tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        return _PROBE in str(self._tokenizer.decode(ids))

    def watch(self, arguments: Mapping[str, Any] | None) -> Callable[[Sequence[int]], int | None] | None:
        """For an answer that may end early, by its `extra_args`: what finds its end (see `Watch`); else None."""
        if not arguments or LABELS not in arguments or not self._is_exact:
            return None
        return Watch(self._tokenizer, arguments[LABELS])


class Watch:
    """One answer, looked at as it grows."""

    def __init__(self, tokenizer: Any, labels: Mapping[str, Sequence[int]]) -> None:
        self._tokenizer, self._grader = tokenizer, _grader(tuple(labels))
        self._ids = [tuple(ids) for ids in labels.values()]
        self._num_seen, self._is_open = _FEWEST_TOKENS - 1, True

    def __call__(self, token_ids: Sequence[int]) -> int | None:
        """How many of its first tokens show that it names no label; None: these do not."""
        while self._is_open and self._num_seen < len(token_ids):
            self._num_seen += 1
            ids = tuple(token_ids[: self._num_seen])
            if any(label[: len(ids)] == ids for label in self._ids):  # judged by its tokens, whatever their text
                continue
            ruled_out = self._grader.rules_out(str(self._tokenizer.decode(list(ids), skip_special_tokens=True)))
            if ruled_out:
                return self._num_seen
            self._is_open = ruled_out is None
        return None


@lru_cache(maxsize=16)
def _grader(labels: tuple[str, ...]) -> Choice:
    return Choice(labels=labels)
