"""Endpoints that are hostile or broken, on the loopback: nothing of ours goes elsewhere, no answer holds the stage up,
and each costs its candidate alone."""

import asyncio
import base64
import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from paft_ray.cli.preflight import check
from paft_ray.config import EndpointConfig, GeneratorConfig, load_config
from paft_ray.errors import UserError
from paft_ray.generators.openai import ask
from paft_ray.generators.requests import Completion, Request, request
from paft_ray.stages.resolved_run import ResolvedRun
from paft_ray.tasks.task import load_task
from tests.support.raw_server import RawServer, reply, serving

KEY = "sk-Very/Secret+0123456789='x"
LONGEST = 50
DEMO = load_task("demo")


def good(text: str = "good", usage: str = '{"completion_tokens": 10}') -> bytes:
    return b'{"choices": [{"message": {"content": %s}, "finish_reason": "stop"}], "usage": %s}' % (
        json.dumps(text).encode(),
        usage.encode(),
    )


def generator(url: str, **settings: Any) -> GeneratorConfig:
    endpoint = {"api_key_env": "GENERATOR_KEY", "max_retries": 0, "timeout_s": 5, "concurrency": 1, **settings}
    return GeneratorConfig(id="writer-1", max_tokens=LONGEST, endpoint=EndpointConfig(base_url=url, **endpoint))


def asked(count: int) -> list[Request]:
    return [request(DEMO, (), 1, seed=0, number=i) for i in range(count)]


def answers(server: RawServer | str, count: int = 1, key: str = KEY, **settings: Any) -> list[Completion]:
    return ask(
        asked(count),
        generator(server if isinstance(server, str) else server.url, **settings),
        0,
        {"GENERATOR_KEY": key},
    )


def the_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert len(said) < 400
    return said


# --- what goes out


def test_the_headers_that_arrive_are_ours_and_no_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text(
        "machine 127.0.0.1 login me password netrc-secret\ndefault login me password netrc-secret\n"
    )
    (tmp_path / "netrc").chmod(0o600)
    for name, value in {
        "NETRC": str(tmp_path / "netrc"),
        "OPENAI_CUSTOM_HEADERS": "X-Gateway: gateway-secret\nAuthorization: Bearer other\nCookie: a=b",
        "OPENAI_API_KEY": "other",
        "OPENAI_ADMIN_KEY": "other",
        "OPENAI_ORG_ID": "org-private",
        "OPENAI_PROJECT_ID": "project-private",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }.items():
        monkeypatch.setenv(name, value)
    with serving(lambda number: iter([reply(good(), "Set-Cookie: track=me")])) as server:
        answers(server, 2)
        ask(asked(1), generator(server.url, api_key_env=None), 0, {"GENERATOR_KEY": KEY})
    ours = {
        "host": f"127.0.0.1:{server.port}",
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": "paft-ray",
    }
    for number, body in enumerate(server.bodies):
        key = {"authorization": f"Bearer {KEY}"} if number < 2 else {}
        assert server.headers(number) == {**ours, **key, "content-length": str(len(body))}
        assert server.heads[number][0] == "POST /v1/chat/completions HTTP/1.1"
    assert set(json.loads(server.bodies[0])) == {"model", "messages", "max_tokens", "temperature", "seed"}


@pytest.mark.parametrize("status", [301, 303, 304, 307, 308])
@pytest.mark.parametrize(
    "where",
    ["http://127.0.0.1:PORT/v1/chat/completions?token=s3cret#s3cret", "//me:s3cret@127.0.0.1:PORT/x", "http://[", ""],
)
def test_a_redirect_is_a_failed_answer_and_nothing_goes_where_it_leads(
    status: int, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda number: iter([reply(good())])) as other:
        target = where.replace("PORT", str(other.port))
        with serving(lambda number: iter([reply(b"", f"Location: {target}", status=f"{status} Moved")])) as server:
            assert [w.text for w in answers(server, max_retries=3)] == [""]
    assert (len(server.heads), len(other.heads)) == (1, 0)
    line = the_line(capsys)
    assert (
        f"the endpoint redirects to {'http://127.0.0.1' if '127' in where or not where else 'what is no URL'}" in line
    )
    assert f"(HTTP {status})" in line
    assert "s3cret" not in line


def test_a_proxy_is_used_as_the_environment_says_but_never_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        serving(lambda number: iter([reply(good())])) as proxy,
        serving(lambda number: iter([reply(good())])) as server,
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert [w.text for w in answers(server)] == ["good"]
        assert (len(server.heads), len(proxy.heads)) == (1, 0)
        outside = generator("http://models.invalid/v1", api_key_env=None)
        assert [w.text for w in ask(asked(1), outside, 0, {})] == ["good"]
        assert proxy.heads[0][0] == "POST http://models.invalid/v1/chat/completions HTTP/1.1"


UNUSABLE = [
    ("HTTPS_PROXY", "gopher://127.0.0.1"),
    ("HTTPS_PROXY", "http://proxy:port"),
    ("ALL_PROXY", "ftp://proxy"),
    ("SSL_CERT_FILE", "/nowhere/ca.pem"),
]


@pytest.mark.parametrize(("name", "value"), UNUSABLE)
def test_settings_of_the_environment_that_cannot_be_used_are_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=rf"^generator writer-1 at models.invalid: .*{name}.* in the environment cannot be used"
    ) as refused:
        answers("https://models.invalid/v1")
    assert "\n" not in str(refused.value)


# --- how long and how much


def dripping(head: bytes, piece: bytes, pause_s: float = 0.2) -> Iterator[bytes]:
    yield head
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(pause_s)
        yield piece


SLOW = {
    "a body that drips": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "a body in chunks that drips": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a body without a length that drips": (b"HTTP/1.0 200 OK\r\n\r\n", b" "),
    "a head that drips": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
    "interim answers without end": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


@pytest.mark.parametrize("slow", SLOW.values(), ids=SLOW.keys())
def test_an_answer_that_drips_is_given_up_at_the_time_limit(
    slow: tuple[bytes, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    begin = time.monotonic()
    with serving(lambda number: dripping(*slow)) as server:
        found = answers(server, timeout_s=1)
        assert 0.9 < time.monotonic() - begin < 20
    assert (found[0].text, found[0].tokens) == ("", LONGEST)
    assert "no answer within endpoint.timeout_s=1 s" in the_line(capsys)


def test_an_error_whose_body_drips_is_told_by_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda number: dripping(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n", b" ")) as server:
        assert [w.tokens for w in answers(server, timeout_s=1)] == [0]
    assert "HTTP 404" in the_line(capsys)


def endless(piece: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(20_000):
        yield b"%x\r\n%s\r\n" % (len(piece), piece)


@pytest.mark.parametrize(
    "pieces",
    [
        lambda: iter([reply(good("x" * (5 * 2**20)))]),
        lambda: iter([b"HTTP/1.0 200 OK\r\n\r\n" + b" " * (5 * 2**20)]),
        lambda: endless(b" " * 60_000),
    ],
    ids=["one with its length", "one that ends with the connection", "chunks without end"],
)
def test_an_answer_of_too_many_bytes_is_read_no_further(pieces: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda number: pieces() if number == 0 else iter([reply(good())])) as server:
        assert [w.text for w in answers(server, 2)] == ["", "good"]
    assert "the answer is longer than 4 MiB" in the_line(capsys)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP", "gzip, gzip"])
def test_a_compressed_answer_is_refused_and_not_inflated(coding: str, capsys: pytest.CaptureFixture[str]) -> None:
    packed = zlib.compress(good()) if coding == "deflate" else gzip.compress(good())
    with serving(
        lambda number: iter([reply(packed, f"Content-Encoding: {coding}") if number == 0 else reply(good())])
    ) as server:
        found = answers(server, 2)
    assert [(w.text, w.tokens) for w in found] == [("", LONGEST), ("good", 10)]
    assert "a compressed answer came" in the_line(capsys)


def test_bytes_that_would_inflate_a_thousandfold_are_not_read_whatever_the_status_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(4)) + packer.flush()
    begin = time.process_time()
    for status in ("200 OK", "500 Internal Server Error", "400 Bad Request"):
        with serving(
            lambda number, status=status: iter([reply(bomb, "Content-Encoding: gzip", status=status)])
        ) as server:
            assert [w.text for w in answers(server)] == [""]
        assert "a compressed answer came" in the_line(capsys)
    assert time.process_time() - begin < 2


# --- what it says

BAD: dict[str, bytes] = {
    "no JSON": b"<html>busy</html>",
    "nothing": b"",
    "a number": b"5",
    "a list": b"[]",
    "no choices": b"{}",
    "choices that are a number": b'{"choices": 5}',
    "choices that are true": b'{"choices": true}',
    "choices that are an object": b'{"choices": {"0": {"message": {"content": "x"}}}}',
    "no choice": b'{"choices": []}',
    "a choice that is a number": b'{"choices": [5]}',
    "a choice that is a list": b'{"choices": [[]]}',
    "a message that is a list": b'{"choices": [{"message": [{"content": "x"}]}]}',
    "a message that is a text": b'{"choices": [{"message": "x"}]}',
    "content that is null": b'{"choices": [{"message": {"content": null}}]}',
    "content that is a list": b'{"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}]}',
    "content that is NaN": b'{"choices": [{"message": {"content": NaN}}]}',
    "content that is a huge number": b'{"choices": [{"message": {"content": 1%s}}]}' % (b"0" * 3000),
    "content that is white space": b'{"choices": [{"message": {"content": " \\n\\t"}}]}',
    "content that is far too long": good("x" * 2**20),
    "a second choice that is none": b'{"choices": [{"message": {"content": "x"}}, 5]}',
    "a million choices that are none": b'{"choices": [%s5]}' % (b"5," * 1_000_000),
    "choices that come twice": b'{"choices": [{"message": {"content": "x"}}], "choices": 5}',
    "a number of too many digits": b'{"choices": [{"message": {"content": "x"}}], "n": 1%s}' % (b"0" * 10_000),
    "lists nested deep": b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects nested deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nesting that never closes": b"[" * 1_000_000,
    "deep nesting in what is not read": good()[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "bytes that are no UTF-8": b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
    "UTF-16 that ends within a character": good().decode().encode("utf-16")[:-1],
    "an answer in pieces, as a stream": b'data: {"choices": [{"delta": {"content": "x"}}]}\n\ndata: [DONE]\n\n',
    "an error with status 200": b'{"error": {"message": "busy"}}',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_what_is_no_chat_completion_costs_its_own_candidate_alone(
    body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = time.process_time()
    with serving(lambda number: iter([reply(body if number == 0 else good())])) as server:
        found = answers(server, 2)
    assert [(w.text, w.tokens) for w in found] == [("", LONGEST), ("good", 10)]
    assert "1 of 2 requests got no answer; the first: no chat completion came (" in the_line(capsys)
    assert time.process_time() - begin < 3


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_whatever_the_body_of_an_error_is_it_costs_its_own_candidate_alone(
    body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = time.process_time()
    with serving(
        lambda number: iter([reply(body, status="400 Bad Request") if number == 0 else reply(good())])
    ) as server:
        assert [w.text for w in answers(server, 2)] == ["", "good"]
    assert "1 of 2 requests got no answer; the first: HTTP 400" in the_line(capsys)
    assert time.process_time() - begin < 3


@pytest.mark.parametrize(
    "body",
    [
        '{"error": {"message": "too long", "code": 7}}',
        '{"error": "too long"}',
        '{"message": "too long", "code": 7}',
        "too long",
    ],
)
def test_the_message_of_an_error_is_shown_without_what_is_around_it(
    body: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda number: iter([reply(body.encode(), status="422 No")])) as server:
        answers(server)
    assert the_line(capsys).endswith("HTTP 422: too long\n")


NO_HTTP = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
    "less than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    "a chunk of a negative length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nx",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "a head of a megabyte": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20 + b"\r\n\r\n",
    "a name of a header with a NUL": b"HTTP/1.1 200 OK\r\nX\0: 1\r\n\r\n{}",
}


@pytest.mark.parametrize("raw", NO_HTTP.values(), ids=NO_HTTP.keys())
def test_what_is_no_http_costs_its_own_candidate_alone(raw: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda number: iter([raw if number == 0 else reply(good())])) as server:
        assert [w.text for w in answers(server, 2)] == ["", "good"]
    the_line(capsys)


@pytest.mark.parametrize(
    "after",
    [
        "100000",
        "1e400",
        "nan",
        "-5",
        "soon",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 00 Xyz 99999999999 99:99:99 GMT",
        "",
    ],
)
def test_a_wait_that_is_too_long_or_none_at_all_never_holds_the_stage_up(after: str) -> None:
    begin = time.monotonic()
    with serving(
        lambda number: iter(
            [reply(b"{}", f"Retry-After: {after}", status="429 Busy") if number == 0 else reply(good())]
        )
    ) as server:
        answers(server, max_retries=1)
    assert time.monotonic() - begin < 20


USAGES = ["-1000000", "0", '"5"', "true", "2.5", "1e30", "1" + "0" * 30, "null", "[]", "{}", "NaN", "-Infinity"]


@pytest.mark.parametrize(
    "usage", [f'{{"completion_tokens": {count}}}' for count in USAGES] + ["{}", "null", "[]", "5", '"x"']
)
def test_no_count_of_an_endpoint_gets_round_the_token_limit(usage: str) -> None:
    with serving(lambda number: iter([reply(good(usage=usage))])) as server:
        found = answers(server, 10, max_total_tokens=2 * LONGEST)
    assert [w.tokens for w in found] == [LONGEST] * 2 + [0] * 8
    assert len(server.heads) == 2
    assert [w.missing for w in found[2:]] == ["token_cap"] * 8


@pytest.mark.parametrize(
    ("fields", "each"),
    [({"max_tokens": 80}, 80), ({"n": 3}, 150), ({"max_completion_tokens": 20}, 20), ({"max_tokens": None}, 50)],
)
def test_what_a_request_can_cost_follows_from_what_it_asks(fields: dict[str, Any], each: int) -> None:
    with serving(lambda number: iter([reply(good(usage="null"))])) as server:
        found = answers(server, 10, max_total_tokens=4 * each + 1, request=fields)
    assert [w.tokens for w in found] == [each] * 4 + [0] * 6
    assert len(server.heads) == 4


# --- keys


@pytest.mark.parametrize("around", [("", "\n"), ("", "\r\n"), (" ", "\t "), ("\n", "\n\n"), ("\u00a0", "\u2028")])
def test_white_space_around_a_key_is_taken_off(around: tuple[str, str]) -> None:
    with serving(lambda number: iter([reply(good())])) as server:
        assert [w.text for w in answers(server, key=KEY.join(around))] == ["good"]
    assert server.headers(0)["authorization"] == f"Bearer {KEY}"


BAD_KEYS = {
    "a letter outside ASCII": "sk-s\u00e9cret-made-up",
    "typographic quotes": "\u201csk-secret-made-up\u201d",
    "a mark before it": "\ufeffsk-secret-made-up",
    "a line feed within": "sk-secret\nX-Other: made-up",
    "a carriage return within": "sk-secret\rmade-up",
    "a space within": "Bearer sk-secret-made-up",
    "a NUL": "sk-secret\0made-up",
    "bytes that are no UTF-8": "sk-secret-\udcff-made-up",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_key_that_can_be_none_is_refused_before_anything_is_sent(key: str) -> None:
    with (
        serving(lambda number: iter([reply(good())])) as server,
        pytest.raises(UserError, match=r"GENERATOR_KEY: .* stands within the key") as refused,
    ):
        answers(server, key=key)
    assert server.heads == []
    assert "\n" not in str(refused.value)
    assert not any(part in str(refused.value) for part in ("secret", "made-up"))


@pytest.mark.parametrize("key", ["", "\n", " \t\r\n"])
def test_a_key_of_white_space_is_no_key(key: str) -> None:
    with (
        serving(lambda number: iter([reply(good())])) as server,
        pytest.raises(UserError, match=r"GENERATOR_KEY is not in the environment .* or is empty"),
    ):
        answers(server, key=key)
    assert server.heads == []


@pytest.mark.parametrize("key", ["", " \n", "sk-s\u00e9cret", "a b", "a\nb"])
def test_a_run_on_this_machine_is_refused_before_it_starts_where_the_key_is_none(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENERATOR_KEY", key)
    outside = (
        "prompts.generators=[{id: writer-1, endpoint: {base_url: 'https://api.example.com/v1', api_key_env: "
        "GENERATOR_KEY}}]"
    )
    with pytest.raises(UserError, match="GENERATOR_KEY"):
        check(
            ResolvedRun.of(
                load_config("jobs/configs/demo.yaml", [f"storage={tmp_path}", outside, "model.max_prompt_tokens=64"])
            ),
            "synthesize",
            local=True,
        )
    assert list(tmp_path.iterdir()) == []


FORMS = {
    "as it is": KEY,
    "as Python writes it": repr(KEY + "\n"),
    "as a URL has it": quote(KEY),
    "as a query has it": quote(KEY, safe=""),
    "in base64": base64.b64encode(KEY.encode()).decode(),
    "in the base64 of a header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "in the base64 of a user": base64.b64encode(f"me:{KEY}!".encode()).decode(),
    "in the base64 of a URL": base64.urlsafe_b64encode(f"u:{KEY}?".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_key_that_comes_back_in_another_form_is_taken_out(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.dumps({"error": {"message": "x" * 150 + form}}).encode()
    with serving(
        lambda number: iter([reply(good(f"Your key: {form}."))] if number == 0 else [reply(told, status="400 Bad")])
    ) as server:
        found = answers(server, 2)
    assert found[0].text.startswith("Your key: ")
    assert "[key]" in found[0].text
    line = the_line(capsys)
    assert "[key]" in line
    core = base64.b64encode(KEY.encode()).decode()[4:20]
    for text in (found[0].text, line):
        assert form[12:20] not in text
        assert core not in text


# --- where it goes


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/v1",
        "http://2852039166/v1",
        "https://[::ffff:a9fe:a9fe]/v1",
        "http://metadata.google.internal/v1",
    ],
)
def test_nothing_is_sent_to_the_address_of_a_metadata_service(url: str) -> None:
    with pytest.raises(
        UserError, match=r"^generator writer-1 at .*: endpoint.base_url: .* is a link-local or metadata address"
    ):
        answers(url, api_key_env=None)


def test_a_key_goes_to_no_other_machine_unencrypted() -> None:
    with pytest.raises(
        UserError, match=r"the key would go to models\.invalid unencrypted, over plain http; write https://"
    ):
        answers("http://models.invalid/v1")


@pytest.mark.parametrize("resolved", ["169.254.169.254", "fe80::1", "::ffff:169.254.1.1", "fd00:ec2::254"])
def test_a_name_that_resolves_to_a_link_local_address_gets_nothing(
    resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        return real(resolved if host in ("models.invalid", b"models.invalid") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(
        UserError,
        match=r"^generator writer-1 at models.invalid: endpoint.base_url: models.invalid resolves to .*, a link-local "
        r"or metadata address",
    ):
        answers("https://models.invalid/v1")


class Stream:
    """A connection, as httpcore shows a new one."""

    def __init__(self, peer: str) -> None:
        self.peer, self.closed = peer, False

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return (self.peer, 80) if name == "server_addr" else None

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("url", "peer", "allowed", "refused"),
    [
        ("https://models.invalid/v1", "169.254.169.254", [], True),
        ("https://models.invalid/v1", "fe80::1%lo", [], True),
        ("https://models.invalid/v1", "169.254.169.254", ["Models.invalid."], False),
        ("https://models.invalid/v1", "93.184.215.14", [], False),
        ("http://localhost:8000/v1", "10.0.0.5", [], True),
        ("http://localhost:8000/v1", "10.0.0.5", ["localhost"], False),
        ("http://localhost:8000/v1", "127.0.0.1", [], False),
        ("http://[::1]:8000/v1", "::1", [], False),
    ],
)
def test_a_connection_is_looked_at_before_anything_is_sent_on_it(
    url: str, peer: str, allowed: list[str], refused: bool
) -> None:
    from paft_ray.generators.http_exchange import Exchange  # here, so that the other tests run on a state without it

    stream, exchange = Stream(peer), Exchange(generator(url), KEY, allowed)
    connected = exchange._connected("connection.connect_tcp.complete", {"return_value": stream})
    if refused:
        with pytest.raises(UserError, match=f"resolves to {peer}"):
            asyncio.run(connected)
    else:
        asyncio.run(connected)
    assert stream.closed == refused
