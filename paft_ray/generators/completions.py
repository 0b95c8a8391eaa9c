"""Chat completions, error bodies and lists of templates, read strictly: whatever a generator sends is either one of
them or a `ValueError`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from paft_ray.prompts.template import PromptTemplate

_LONGEST_TEXT, _LONGEST_TOKEN, _MOST_TOKENS = 100_000, 200, 1000


def whole_characters(text: Any) -> Any:
    """The text with half characters, which no file holds, replaced; anything else as it is."""
    return text.encode(errors="replace").decode() if isinstance(text, str) else text


def _or_empty(text: Any) -> Any:
    return "" if text is None else text


Text = Annotated[str, BeforeValidator(whole_characters)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Message(_Strict):
    content: Annotated[Text, Field(max_length=_LONGEST_TEXT), BeforeValidator(_or_empty)]
    """Null where all tokens went into thoughts that are not shown."""


class _Choice(_Strict):
    message: _Message
    finish_reason: Any = None
    logprobs: Any = None


class _Completion(_Strict):
    choices: Annotated[list[_Choice], Field(min_length=1, fail_fast=True)]
    usage: Any = None


class _Problem(_Strict):
    message: Text


class _Refused(_Strict):
    error: _Problem | Text


class _Template(_Strict):
    model_config = ConfigDict(extra="forbid")

    system: Text
    text: Text


class _Token(_Strict):
    token: Annotated[Text, Field(max_length=_LONGEST_TOKEN)]
    logprob: Annotated[float, Field(allow_inf_nan=False)]


class _Position(_Strict):
    top_logprobs: Annotated[list[Any], Field(max_length=_MOST_TOKENS)]


class _Logprobs(_Strict):
    content: Annotated[list[_Position], Field(min_length=1)]


_TEXTS = TypeAdapter[list[str]](list[Annotated[Text, Field(strict=True)]])
_TEMPLATES = TypeAdapter[list[_Template]](list[_Template])
_ERROR = TypeAdapter[_Refused | _Problem](_Refused | _Problem)


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """The answer of an endpoint to one request."""

    text: str
    """Not empty, without whitespace around it."""
    finished: bool
    """False where it was truncated at the token limit."""
    tokens: int
    """Generated tokens, in [1, `longest`]."""
    first: tuple[tuple[str, float], ...] = ()
    """The most probable first tokens with their log-probabilities; none where the endpoint gives none."""


def read_completion(body: bytes, longest: int, *, may_be_empty: bool = False) -> ChatReply:
    """The first choice of a chat completion. `longest`: tokens that one answer can have. Raises `ValueError` of one
    clause for anything else, and unless it `may_be_empty` for one without text."""
    try:
        found = _Completion.model_validate(_json(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the answer'}: {first['msg']}") from None
    choice = found.choices[0]
    if not (may_be_empty or choice.message.content.strip()):
        raise ValueError("there is no text in choices[0].message.content")
    return ChatReply(
        text=choice.message.content.strip(),
        finished=choice.finish_reason != "length",
        tokens=_spent(found.usage, longest),
        first=_first(choice.logprobs),
    )


def read_templates(text: str, most: int, *, system: bool) -> list[PromptTemplate]:
    """The templates of a JSON array of 1 to `most` strings; of objects with `system` and `text` where they are to have
    system parts. Raises `ValueError` for anything else."""
    found = _json(text)
    if not isinstance(found, list) or not 0 < len(found) <= most:
        raise ValueError(f"no list of 1 to {most} templates")
    if system:
        return [PromptTemplate(text=each.text, system=each.system) for each in _TEMPLATES.validate_python(found)]
    return [PromptTemplate(text=each) for each in _TEXTS.validate_python(found)]


def templates_text(templates: Sequence[PromptTemplate]) -> str:
    """The answer that `read_templates` reads as these templates; all of them have a system part, or none has."""
    rows = [t.text if t.system is None else {"system": t.system, "text": t.text} for t in templates]
    return json.dumps(rows, ensure_ascii=False)


def read_error(body: bytes) -> str:
    """What the body of a failed request says: its message where it is an error object, else all of it."""
    try:
        found = _ERROR.validate_python(_json(body))
    except ValueError:
        return body.decode(errors="replace")
    problem = found.error if isinstance(found, _Refused) else found
    return problem if isinstance(problem, str) else problem.message


def _json(body: bytes | str) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"the answer is no JSON: {type(error).__name__}") from None


def _first(logprobs: Any) -> tuple[tuple[str, float], ...]:
    """Tokens of the first position; what has another form, or no finite number, is left out: it is extra."""
    found: list[tuple[str, float]] = []
    with suppress(ValidationError):
        for each in _Logprobs.model_validate(logprobs).content[0].top_logprobs:
            with suppress(ValidationError):
                token = _Token.model_validate(each)
                found.append((token.token, min(token.logprob, 0.0)))
    return tuple(found)


def _spent(usage: Any, longest: int) -> int:
    """What an answer counts against the token limit: as the endpoint counts it where that can be so, else the longest
    that was asked."""
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return min(count, longest) if isinstance(count, int) and not isinstance(count, bool) and count > 0 else longest
