"""Generators behind OpenAI-compatible endpoints: requests -> texts, in the order asked.

The `openai` client retries (with `Retry-After`) and times out; ray.data.llm's HTTP processor would carry the key through Ray's object store, takes no notice
of `Retry-After` or of statuses such as 401, and ends a whole batch with one row. The key is read where it is used and taken out of all that comes back.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import openai
import pyarrow as pa
import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paft_ray.config import EndpointConfig, GeneratorConfig, generator_key
from paft_ray.console import say
from paft_ray.errors import UserError, one_line
from paft_ray.inference.parts import Parts, Saver, identity
from paft_ray.prompts.request import Request, Written

_ANSWERS = pa.schema([("request", pa.string()), ("text", pa.string()), ("finished", pa.bool_()), ("tokens", pa.int64()), ("error", pa.string())])
_HOPELESS = 3  # failed requests, with none answered, after which the rest is not sent
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_lost: ContextVar[list[int]] = ContextVar("lost")


def write_templates(requests: Sequence[Request], generator: GeneratorConfig, seed: int, parts: Parts) -> list[Written]:
    """One answer per request, from a task on the driver's node; an empty one where the endpoint gave none. What `parts` holds is not asked again.

    Raises `UserError` where the key is not in that node's environment or the endpoint refuses it.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(ask_missing).options(scheduling_strategy=here)
        return list(ray.get(task.remote(list(requests), generator, seed, parts)))
    except RayTaskError as error:
        raise error.cause from None if isinstance(error.cause, UserError) else error


def ask_missing(requests: Sequence[Request], generator: GeneratorConfig, seed: int, parts: Parts) -> list[Written]:
    """As `write_templates`, in this process."""
    unlimited = generator.endpoint and generator.endpoint.model_copy(update={"max_total_tokens": None})
    parts = parts.keyed({"generator": generator_key(generator.model_copy(update={"endpoint": unlimited})), "seed": seed})
    names = [identity(str(number), asked.message, asked.regex) for number, asked in enumerate(requests)]
    rows = {row["request"]: row for row in parts.read(_ANSWERS).to_pylist()}
    kept = {i: Written(**{field: rows[name][field] for field in ("text", "finished", "tokens")}) for i, name in enumerate(names) if name in rows}
    if kept:
        say(f"synthesize ({generator.label}): {len(kept)} answers of an earlier attempt are kept")
    saver = Saver(parts)

    def keep(number: int, written: Written) -> None:
        row = {"request": names[number], "text": written.text, "finished": written.finished, "tokens": written.tokens, "error": ""}
        saver.add(pa.Table.from_pylist([row], schema=_ANSWERS))

    with saver:
        return ask(requests, generator, seed, kept=kept, keep=keep)


def ask(
    requests: Sequence[Request],
    generator: GeneratorConfig,
    seed: int,
    environment: Mapping[str, str] = os.environ,
    *,
    kept: Mapping[int, Written] = {},
    keep: Callable[[int, Written], None] = lambda number, written: None,
) -> list[Written]:
    """One answer per request, in this process. A dead endpoint is told in one line and costs nothing but its answers.

    `kept`: answers that are there, by number of the request; their tokens count against the limit. `keep` is given each new one as it comes.
    """
    endpoint = generator.endpoint
    assert endpoint is not None
    key = environment.get(endpoint.api_key_env, "") if endpoint.api_key_env else ""
    if endpoint.api_key_env and not key:
        raise UserError(f"generator {generator.label}: {endpoint.api_key_env} is not in the environment of the driver's node; set it there before Ray starts")
    asking = _Asking(generator, endpoint, key)
    found = asyncio.run(asking.all(requests, seed, kept, keep))
    if asking.failures:
        say(f"synthesize ({generator.label}): {sum(not w.text for w in found)} of {len(found)} requests got no answer; the first: {asking.failures[0]}")
    return found


class _Asking:
    """The requests of one round to one endpoint."""

    def __init__(self, generator: GeneratorConfig, endpoint: EndpointConfig, key: str) -> None:
        self.generator, self.endpoint, self.key = generator, endpoint, key
        longest = endpoint.request.get("max_completion_tokens")
        self.longest = longest if isinstance(longest, int) else generator.max_tokens
        self.rate = _Rate(endpoint.requests_per_minute)
        self.answered = 0
        self.failures: list[str] = []

    async def all(self, requests: Sequence[Request], seed: int, kept: Mapping[int, Written], keep: Callable[[int, Written], None]) -> list[Written]:
        limit, spent = self.endpoint.max_total_tokens, sum(written.tokens for written in kept.values())
        self.tokens = _Tokens(None if limit is None else limit - spent)
        slots = asyncio.Semaphore(self.endpoint.concurrency)
        http = openai.DefaultAsyncHttpxClient(event_hooks={"request": [self._sending], "response": [self._received]}, timeout=self.endpoint.timeout_s)
        async with openai.AsyncOpenAI(
            base_url=self.endpoint.base_url,
            api_key=self.key or "none",
            max_retries=self.endpoint.max_retries,
            timeout=self.endpoint.timeout_s,
            http_client=http,
        ) as client:

            async def answer(number: int, asked: Request) -> Written:
                if number in kept:
                    return kept[number]
                written = await self._one(client, slots, asked, seed * 1_000_003 + number)
                if written.text:
                    keep(number, written)
                return written

            return await asyncio.gather(*(answer(number, asked) for number, asked in enumerate(requests)))

    async def _one(self, client: openai.AsyncOpenAI, slots: asyncio.Semaphore, asked: Request, seed: int) -> Written:
        async with slots:
            if len(self.failures) >= _HOPELESS and not self.answered:
                return Written(text="", finished=False)
            if not await self.tokens.reserve(self.longest):
                return Written(text="", finished=False, missing="token_cap")
            lost, answer = [0], None
            _lost.set(lost)
            try:
                answer = await client.chat.completions.create(**self._body(asked, seed))
                text, finished, spent = _read(answer, self.longest)
                self.answered += 1
            except (openai.OpenAIError, ValueError) as error:
                self._fail(error)
                text, finished, spent = "", False, self.longest if answer is not None else 0
            spent += lost[0] * self.longest
            await self.tokens.settle(self.longest, spent)
        if self.endpoint.grammar:
            finished = re.fullmatch(asked.regex, text) is not None
        else:
            text = _bare(text)
        return Written(text=self._without_key(text), finished=finished, tokens=spent)

    def _body(self, asked: Request, seed: int) -> dict[str, Any]:
        message = asked.message if self.endpoint.grammar else f"{asked.message}\nAnswer with the text alone."
        fields = {"max_tokens": self.generator.max_tokens, "temperature": self.generator.temperature, "seed": seed % 2**31, **self.endpoint.request}
        if self.endpoint.grammar:
            fields["structured_outputs"] = {"regex": asked.regex}
        sent = {name: value for name, value in fields.items() if value is not None}
        # Nothing that the environment holds for another endpoint goes out: no OPENAI_API_KEY, no organization.
        silent = ("OpenAI-Organization", "OpenAI-Project", *(() if self.key else ("Authorization",)))
        headers = dict.fromkeys(silent, openai.omit)
        return {"model": self.generator.id, "messages": [{"role": "user", "content": message}], "extra_body": sent, "extra_headers": headers}

    async def _sending(self, _: Any) -> None:
        """Before every attempt; it counts as lost until something comes back."""
        await self.rate.turn()
        _lost.get()[0] += 1

    async def _received(self, _: Any) -> None:
        _lost.get()[0] -= 1

    def _fail(self, error: Exception) -> None:
        """Notes why a request failed. Raises `UserError` for a refused key: a mended one gives all answers, so nothing is made without them."""
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        if status in (401, 403):
            name = self.endpoint.api_key_env
            what = f"refuses the key in {name}; set {name} to one that is valid there" if name else "asks for a key; name its variable in endpoint.api_key_env"
            raise UserError(f"generator {self.generator.label}: the endpoint {what} (HTTP {status})") from None
        if isinstance(error, openai.APITimeoutError):
            reason = f"no answer within endpoint.timeout_s={self.endpoint.timeout_s} s"
        elif isinstance(error, openai.APIConnectionError):
            reason = f"no connection to {self.endpoint.base_url}"
        elif status is not None:
            reason = f"HTTP {status}: {error}"
        else:
            reason = f"no chat completion came ({error})"
        self.failures.append(one_line(self._without_key(reason))[:200])

    def _without_key(self, text: str) -> str:
        """An endpoint may send back what it got; half characters, which no file holds, are replaced too."""
        text = text.replace(self.key, "[key]") if self.key else text
        return text.encode(errors="replace").decode()


class _Rate:
    """Spaces requests evenly."""

    def __init__(self, per_minute: float | None) -> None:
        self.interval_s = 60 / per_minute if per_minute else 0.0
        self.next_s = 0.0

    async def turn(self) -> None:
        """Returns when the next request may go out."""
        now = time.monotonic()
        at = max(now, self.next_s)
        self.next_s = at + self.interval_s
        await asyncio.sleep(at - now)


class _Tokens:
    """Keeps generated tokens under a limit: what is under way is reserved at its longest."""

    def __init__(self, limit: int | None) -> None:
        self.left = limit
        self.under_way = 0
        self.changed = asyncio.Condition()

    async def reserve(self, count: int) -> bool:
        """True once `count` tokens are set aside, False where even an end of all that is under way could not give them."""
        if self.left is None:
            return True
        async with self.changed:
            while self.left < count:
                if not self.under_way:
                    return False
                await self.changed.wait()
            self.left -= count
            self.under_way += 1
        return True

    async def settle(self, reserved: int, spent: int) -> None:
        """Gives back what was not spent."""
        if self.left is None:
            return
        async with self.changed:
            self.left += reserved - spent
            self.under_way -= 1
            self.changed.notify_all()


def _read(answer: Any, longest: int) -> tuple[str, bool, int]:
    """(text, whether it came to its end, generated tokens) of a chat completion. Raises `ValueError` for anything else."""
    choices = getattr(answer, "choices", None) or [None]
    text = getattr(getattr(choices[0], "message", None), "content", None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError("there is no text in choices[0].message.content")
    used = getattr(answer.usage, "completion_tokens", None)
    return text.strip(), getattr(choices[0], "finish_reason", None) != "length", used if isinstance(used, int) else longest


def _bare(text: str) -> str:
    """The text without the code fence or the quotes that stand around the whole."""
    if fenced := _FENCE.fullmatch(text):
        text = fenced.group(1)
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        text = text[1:-1]
    return text.strip()
