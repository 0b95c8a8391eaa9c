"""Generators behind an endpoint, against a small server that speaks chat completions: retries, rate, token limit, and a
key that never gets out."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from paft_ray.cli.dry_run import receives
from paft_ray.cli.preflight import check
from paft_ray.config import (
    Config,
    EndpointConfig,
    EngineConfig,
    GeneratorConfig,
    JudgeConfig,
    PromptsConfig,
    generator_key,
    load_config,
    parse_config,
    prompts_key,
)
from paft_ray.errors import StageError, UserError
from paft_ray.generators.openai import ask, ask_missing
from paft_ray.generators.quality.judge import Ask
from paft_ray.generators.quality.question import Question
from paft_ray.generators.quality.registry import Models, asking
from paft_ray.generators.quality.spending import Spending
from paft_ray.generators.requests import Request, request
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.variations import options
from paft_ray.robustness.endpoints import ask_endpoint
from paft_ray.stages import synthesize
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.storage.manifests import ModelKey
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example, load_task
from tests.support.known_judge import trusting, without_forced
from tests.support.made_stage import prepared
from tests.support.resolved import resolved

KEY = "sk-Very-Secret-0123456789"
ENVIRONMENT = {"GENERATOR_KEY": KEY}
DEMO = load_task("demo")
Reply = tuple[int, dict[str, str], str]


def completion(text: str, tokens: int | None = 10, finish: str = "stop") -> Reply:
    message = {"role": "assistant", "content": text}
    usage = None if tokens is None else {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": tokens + 5}
    choices = [{"index": 0, "finish_reason": finish, "message": message}]
    return (
        200,
        {},
        json.dumps(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
        ),
    )


class Server:
    """Answers what `reply` makes of (number of the request, its body); keeps what came, and when."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most_at_once = at_once = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal at_once
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append({**body, "path": self.path})
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    outer.times.append(time.monotonic())
                    at_once += 1
                    outer.most_at_once = max(outer.most_at_once, at_once)
                status, headers, text = reply(number, body)
                with lock:
                    at_once -= 1
                try:
                    self.send_response(status)
                    for name, value in {
                        "Content-Type": "application/json",
                        "Content-Length": str(len(text.encode())),
                        **headers,
                    }.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:  # the client gave up
                    return

            def log_message(self, *_: Any) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(reply: Callable[[int, dict[str, Any]], Reply]) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def generator(server: Server | None, *, url: str = "", **settings: Any) -> GeneratorConfig:
    endpoint = {"api_key_env": "GENERATOR_KEY", "max_retries": 2, "timeout_s": 5, **settings}
    return GeneratorConfig(
        id="writer-1", max_tokens=50, endpoint=EndpointConfig(base_url=server.url if server else url, **endpoint)
    )


def asked(count: int) -> list[Request]:
    return [request(DEMO, (), 1, seed=0, number=i) for i in range(count)]


def test_answers_come_in_the_order_asked_and_the_key_goes_into_the_header_alone(serve) -> None:
    server = serve(lambda number, body: completion(body["messages"][0]["content"]))
    found = ask(asked(5), generator(server, request={"seed": None, "top_k": 3}), 7, ENVIRONMENT)
    assert [w.text.splitlines()[:-1] for w in found] == [r.message.splitlines() for r in asked(5)]
    assert all(w.finished and w.tokens == 10 for w in found)
    assert {h["authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    assert all(
        b["path"] == "/v1/chat/completions" and b["model"] == "writer-1" and b["max_tokens"] == 50 and b["top_k"] == 3
        for b in server.bodies
    )
    assert all("seed" not in body and "structured_outputs" not in body for body in server.bodies)
    assert KEY not in json.dumps(server.bodies)


def test_without_a_key_none_is_sent_even_where_another_ones_is_in_the_environment(serve, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    server = serve(lambda number, body: completion("x"))
    ask(asked(1), generator(server, api_key_env=None), 0, {})
    assert "authorization" not in server.headers[0]
    assert "org-private" not in json.dumps(server.headers)


def test_the_grammar_goes_only_to_an_endpoint_that_takes_it(serve) -> None:
    server = serve(lambda number, body: completion("no placeholder"))
    found = ask(asked(1), generator(server, grammar=True), 0, ENVIRONMENT)
    assert server.bodies[0]["structured_outputs"] == {"regex": asked(1)[0].regex}
    assert not found[0].finished


def test_a_busy_endpoint_is_asked_again_when_it_says(serve) -> None:
    server = serve(lambda number, body: (429, {"Retry-After": "1"}, "{}") if number == 0 else completion("x"))
    assert ask(asked(1), generator(server), 0, ENVIRONMENT)[0].text == "x"
    assert len(server.times) == 2
    assert 0.9 < server.times[1] - server.times[0] < 4


def test_retries_end_and_a_dead_endpoint_is_soon_left_alone(serve, capsys) -> None:
    server = serve(
        lambda number, body: (500, {}, json.dumps({"error": {"message": f"overloaded, your header was {KEY}"}}))
    )
    found = ask(asked(40), generator(server, max_retries=1, concurrency=2), 0, ENVIRONMENT)
    assert all(w.text == "" and w.missing == "failed" and w.tokens == 0 for w in found)
    assert len(server.bodies) <= 2 * 4
    said = capsys.readouterr().out
    assert "40 of 40 requests got no answer; the first: HTTP 500" in said
    assert KEY not in said
    assert said.count("\n") == 1


def test_nobody_at_the_address_costs_only_the_answers(capsys) -> None:
    found = ask(asked(3), generator(None, url="http://127.0.0.1:9/v1", max_retries=0), 0, ENVIRONMENT)
    assert [w.text for w in found] == ["", "", ""]
    assert "no connection to http://127.0.0.1:9/v1" in capsys.readouterr().out


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_one_line_without_the_key(serve, status: int) -> None:
    server = serve(
        lambda number, body: (status, {}, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}))
    )
    with pytest.raises(
        UserError,
        match=rf"^generator writer-1 at 127.0.0.1:\d+: the endpoint refuses the key in GENERATOR_KEY.*HTTP {status}",
    ) as caught:
        ask(asked(20), generator(server, concurrency=1), 0, ENVIRONMENT)
    assert KEY not in f"{caught.value}{caught.getrepr(chain=True)}"
    assert len(server.bodies) == 1


def test_a_key_that_is_not_there_is_named(serve) -> None:
    server = serve(lambda number, body: completion("x"))
    with pytest.raises(UserError, match="GENERATOR_KEY is not in the environment"):
        ask(asked(1), generator(server), 0, {})
    assert server.bodies == []


@pytest.mark.parametrize(
    "text",
    [
        "{not json",
        '{"choices": []}',
        '"just text"',
        "[]",
        '{"choices": [{"message": null}]}',
        '{"choices": [{"message": {"content": 7}}]}',
    ],
)
def test_what_is_no_chat_completion_is_a_failed_request(serve, capsys, text: str) -> None:
    server = serve(lambda number, body: (200, {}, text) if number == 0 else completion("good"))
    found = ask(asked(2), generator(server, concurrency=1), 0, ENVIRONMENT)
    assert [w.text for w in found] == ["", "good"]
    assert "1 of 2 requests got no answer" in capsys.readouterr().out


def test_a_slow_answer_is_given_up_and_counts_against_the_token_limit(serve, capsys) -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(3)
        return completion("late")

    server = serve(reply)
    found = ask(asked(1), generator(server, timeout_s=1, max_retries=1), 0, ENVIRONMENT)
    assert (found[0].text, found[0].tokens) == ("", 2 * 50)
    assert "no answer within endpoint.timeout_s=1 s" in capsys.readouterr().out


def test_requests_are_spaced_and_their_number_at_once_is_bounded(serve) -> None:
    def slow(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.3)
        return completion("x")

    server = serve(slow)
    ask(asked(5), generator(server, requests_per_minute=120), 0, ENVIRONMENT)
    assert max(server.times) - min(server.times) > 1.2  # 2 s, less what a busy machine takes off
    server = serve(slow)
    ask(asked(6), generator(server, concurrency=2), 0, ENVIRONMENT)
    assert server.most_at_once == 2


@pytest.mark.parametrize("tokens", [40, None])
def test_the_token_limit_is_never_passed(serve, tokens: int | None) -> None:
    server = serve(lambda number, body: completion("x", tokens=tokens))
    found = ask(asked(20), generator(server, max_total_tokens=200), 0, ENVIRONMENT)
    spent = sum(w.tokens for w in found)
    assert spent == sum(tokens or 50 for w in found if w.text) <= 200
    assert spent + 50 > 200
    assert {w.missing for w in found if not w.text} == {"token_cap"}
    assert len(server.bodies) == sum(bool(w.text) for w in found)


def test_an_answer_that_was_cut_off_is_unfinished_and_wrapping_is_taken_off(serve) -> None:
    texts = ["half", '"Say: {text}"', "```text\nSay: {text}\n```", 'He said "{text}"', f"key {KEY} \\ud83d"]
    server = serve(lambda number, body: completion(texts[number], finish="length" if number == 0 else "stop"))
    found = ask(asked(5), generator(server, concurrency=1), 0, ENVIRONMENT)
    assert [w.finished for w in found] == [False, True, True, True, True]
    assert [w.text for w in found[1:4]] == ["Say: {text}", "Say: {text}", 'He said "{text}"']
    assert KEY not in found[4].text


def test_lists_are_read_out_of_their_fences_and_hide_no_key(serve) -> None:
    hidden = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    texts = ['```json\n["Say: {text}", "b"]\n```', f'["{hidden} {{text}}"]', "Sure: 1. Say {text}", '["half']
    server = serve(lambda number, body: completion(texts[number]))
    several = [request(DEMO, (), 1, seed=0, number=i, count=2) for i in range(4)]
    found = ask(several, generator(server, concurrency=1), 0, ENVIRONMENT)
    assert server.bodies[0]["messages"][0]["content"].endswith("Answer with a JSON array of 2 strings.")
    assert [t.text for t in several[0].templates(found[0].text)] == ["Say: {text}", "b"]
    assert [t.text for t in several[1].templates(found[1].text)] == ["[key] {text}"]
    assert [w.text for w in found[2:]] == texts[2:]


def test_half_a_character_does_not_end_the_stage(serve) -> None:
    reply = completion("PLACE")
    server = serve(lambda number, body: (200, {}, reply[2].replace("PLACE", "\\ud83d {text}")))
    assert ask(asked(1), generator(server), 0, ENVIRONMENT)[0].text.encode() == b"? {text}"


# --- the stage


GOOD = [
    "Judge how the customer felt, negative or positive:\n{text}",
    "{text}\nDoes this person sound pleased? Say positive or negative.",
    "Opinion of a guest: {text}\nName its mood in a word, positive or negative?",
    "Feelings in this note matter, so read it closely: {text}\nIs it positive or negative overall?",
]


def config(*generators: GeneratorConfig, **prompts: Any) -> Config:
    settings = {"seed_templates": "builtin", "held_out_templates": "builtin", "generators": generators, **prompts}
    return Config(name="t", task="demo", prompts=PromptsConfig(**settings))


@without_forced
def in_process(requests, generator, engine, seed):
    return ask(requests, generator, seed, ENVIRONMENT), 0


def test_a_dead_endpoint_costs_only_its_own_candidates_and_the_run_says_so(serve, tmp_path, capsys) -> None:
    alive = serve(lambda number, body: completion(GOOD[number % len(GOOD)]))
    dead = serve(lambda number, body: (503, {}, "{}"))
    run = Store.open(str(tmp_path), "t")
    chosen = config(generator(dead, max_retries=0), generator(alive, concurrency=1), num_candidates=4)
    manifest = synthesize.run(resolved(chosen, run), write=in_process, signals=trusting)
    assert (manifest["asked"], manifest["kept"], manifest["engine_starts"], manifest["grammar_share"]) == (4, 2, 0, 0.0)
    assert [g["kept"] for g in manifest["generators"]] == [0, 2]
    assert len(dead.bodies) <= 8
    said = capsys.readouterr().out
    assert "asked 4, got 2" in said
    assert f"writer-1 at 127.0.0.1:{dead.http.server_port}: 4 requests, 0 answers, 0 tokens, " in said
    assert f"writer-1 at 127.0.0.1:{alive.http.server_port}: 4 requests, 4 answers, 40 tokens, " in said
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY.encode() not in stored
    assert b"GENERATOR_KEY" not in stored


def test_the_token_limit_holds_over_the_rounds_of_a_run(serve, tmp_path) -> None:
    server = serve(lambda number, body: completion("no placeholder", tokens=50))
    manifest = synthesize.run(
        resolved(
            config(generator(server, max_total_tokens=220), num_candidates=1, max_rounds=4),
            Store.open(str(tmp_path), "t"),
        ),
        write=in_process,
        signals=trusting,
    )
    assert manifest["generators"][0]["tokens"] == 200
    assert len(server.bodies) == 4
    assert manifest["rejected"] == {"missing_field": 4, "token_cap": 2}


def test_endpoints_are_asked_at_the_same_time(serve, tmp_path) -> None:
    both = threading.Barrier(2, timeout=20)

    def reply(number: int, body: dict[str, Any]) -> Reply:
        if number == 0:
            both.wait()
        return completion(GOOD[number % len(GOOD)])

    manifest = synthesize.run(
        resolved(
            config(*(generator(serve(reply), max_retries=0) for _ in range(2)), num_candidates=2, max_rounds=1),
            Store.open(str(tmp_path), "t"),
        ),
        write=in_process,
        signals=trusting,
    )
    assert manifest["kept"] == 2


def test_rows_leave_only_where_the_configuration_says_so(serve, tmp_path) -> None:
    row = Example(id="1", fields={"text": "the very private sentence " + "x" * 400}, answer="positive")
    message = request(DEMO, (), 1, seed=0, number=0, examples=[row]).message
    assert "the very private sentence" in message
    assert "x" * 301 not in message
    server = serve(lambda number, body: completion(GOOD[number % len(GOOD)]))
    run = Store.open(str(tmp_path), "t")
    with pytest.raises(UserError, match=r"prompts\.num_shared_examples shows training rows"):
        synthesize.run(
            resolved(config(generator(server), num_shared_examples=2), run), write=in_process, signals=trusting
        )
    train = [f"customer {i} wrote this" for i in range(9)]
    examples = [Example(id=str(i), fields={"text": text}, answer="positive") for i, text in enumerate(train)]
    prepared(run, {"train": examples})
    synthesize.run(
        resolved(config(generator(server), num_candidates=1, max_rounds=1), run), write=in_process, signals=trusting
    )
    sent = json.dumps(server.bodies, ensure_ascii=False)
    assert not any(text in sent for text in train)
    server.bodies.clear()
    synthesize.run(
        resolved(config(generator(server), num_candidates=1, max_rounds=1, num_shared_examples=2), run),
        force=True,
        write=in_process,
        signals=trusting,
    )
    sent = json.dumps(server.bodies, ensure_ascii=False)
    assert [text in sent for text in train] == [True, True] + [False] * 7


def test_answers_that_were_paid_for_serve_another_selection(serve, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("GENERATOR_KEY", KEY)
    server = serve(lambda number, body: completion(GOOD[number % len(GOOD)]))
    run = Store.open(str(tmp_path), "t")
    cache = AnswerCache.of(run, "synthesize").lasting

    @without_forced
    def paid(requests, generator, engine, seed):
        return ask_missing(requests, generator, seed, cache), 0

    one = generator(server, concurrency=1)
    first = synthesize.run(resolved(config(one, num_candidates=2, max_rounds=1), run), write=paid, signals=trusting)
    assert (first["kept"], len(server.bodies)) == (2, 4)
    second = synthesize.run(
        resolved(config(one, num_candidates=2, max_rounds=1, similarity=0.8), run),
        force=True,
        write=paid,
        signals=trusting,
    )
    assert (second["kept"], second["generators"][0]["tokens"], len(server.bodies)) == (2, 40, 4)
    third = synthesize.run(
        resolved(config(one, num_candidates=3, max_rounds=1), run), force=True, write=paid, signals=trusting
    )
    assert (third["generators"][0]["requests"], len(server.bodies)) == (6, 6), "only what has no answer is asked"
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY.encode() not in stored


# --- a judge


def judging(server: Server, monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: Any) -> tuple[Ask, Spending]:
    """What asks a judge behind the server, in this process, and what that takes."""

    def write(requests, model, seed, cache, insecure_hosts):
        return ask(requests, model, seed, ENVIRONMENT)

    monkeypatch.setattr("paft_ray.generators.quality.ask_endpoint.write_templates", write)
    config = JudgeConfig(id="judge-1", endpoint=generator(server, **settings).endpoint)
    models = Models(
        judge=config,
        model_of=lambda _: pytest.fail("an endpoint has no files"),
        engine=EngineConfig(),
        cache=AnswerCache.of(Store.open(str(folder), "t"), "synthesize"),
    )
    return asking(config.model, models), models.spending


def test_a_judge_behind_an_endpoint_is_asked_twice_about_each_text_and_its_letter_counts(
    serve, monkeypatch, tmp_path
) -> None:
    question, texts = Question.about(DEMO), [PromptTemplate(text=text) for text in GOOD]
    server = serve(lambda number, body: completion("A" if "negative" in body["messages"][0]["content"] else "?"))
    judge, spending = judging(server, monkeypatch, tmp_path, concurrency=1)
    found = judge(question, texts)
    assert set(found) == {template.id for template in texts}
    assert all(letters[0] == 0.0 for orders in found.values() for letters in orders)
    assert len(server.bodies) == 2 * len(texts)
    assert all(body["temperature"] == 0.0 and body["max_tokens"] == 16 for body in server.bodies)
    assert (spending.engine_starts, spending.tokens.total()) == (0, 10 * len(server.bodies))
    assert not any("{text}" in body["messages"][0]["content"] for body in server.bodies)


def test_the_token_limit_of_a_judge_holds_over_all_its_questions(serve, monkeypatch, tmp_path) -> None:
    question = Question.about(DEMO)
    texts = [PromptTemplate(text=f"Text {number}: {{text}}") for number in range(16)]
    server = serve(lambda number, body: completion("A", tokens=5))
    judge, spending = judging(server, monkeypatch, tmp_path, max_total_tokens=100)
    assert len(judge(question, texts[:8])) == 8
    assert judge(question, texts[8:]) == {}, "half a question is no answer"
    assert (len(server.bodies), spending.tokens.total()) == (17, 85), "an answer may take 16 tokens"


# --- the configuration


def test_what_is_asked_decides_the_cache_and_how_it_is_asked_does_not() -> None:
    one = generator(None, url="https://api.example.com/v1")
    assert generator_key(one) == generator_key(
        generator(None, url="https://api.example.com/v1", api_key_env="OTHER", max_retries=9, concurrency=1)
    )
    for other in (
        {"url": "https://b.example.com/v1"},
        {"url": "https://api.example.com/v1", "request": {"top_p": 0.5}},
    ):
        assert generator_key(one) != generator_key(generator(None, **other))
    assert "GENERATOR_KEY" not in json.dumps(prompts_key(PromptsConfig(generators=(one,))))


def test_the_key_of_a_run_without_endpoints_is_as_it_was() -> None:
    key = prompts_key(PromptsConfig(generators=(GeneratorConfig(),)))
    assert key["generators"] == [{"id": "demo", "revision": None, "temperature": 1.0, "max_tokens": 96}]
    assert "num_shared_examples" not in key


@pytest.mark.parametrize(
    "endpoint",
    [
        {"base_url": "https://api.example.com/v1", "api_key_env": KEY},
        {"base_url": f"https://user:{KEY}@api.example.com/v1"},
        {"base_url": f"https://api.example.com/v1?key={KEY}"},
        {"base_url": KEY},
        {"base_url": "https://api.example.com/v1", "api_key": KEY},
    ],
)
def test_a_key_in_the_configuration_is_refused_without_showing_it(endpoint: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"prompts\.generators\.0\.endpoint") as caught:
        parse_config({"name": "x", "task": "demo", "prompts": {"generators": [{"id": "m", "endpoint": endpoint}]}}, "x")
    assert KEY not in str(caught.value)


def test_the_plan_says_who_gets_what() -> None:
    one = generator(None, url="https://api.example.com/v1")
    assert receives(one, 0, 10) == (
        "writer-1, OUTSIDE at https://api.example.com/v1 (key from GENERATOR_KEY): the task's description, names "
        "of fields and labels, "
        "10 seed templates, no row of the data"
    )
    assert receives(one, 3, 10).endswith("3 training rows with their answers")
    assert receives(GeneratorConfig(), 0, 10).startswith("demo, an engine in the cluster")


def test_a_run_on_this_machine_is_refused_before_it_starts_where_the_key_is_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("GENERATOR_KEY", raising=False)
    changes = [
        f"storage={tmp_path}",
        "prompts.generators=[{id: writer-1, endpoint: {base_url: 'https://api.example.com/v1', api_key_env: "
        "GENERATOR_KEY}}]",
        "model.max_prompt_tokens=64",
    ]
    with pytest.raises(UserError, match="the environment variable GENERATOR_KEY, which holds its key, is not set"):
        check(ResolvedRun.of(load_config("jobs/configs/demo.yaml", changes)), "synthesize", local=True)


def test_a_second_attempt_asks_only_what_has_no_answer_and_counts_what_was_spent(
    serve, monkeypatch, tmp_path, capsys
) -> None:
    monkeypatch.setenv("GENERATOR_KEY", KEY)
    monkeypatch.setattr("paft_ray.inference.answer_cache.SAVE_EVERY_S", 0)
    place = AnswerCache.of(Store.open(str(tmp_path), "run"), "synthesize")
    server = serve(lambda number, body: (400, {}, "{}") if 3 <= number < 6 else completion(f"{number}", tokens=10))
    first = ask_missing(asked(6), generator(server, concurrency=1), 7, place)
    assert [written.text for written in first] == ["0", "1", "2", "", "", ""]
    second = ask_missing(asked(6), generator(server, concurrency=1, max_total_tokens=85), 7, place)
    assert [written.text for written in second] == ["0", "1", "2", "6", "", ""]
    assert [body["messages"] for body in server.bodies[6:]] == [body["messages"] for body in server.bodies[3:4]], (
        "30 of 85 tokens were spent before"
    )
    assert [written.missing for written in second[4:]] == ["token_cap"] * 2
    third = ask_missing(asked(6), generator(server, concurrency=1), 7, place)
    assert [(body["messages"], body["seed"]) for body in server.bodies[7:]] == [
        (body["messages"], body["seed"]) for body in server.bodies[4:6]
    ]
    assert [written.text for written in third] == ["0", "1", "2", "6", "7", "8"]
    assert "] 4 answers of an earlier attempt are reused" in capsys.readouterr().out
    assert KEY.encode() not in b"".join(file.read_bytes() for file in tmp_path.rglob("*.parquet"))
    ask_missing(asked(1), generator(server), 8, place)
    assert len(server.bodies) == 10, "another seed is another request"


def test_every_cell_of_a_suite_is_one_request_and_judged(serve, ray_session: None, tmp_path: Path) -> None:
    """`paft robustness` of an endpoint: nothing is added to the prompt, what is said is judged, an empty answer too."""
    task, store = load_task("piqa"), Store.open(str(tmp_path), "run")
    plain = PromptTemplate(text="Goal: {goal}\nA: {sol1}\nB: {sol2}\nAnswer:", system="Be brief.")
    moved = options.variants(task, [plain], 0)[0]
    rows = [Example(id=str(i), fields={"goal": f"g{i}", "sol1": "good", "sol2": "bad"}, answer="A") for i in range(3)]

    def reply(number: int, body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        said = "answer: a." if "A: good" in prompt else "The second one"
        return completion("" if "g2" in prompt else said)

    server = serve(reply)
    config = Config(name="robustness", task="piqa")
    model = generator(server, api_key_env=None)
    key, cache = ModelKey("there", -1), AnswerCache.of(store, "")
    found = ask_endpoint(model, key, task, [plain, moved], rows, cache, config)
    assert [body["messages"][0] for body in server.bodies] == [{"role": "system", "content": "Be brief."}] * 6
    prompts = {body["messages"][1]["content"] for body in server.bodies}
    assert "Goal: g0\nA: bad\nB: good\nAnswer:" in prompts
    values = found.outcomes.to_pylist()
    assert [(row["behavior"], row["strict"], row["named"]) for row in values] == [
        *[(1.0, 0.0, "A")] * 2,
        *[(0.0, 0.0, None)] * 4,
    ]
    assert all(row["label_logprobs"] is None and row["correct"] is None for row in values)
    assert found.manifest["endpoint_tokens"] == {"there": 60}
    again = ask_endpoint(model, key, task, [plain, moved], rows, cache, config)
    assert len(server.bodies) == 6, "answers cost money: they are not asked for twice"
    assert again.outcomes.equals(found.outcomes)


def test_log_probabilities_of_first_tokens_say_what_a_server_would_choose(
    serve, ray_session: None, tmp_path: Path
) -> None:
    """Of a label's beginning, in whatever case; what the options' places do to a choice is undone."""
    task, store = load_task("piqa"), Store.open(str(tmp_path), "run")
    plain = PromptTemplate(text="Goal: {goal}\nA: {sol1}\nB: {sol2}\nAnswer:")
    moved = options.variants(task, [plain], 0)[0]
    rows = [Example(id="0", fields={"goal": "g", "sol1": "good", "sol2": "bad"}, answer="A")]
    tokens = [{"token": " b", "logprob": -0.5}, {"token": "(", "logprob": -1.5}, {"token": "A)", "logprob": -2.5}]

    def reply(number: int, body: dict[str, Any]) -> Reply:
        assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
        found = json.loads(completion("I would say (B)")[2])
        found["choices"][0]["logprobs"] = {"content": [{"token": " b", "logprob": -0.5, "top_logprobs": tokens}]}
        return 200, {}, json.dumps(found)

    model, config = generator(serve(reply), api_key_env=None), Config(name="robustness", task="piqa")
    cache = AnswerCache.of(store, "").lasting
    found = ask_endpoint(model, ModelKey("there", -1), task, [plain, moved], rows, cache, config)
    one, other = found.outcomes.to_pylist()
    assert (one["predicted"], one["correct"], other["predicted"], other["correct"]) == ("B", False, "A", True)
    assert one["label_logprobs"] == pytest.approx([-2.126928, -0.126928], abs=1e-5)
    assert other["label_logprobs"] == pytest.approx([-0.126928, -2.126928], abs=1e-5)
    assert one["label_mass"] == pytest.approx(math.exp(-0.5) + math.exp(-2.5))
    again = ask_endpoint(model, ModelKey("there", -1), task, [plain, moved], rows, cache, config)
    assert again.outcomes.equals(found.outcomes), "log-probabilities are kept with the answers"


def test_a_server_that_refuses_log_probabilities_is_asked_without(serve, ray_session: None, tmp_path: Path) -> None:
    server = serve(lambda number, body: (400, {}, "{}") if "logprobs" in body else completion("positive"))
    cache = AnswerCache.of(Store.open(str(tmp_path), "run"), "").lasting
    row = Example(id="1", fields={"text": "good"}, answer="positive")
    config, template = Config(name="robustness", task="demo"), PromptTemplate(text="{text}")
    found = ask_endpoint(
        generator(server, api_key_env=None), ModelKey("there", -1), DEMO, [template], [row], cache, config
    )
    (outcome,) = found.outcomes.to_pylist()
    assert (outcome["behavior"], outcome["label_logprobs"]) == (1.0, None)


def test_a_failure_by_chance_is_no_refusal_of_log_probabilities(serve, ray_session: None, tmp_path: Path) -> None:
    server = serve(lambda number, body: (500, {}, "{}") if number == 0 else completion("positive"))
    cache = AnswerCache.of(Store.open(str(tmp_path), "run"), "").lasting
    row = Example(id="1", fields={"text": "good"}, answer="positive")
    config, template = Config(name="robustness", task="demo"), PromptTemplate(text="{text}")
    model = generator(server, api_key_env=None, max_retries=0)
    ask_endpoint(model, ModelKey("there", -1), DEMO, [template], [row], cache, config)
    assert ["logprobs" in body for body in server.bodies] == [True, True]


def test_an_endpoint_that_answers_nothing_is_no_measurement(serve, ray_session: None, tmp_path: Path) -> None:
    server = serve(lambda number, body: (404, {}, "{}"))
    cache = AnswerCache.of(Store.open(str(tmp_path), "run"), "")
    row = Example(id="1", fields={"text": "good"}, answer="positive")
    config, template = Config(name="robustness", task="demo"), PromptTemplate(text="{text}")
    with pytest.raises(StageError, match="1 of 1 requests got no answer"):
        ask_endpoint(generator(server, api_key_env=None), ModelKey("there", -1), DEMO, [template], [row], cache, config)
