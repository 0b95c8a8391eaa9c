"""Generators behind OpenAI-compatible endpoints: requests -> texts, in the order asked.

Requests are made here rather than by the `openai` client, which adds headers of the environment
(OPENAI_CUSTOM_HEADERS), follows redirects to other hosts and bounds neither the time nor the bytes of an answer;
ray.data.llm's HTTP processor would carry the key through Ray's object store. A bad answer costs one candidate. The key
is read where it is used and removed from all that comes back.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayTaskError

from paft_ray.config import EndpointConfig, GeneratorConfig, generator_key
from paft_ray.config.keys import read_key
from paft_ray.errors import UserError, one_line
from paft_ray.generators.completions import (
    ChatReply,
    read_completion,
    read_error,
    templates_text,
    whole_characters,
)
from paft_ray.generators.http_exchange import Exchange, Reply
from paft_ray.generators.limits import Rate, Tokens
from paft_ray.generators.requests import Completion, Request, request_seed
from paft_ray.inference.answer_cache import AnswerCache, BufferedWriter, identity
from paft_ray.log import get_logger
from paft_ray.placement import on_this_node
from paft_ray.prompts.template import PromptTemplate
from paft_ray.sanitize import without_key

_log = get_logger(__name__)
_ANSWERS = pa.schema(
    [
        ("request", pa.string()),
        ("text", pa.string()),
        ("finished", pa.bool_()),
        ("tokens", pa.int64()),
        ("error", pa.string()),
    ]
)
_FIRST = pa.field("first", pa.string())  # JSON, in answers to requests that ask for it
_REFUSED = (400, 422)  # what a server says to a parameter that it does not take
_HOPELESS = 3  # failed requests, with none answered, after which the rest is not sent
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_LONGEST_REASON = 4000  # characters that are looked through for secrets, of which 200 are shown


def write_templates(
    requests: Sequence[Request],
    generator: GeneratorConfig,
    seed: int,
    cache: AnswerCache,
    insecure_hosts: Sequence[str] = (),
) -> list[Completion]:
    """One answer per request, from a task on the driver's node; an empty one where the endpoint gave none. What `cache`
    holds is not requested again.

    Raises `UserError` where the key is not in that node's environment, the endpoint refuses it, or nothing may be sent
    to the endpoint's address.
    """
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(ask_missing).options(scheduling_strategy=on_this_node())
        return list(ray.get(task.remote(list(requests), generator, seed, cache, insecure_hosts)))
    except RayTaskError as error:
        raise error.cause from None if isinstance(error.cause, UserError) else error


def ask_missing(
    requests: Sequence[Request],
    generator: GeneratorConfig,
    seed: int,
    cache: AnswerCache,
    insecure_hosts: Sequence[str] = (),
) -> list[Completion]:
    """As `write_templates`, in this process."""
    unlimited = generator.endpoint and generator.endpoint.model_copy(update={"max_total_tokens": None})
    cache = cache.keyed(
        {"generator": generator_key(generator.model_copy(update={"endpoint": unlimited})), "seed": seed}
    )
    names = [identity(str(asked.number), asked.message, asked.settings) for asked in requests]
    asks_first = bool(generator.endpoint and generator.endpoint.request.get("logprobs"))
    schema = _ANSWERS.append(_FIRST) if asks_first else _ANSWERS
    rows = {row["request"]: row for row in cache.read(schema).to_pylist()}
    kept = {i: _kept(rows[name]) for i, name in enumerate(names) if name in rows}
    if kept:
        _log.info(f"[{generator.label}] {len(kept)} answers of an earlier attempt are reused")
    saver = BufferedWriter(cache)

    def keep(number: int, written: Completion) -> None:
        row = {
            "request": names[number],
            "text": written.text,
            "finished": written.finished,
            "tokens": written.tokens,
            "error": "",
            "first": json.dumps(written.first),
        }
        saver.add(pa.Table.from_pylist([row], schema=schema))

    with saver:
        return ask(requests, generator, seed, insecure_hosts=insecure_hosts, kept=kept, keep=keep)


def _kept(row: Mapping[str, Any]) -> Completion:
    first = tuple((str(token), float(logprob)) for token, logprob in json.loads(row.get("first") or "[]"))
    return Completion(text=row["text"], finished=row["finished"], tokens=row["tokens"], missing="", first=first)


def ask(
    requests: Sequence[Request],
    generator: GeneratorConfig,
    seed: int,
    environment: Mapping[str, str] = os.environ,
    *,
    insecure_hosts: Sequence[str] = (),
    kept: Mapping[int, Completion] = {},
    keep: Callable[[int, Completion], None] = lambda number, written: None,
) -> list[Completion]:
    """One answer per request, in this process. A dead endpoint is reported in one line and costs nothing but its
    answers.

    `kept`: answers that are there, by number of the request; their tokens count against the limit. `keep` is given each
    new one as it comes.
    """
    endpoint = generator.endpoint
    assert endpoint is not None
    name = endpoint.api_key_env
    key = read_key(name, environment) if name else ""
    if name and not key:
        raise UserError(
            f"generator {generator.label}: {name} is not in the environment of the driver's node, or is empty; "
            "set it there before Ray starts"
        )
    session = _Session(generator, endpoint, key, insecure_hosts)
    found = asyncio.run(session.all(requests, seed, kept, keep))
    if session.num_capped:
        _log.warning(
            f"[{generator.label}] {session.num_capped} of {len(found)} requests were not sent: what is left of "
            "endpoint.max_total_tokens does not hold their answers; raise it"
        )
    if session.failures:
        _log.warning(
            f"[{generator.label}] {sum(bool(w.missing) for w in found if not w.text)} of {len(found)} requests got no "
            f"answer; the first: {session.failures[0]}"
        )
    return found


class _Session:
    """The requests of one round to one endpoint."""

    def __init__(
        self, generator: GeneratorConfig, endpoint: EndpointConfig, key: str, insecure_hosts: Sequence[str]
    ) -> None:
        self.generator, self.endpoint, self.key, self.insecure_hosts = generator, endpoint, key, insecure_hosts
        self.longest = generator.longest_answer
        self.rate = Rate(endpoint.requests_per_minute)
        self.answered = 0
        self.failures: list[str] = []
        self.num_capped = 0
        """Requests that the limit of tokens left no room for."""
        self.refused = False
        """Some request was refused for what it asks."""

    async def all(
        self,
        requests: Sequence[Request],
        seed: int,
        kept: Mapping[int, Completion],
        keep: Callable[[int, Completion], None],
    ) -> list[Completion]:
        limit, spent = self.endpoint.max_total_tokens, sum(written.tokens for written in kept.values())
        self.tokens = Tokens(None if limit is None else limit - spent)
        slots = asyncio.Semaphore(self.endpoint.concurrency)
        async with Exchange(self.generator, self.key, self.insecure_hosts) as exchange:

            async def answer(number: int, asked: Request) -> Completion:
                if number in kept:
                    return kept[number]
                async with slots:
                    written = await self._one(exchange, asked, request_seed(seed, asked.number))
                if written.text or not written.missing:
                    keep(number, written)
                return written

            try:
                async with (
                    asyncio.TaskGroup() as group
                ):  # where one raises, it ends the others before the connections are closed
                    running = [group.create_task(answer(number, asked)) for number, asked in enumerate(requests)]
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
            return [task.result() for task in running]

    async def _one(self, exchange: Exchange, asked: Request, seed: int) -> Completion:
        if len(self.failures) >= _HOPELESS and not self.answered:
            return Completion(text="", finished=False)
        if not await self.tokens.reserve(self.longest):
            self.num_capped += 1
            return Completion(text="", finished=False, missing="token_cap")
        found, lost = await self._answer(exchange, self._body(asked, seed), may_be_empty=not asked.axes)
        spent = lost + (found.tokens if found else 0)
        await self.tokens.settle(self.longest, spent)
        if found is None:
            missing = "refused" if self.refused and self.endpoint.request.get("logprobs") else "failed"
            return Completion(text="", finished=False, tokens=spent, missing=missing)
        text = _bare(found.text) if asked.axes and not self.endpoint.grammar else found.text
        finished = asked.is_complete(text) if self.endpoint.grammar else found.finished
        missing = "failed" if asked.axes else ""
        return Completion(
            text=self._without_key(asked, text),
            finished=finished,
            missing=missing,
            tokens=spent,
            first=tuple((without_key(token, self.key), logprob) for token, logprob in found.first),
        )

    def _without_key(self, asked: Request, text: str) -> str:
        """The answer without the key, which JSON may hide until a list is read."""
        if asked.is_list:
            with suppress(ValueError):
                found = [(template.text, template.system) for template in asked.templates(text)]
                texts = [[part and without_key(part, self.key) for part in parts] for parts in found]
                return templates_text([PromptTemplate(text=text or "", system=system) for text, system in texts])
        return without_key(text, self.key)

    async def _answer(self, exchange: Exchange, body: bytes, *, may_be_empty: bool) -> tuple[ChatReply | None, int]:
        """(answer, tokens of attempts that gave none). An attempt that no status came back from counts at its
        longest."""
        lost, reason = 0, ""
        for attempt in range(self.endpoint.max_retries + 1):
            await self.rate.turn()
            reply = await exchange.post(body)
            if reply.succeeded or reply.status is None:
                lost += self.longest
            if reply.succeeded and not reply.trouble:
                try:
                    found = read_completion(reply.body, self.longest, may_be_empty=may_be_empty)
                except ValueError as error:
                    reason = f"no chat completion came ({error})"
                    break
                self.answered += 1
                return found, lost - self.longest
            self.refused |= reply.status in _REFUSED
            reason = self._reason(reply, exchange.url)
            wait_s = reply.retry_in_s(attempt)
            if wait_s is None:
                break
            if attempt < self.endpoint.max_retries:
                await asyncio.sleep(wait_s)
        self.failures.append(one_line(without_key(reason, self.key)[:_LONGEST_REASON])[:200])
        return None, lost

    def _body(self, asked: Request, seed: int) -> bytes:
        alone = asked.axes and not (self.endpoint.grammar or asked.is_list)
        message = f"{asked.message}\nAnswer with the text alone." if alone else asked.message
        fields = {
            "max_tokens": self.generator.max_tokens,
            "temperature": self.generator.temperature,
            "seed": seed % 2**31,
            **self.endpoint.request,
        }
        if self.endpoint.grammar and asked.axes:
            fields["structured_outputs"] = {"regex": asked.regex}
        sent = {name: value for name, value in fields.items() if value is not None}
        messages = [{"role": "user", "content": whole_characters(message)}]
        if asked.instruction is not None:
            messages.insert(0, {"role": "system", "content": whole_characters(asked.instruction)})
        body = {
            "model": self.generator.id,
            "messages": messages,
            **sent,
        }
        return json.dumps(body, ensure_ascii=False).encode()

    def _reason(self, reply: Reply, url: str) -> str:
        """Why a request failed. Raises `UserError` for a refused key: a corrected one gives all answers, so nothing is
        made without them."""
        status = reply.status
        if status in (401, 403):
            name = self.endpoint.api_key_env
            what = (
                f"refuses the key in {name}; set {name} to one that is valid there"
                if name
                else "asks for a key; name its variable in endpoint.api_key_env"
            )
            raise UserError(f"generator {self.generator.label}: the endpoint {what} (HTTP {status})")
        if status is not None and 300 <= status < 400:
            return (
                f"the endpoint redirects to {reply.location(url)} (HTTP {status}), which is not followed; set "
                "endpoint.base_url to where it is"
            )
        if status is None or reply.succeeded:
            return reply.trouble
        return f"HTTP {status}: {reply.trouble or read_error(reply.body)}"


def _bare(text: str) -> str:
    """The text without the code fence or the quotes that stand around all of it."""
    if fenced := _FENCE.fullmatch(text):
        text = fenced.group(1)
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        text = text[1:-1]
    return text.strip()
