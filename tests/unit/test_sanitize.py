"""Secrets in texts that are stored or shown: every form of a value is taken out, and ordinary words stay. All values
are made up."""

import base64
import html
import json
import re
import textwrap
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from markupsafe import Markup

from paft_ray.config import parse_config
from paft_ray.credentials import variable_is_secret
from paft_ray.errors import StageError, one_line
from paft_ray.sanitize import count_as_secret, masked, secrets_in
from paft_ray.stages.stage_errors import keep_traceback, named
from paft_ray.storage.store import Store

VALUE = "mlf-made'up\\0123/Zz+9 ä"
FORMS = {
    "as it is": VALUE,
    "of a mounted file": f"{VALUE}\n",
    "repr": repr(VALUE),
    "repr with a line feed": repr(f"Bearer {VALUE}\n"),
    "repr of a repr": repr(repr(VALUE)),
    "ascii": ascii(VALUE),
    "bytes": repr(VALUE.encode()),
    "JSON": json.dumps({"key": VALUE}),
    "JSON with escaped slashes": json.dumps(VALUE).replace("/", "\\/"),
    "JSON in UTF-8": json.dumps(VALUE, ensure_ascii=False),
    "HTML": html.escape(VALUE),
    "quoted": quote(VALUE),
    "quoted, slashes too": quote(VALUE, safe=""),
    "quoted in small letters": re.sub("%..", lambda code: code[0].lower(), quote(VALUE, safe="")),
    "quoted with pluses": quote_plus(VALUE),
    "base64": base64.b64encode(VALUE.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(VALUE.encode()).decode(),
    "base64 with a line feed": base64.b64encode(f"{VALUE}\n".encode()).decode(),
    "HTML of a template": str(Markup.escape(VALUE)),
    "HTML with the slash": html.escape(VALUE).replace("/", "&#x2F;"),
    "hex": VALUE.encode().hex(),
    "hex in capitals": VALUE.encode().hex().upper(),
    "quoted twice": quote(quote(VALUE, safe=""), safe=""),
    "broken over lines": f"{VALUE[:9]}\n{VALUE[9:]}",
    "broken over lines with an indent": f"{VALUE[:9]} \r\n    {VALUE[9:15]}\n\t{VALUE[15:]}",
    "base64 broken over lines": "\n".join(textwrap.wrap(base64.b64encode(VALUE.encode()).decode(), 12)),
    **{
        f"base64 behind {user!r}": base64.b64encode(f"{user}:{VALUE}".encode()).decode()
        for user in ("", "a", "me", "you")
    },
}


def leaks(text: str) -> list[str]:
    """What of the value a reader of the text could put together: any eight characters of one of its forms."""
    plain = ["mlf-made", "made'up", "0123/Zz", "0123%2F", "0123%2f", "0123\\/Z"]
    code = base64.b64encode(VALUE.encode()).decode()
    parts = (*plain, code[8:20], "0123/Zz+9", VALUE.encode().hex()[8:24], VALUE.encode().hex()[8:24].upper())
    return [part for part in parts if part in text or part in "".join(text.split())]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAFT_SECRET_VARIABLES", raising=False)


@pytest.mark.parametrize("given", [VALUE, f"{VALUE}\n", f" {VALUE}\r\n"], ids=["plain", "line feed", "space around"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_a_secret_is_taken_out(form: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", given)
    text = f"401 for user: {form} at host"
    for shown in (masked(text), one_line(text), one_line(text)[:25]):
        assert leaks(shown) == []
    assert masked(text).endswith("at host")
    assert "\n" in form.strip("\n") or set(secrets_in(text)) == {"MLFLOW_TRACKING_TOKEN"}


NAMES = [
    "EXAMPLE_APIKEY",
    "API_KEY_2",
    "GITHUB_PAT",
    "DB_PASSWD",
    "AZURE_STORAGE_CONNECTION_STRING",
    "MYSQL_PWD",
    "DB_PASS",
    "SSHPASS",
    "PGPASSWORD",
    "SUPABASE_JWT",
    "X_COOKIE",
    "MY_BEARER",
    "REDISCLI_AUTH",
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SESSION_TOKEN",
    "OPENAI_KEY_PROD",
    "TOKEN_OF_GITHUB",
    "SENTRY_DSN",
    "AZURE_SAS",
    "SLACK_WEBHOOK_URL",
    "githubToken",
    "apiKey",
    "PRIVATE_KEY_BASE64",
    "TLS_PASSPHRASE",
    "GOOGLE_CREDENTIALS",
    "DB_CREDS",
    "VPN_PASSCODE",
    "OTEL_EXPORTER_OTLP_HEADERS",
]
OTHERS = [
    "PWD",
    "OLDPWD",
    "PATH",
    "PATTERN",
    "RAY_AUTH_MODE",
    "SSH_AUTH_SOCK",
    "RAY_AUTH_TOKEN_PATH",
    "TOKENIZERS_PARALLELISM",
    "TOKEN_LIMIT",
    "GIT_AUTHOR_NAME",
    "KEYBOARD",
    "XAUTHORITY",
    "DESKTOP_SESSION",
    "AUTH_TYPE",
    "MLFLOW_TRACKING_USERNAME",
    "OPENAI_BASE_URL",
    "MONKEY",
    "PASSENGER",
    "COMPASS",
    "PAFT_SECRET_VARIABLES",
    "HOSTNAME",
    "SORT_KEY",
    "DB_PRIMARY_KEY",
    "CACHE_KEY",
    "SSH_PUBLIC_KEY",
    "VLLM_MAX_TOKENS",
    "MAX_NEW_TOKENS",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["made-up-0123456789", "hunter2", "s3cr3t!", "abcdefg"])
def test_a_variable_is_a_secret_by_a_word_of_its_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert masked(f"refused: {value}, again ({value})") == f"refused: [{name}], again ([{name}])"


@pytest.mark.parametrize("name", OTHERS)
def test_a_variable_of_an_ordinary_name_is_none(name: str) -> None:
    assert not variable_is_secret(name)


@pytest.mark.parametrize(
    "value",
    [
        "1",
        "true",
        "main",
        "token",
        "None",
        "100000",
        "default",
        "Bearer",
        "example",
        "positive",
        "EMPTY",
        "/usr/bin",
        "~/",
        "./tests",
    ],
)
def test_an_ordinary_word_or_path_is_no_secret_whatever_holds_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", value)
    text = (
        f"{value} and x{value}x in a text about positive tokens of 100000 examples, /usr/bin/python and the main token"
    )
    assert masked(text) == text


def test_a_short_secret_is_looked_for_as_a_whole_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWD", "prompts")
    assert masked("my_prompts? prompts! 3prompts promptset") == "my_[DB_PASSWD]? [DB_PASSWD]! 3prompts promptset"


def test_what_is_secret_within_a_value_is_taken_out_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AZURE_CONNECTION_STRING",
        "DefaultEndpointsProtocol=https;AccountName=lab;AccountKey=bWFkZS11cA==;EndpointSuffix=core",
    )
    monkeypatch.setenv(
        "GOOGLE_CREDENTIALS",
        json.dumps({"type": "service_account", "private_key_id": "f00ba4-made-up", "client_email": "a@b"}),
    )
    monkeypatch.setenv("LAB_SETTINGS", '{"region": "north", "api_key": "made-up-9"}')
    monkeypatch.setenv("DATABASE_URL", "postgres://me:hunter2x@db/lab")
    assert masked("made-up-9 in north") == "[LAB_SETTINGS] in north"
    text = "refused bWFkZS11cA== and f00ba4-made-up and hunter2x for service_account of lab at core over https"
    assert (
        masked(text)
        == "refused [AZURE_CONNECTION_STRING] and [GOOGLE_CREDENTIALS] and [DATABASE_URL] for service_account of "
        "lab at core over https"
    )


def test_a_private_key_of_several_lines_is_taken_out_whole_and_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["made-up-line-1-0123456789", "made-up-line-2-0123456789"]
    monkeypatch.setenv("SSH_KEY", "\n".join(["-----BEGIN", *lines, ""]))
    assert "made-up" not in masked("\n".join(lines)) + one_line(" ".join(["-----BEGIN", *lines])) + masked(
        f"  {lines[1]}"
    )


PEM = ["-----BEGIN OPENSSH " + "PRIVATE KEY-----", "bWFkZSB1cA", "-----END OPENSSH " + "PRIVATE KEY-----"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {' '.join(PEM)} refused", "key *** refused"),
        ("key {!r} refused".format("\n".join(PEM)), "key '***' refused"),
        ("header 'Bearer made0up.0123-x' sent", "header 'Bearer ***' sent"),
        ("Authorization: Basic bWU6bWFkZS11cA==", "Authorization: Basic ***"),
        ("key sk-proj-made0up0123456789 refused", "key *** refused"),
        ("GET https://h/x?X-Amz-Signature=0f0f&part=2&sig=a%2Fb", "GET https://h/x?X-Amz-Signature=***&part=2&sig=***"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "token ***"),
        ("at s3://me:a/b@c@bucket/x and e-mail a@b.org", "at s3://***@bucket/x and e-mail a@b.org"),
        ("at postgres://me:1/x@host/db, see http://u@h:8/a@b", "at postgres://***@host/db, see http://***@b"),
        ("storage=s3://a/b,http://me:made-up@h", "storage=s3://a/b,http://***@h"),
        ("at s3:/KEY:made/up@bucket", "at s3:/***@bucket"),
        (
            "see https://medium.example/@user/1 and http://h:8000/a@b and s3://bucket/me@lab/x",
            "see https://medium.example/@user/1 and http://h:8000/a@b and s3://bucket/me@lab/x",
        ),
        ("C:/Users/me@work/x, file:/a/b@c", "C:/Users/me@work/x, file:/a/b@c"),
        ("key AKIAIOSFODNN7MADEUPX refused", "key *** refused"),
        (
            "ASIAPACIFICREGION2025, ASIAPACIFIC2025Q4, AKIACHARITY2025FUND",
            "ASIAPACIFICREGION2025, ASIAPACIFIC2025Q4, AKIACHARITY2025FUND",
        ),
        (
            "a basic classification of bearer shares; /x?max_tokens=3&page=2",
            "a basic classification of bearer shares; /x?max_tokens=3&page=2",
        ),
        (
            "git 9abbbb6d0a1b2c3e4f5a6b7c8d9e0f1a2b3c4d5e, sk-learn, task-0123456789",
            "git 9abbbb6d0a1b2c3e4f5a6b7c8d9e0f1a2b3c4d5e, sk-learn, task-0123456789",
        ),
    ],
)
def test_keys_that_can_be_told_by_their_form_are_taken_out(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_the_variable_that_a_configuration_names_is_a_secret_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_SERVER", "made-up-0123")
    assert masked("made-up-0123") == "made-up-0123"
    endpoint = {"base_url": "https://h/v1", "api_key_env": "LAB_SERVER"}
    parse_config(
        {"name": "a", "task": "demo", "prompts": {"generators": [{"id": "g", "endpoint": endpoint}]}}, source="x"
    )
    assert masked("made-up-0123") == "[LAB_SERVER]"
    count_as_secret("OTHER")
    assert masked("made-up-0123") == "[LAB_SERVER]"


def test_the_traceback_that_is_kept_in_a_run_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{VALUE}\n")
    run = Store.open(str(tmp_path), "a")

    def fail() -> None:
        try:
            raise KeyError(f"Bearer {VALUE}\n")
        except KeyError as error:
            raise ValueError(f"{quote(VALUE)} at s3://me:x@bucket") from error

    with pytest.raises(StageError) as told, named(run, "train"):
        fail()
    (log,) = (tmp_path / "a/logs").glob("train-*.txt")
    try:
        fail()
    except ValueError as error:
        elsewhere = keep_traceback(None, "train", error)
    for text in (str(told.value), log.read_text(), Path(elsewhere).read_text()):
        assert leaks(text) == []
        assert "[MLFLOW_TRACKING_TOKEN]" in text
        assert "me:x" not in text
    assert "KeyError" in log.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "sk-" * 30_000,
        "a:/" * 30_000,
        "x@" * 50_000,
        "hf_" * 30_000,
        "&token=x" * 20_000,
        "basic " * 20_000 + "x" * 100_000,
        "line of a log\n" * 20_000,
        PEM[0] * 3000,
        "a:/" * 30_000 + "@",
        "a:/b:1/" * 20_000 + "@",
        "made-up-1-0123\n" * 20_000 + " " * 100_000 + "\n" * 50_000,
    ],
)
def test_masking_takes_a_moment_whatever_the_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        monkeypatch.setenv(f"A{number}_TOKEN", f"made-up-{number}-0123456789")
    start = time.process_time()
    masked(text)
    assert time.process_time() - start < 3
