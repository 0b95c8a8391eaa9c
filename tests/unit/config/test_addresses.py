"""Where a configuration may send keys and texts: spellings of link-local addresses, plain http, and what is allowed by
name."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from paft_ray.config import Config, TrackingConfig, parse_config
from paft_ray.errors import UserError
from paft_ray.tracking.clients import prepare_clients
from paft_ray.tracking.trackers import check
from tests.support.raw_server import reply, serving


def with_endpoint(url: str, key: str | None = None, **settings: Any) -> Config:
    endpoint = {"base_url": url, **({"api_key_env": key} if key else {})}
    return parse_config(
        {"name": "a", "task": "demo", "prompts": {"generators": [{"id": "m", "endpoint": endpoint}]}, **settings}, "x"
    )


METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1:8080",
    "169.254.169.254.",
    "2852039166",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "025177524776",
    "169.16689662",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:FFFF:A9FE:A9FE]",
    "[::a9fe:a9fe]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[FEBF::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "metadata",
    "metadata.google.internal",
    "METADATA.Google.Internal.",
    "metadata.goog",
    "instance-data",
    "[::ffff:0:a9fe:a9fe]",
    "[::FFFF:0:169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[64:ff9b:1:fffe::169.254.0.1]",
    "[64:ff9b:1::6464:64c8]",
    "[fd00:c1::a9fe:a9fe]",
    "[fd00:42::42%25eth0]",
    "metadata.tencentyun.com",
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", METADATA)
def test_no_spelling_of_a_link_local_or_metadata_address_is_taken(host: str, scheme: str) -> None:
    for parse in (
        with_endpoint,
        lambda url: parse_config({"name": "a", "task": "demo", "tracking": {"mlflow": url}}, "x"),
    ):
        with pytest.raises(
            UserError, match="link-local or metadata address, where a cloud keeps credentials"
        ) as refused:
            parse(f"{scheme}://{host}/v1")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "host",
    [
        "h",
        "example.com",
        "10.0.0.5:8000",
        "192.168.1.2",
        "[fd12::1]",
        "169.253.1.1",
        "172.16.0.1",
        "localhost.example.com",
        "127.example.com",
    ],
)
def test_a_key_goes_to_another_machine_over_https_alone_or_where_it_is_allowed_by_name(host: str) -> None:
    with_endpoint(f"http://{host}/v1")
    with_endpoint(f"https://{host}/v1", "EXAMPLE_KEY")
    with pytest.raises(
        UserError,
        match=r"generators.0.endpoint.base_url: the key would go to .* unencrypted, over plain http; write https://, "
        r"or allow it",
    ):
        with_endpoint(f"http://{host}/v1", "EXAMPLE_KEY")
    name = host if host.startswith("[") else host.partition(":")[0]
    with_endpoint(f"http://{host}/v1", "EXAMPLE_KEY", insecure_hosts=[name.strip("[]").upper()])
    with pytest.raises(UserError, match="unencrypted"):
        with_endpoint(f"http://{host}/v1", "EXAMPLE_KEY", insecure_hosts=["another.example.com"])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:8000",
        "127.1.2.3",
        "127.1",
        "2130706433",
        "[::1]:8000",
        "[::ffff:127.0.0.1]",
    ],
)
def test_this_machine_gets_a_key_over_http(host: str) -> None:
    assert with_endpoint(f"http://{host}/v1", "EXAMPLE_KEY").prompts.generators[0].endpoint is not None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://169.254.1.2/v1", "169.254.1.2"),
        ("http://0xA9FE0102", "169.254.1.2"),
        ("http://[fe80::1]/v1", "FE80:0::1"),
    ],
)
def test_a_link_local_address_that_is_allowed_by_name_is_taken_in_any_spelling(url: str, name: str) -> None:
    with_endpoint(url, "EXAMPLE_KEY", insecure_hosts=[name])
    parse_config({"name": "a", "task": "demo", "tracking": {"mlflow": url}, "insecure_hosts": [name]}, "x")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*",
        "*.example.com",
        "http://example.com",
        "example.com:80",
        "example.com/v1",
        "[::1]",
        "a b",
        "m\u00fcnchen.de",
    ],
)
def test_a_host_is_allowed_by_its_name_and_by_nothing_wider(host: str) -> None:
    with pytest.raises(UserError, match="insecure_hosts"):
        with_endpoint("https://h/v1", insecure_hosts=[host])


@pytest.mark.parametrize(
    "url",
    ["http://h:sk-s3cret/v1", "http://h:99999/v1", "http://[::1/v1", "http://[v1.x]/", "http://\u217cocalhost/v1", "http://\uff11\uff16\uff19.254.1.1/", "http://a%2eb/",  # noqa: E501
     "http://a b/", "http://exa mple/s3cret", "http://-h/", "ftp://h/s3cret", "http:///v1", "http://h/v1#s3cret", "http://h/v1?s3cret", "http://good.example\\@169.254.1.1/",  # noqa: E501
     "http://h/v1 s3cret", "http://h/s3cret\n", " http://h/s3cret", "http://h\t/s3cret", "http://h/s3cret\x00", "http://h/s3cret/?", "http://h/s3cret#"],  # noqa: E501
)  # fmt: skip
def test_what_is_no_plain_url_is_refused_without_showing_it(url: str) -> None:
    for parse in (
        with_endpoint,
        lambda url: parse_config({"name": "a", "task": "demo", "tracking": {"mlflow": url}}, "x"),
    ):
        with pytest.raises(UserError, match=r"base_url|mlflow") as refused:
            parse(url)
        assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n"])
@pytest.mark.parametrize("count", [0, -5, 2.5, "many", True, [], 2**40])
def test_what_bounds_the_cost_of_a_request_is_a_whole_number(name: str, count: Any) -> None:
    endpoint = {"base_url": "https://h/v1", "request": {name: count}}
    with pytest.raises(UserError, match=rf"request.{name}: an integer above 0 is needed"):
        parse_config({"name": "a", "task": "demo", "prompts": {"generators": [{"id": "m", "endpoint": endpoint}]}}, "x")


def test_the_hosts_that_are_allowed_decide_no_result() -> None:
    one, other = with_endpoint("https://h/v1"), with_endpoint("https://h/v1", insecure_hosts=["h"])
    assert json.dumps(one.prompts.model_dump(mode="json")) == json.dumps(other.prompts.model_dump(mode="json"))


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"])
def test_a_tracker_gets_its_key_over_https_alone_or_where_it_is_allowed_by_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "mlf-made-up-0123")
    with pytest.raises(
        UserError, match=r"tracking.mlflow=http://models.invalid:5000: the key would go to models.invalid unencrypted"
    ) as refused:
        check(TrackingConfig(mlflow="http://models.invalid:5000"))
    assert "mlf-made-up" not in str(refused.value)
    for config, allowed in (
        (TrackingConfig(mlflow="http://models.invalid:5000"), ["models.invalid"]),
        (TrackingConfig(mlflow="http://127.0.0.1:9"), []),
    ):
        with pytest.raises(UserError, match="no MLflow server lets us in"):
            check(config, allowed)


FILES = {
    ".mlflow/credentials": "[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = made-up-0123\n",
    ".netrc": "machine models.invalid login me password made-up-0123\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_trackers_password_from_a_file_goes_over_https_alone_as_well(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(FILES[name])
    file.chmod(0o600)
    with pytest.raises(UserError, match=r"the key would go to models.invalid unencrypted") as refused:
        check(TrackingConfig(mlflow="http://models.invalid:5000"))
    assert "made-up" not in str(refused.value)
    with pytest.raises(UserError, match="no MLflow server lets us in"):
        check(TrackingConfig(mlflow="http://models.invalid:5000"), ["models.invalid"])
    file.write_text("[[[ made-up\n")
    with pytest.raises(UserError, match=r"credentials cannot be read|no MLflow server lets us in") as refused:
        check(TrackingConfig(mlflow="http://models.invalid:5000"))
    assert "made-up" not in str(refused.value)


@pytest.mark.parametrize("resolved", ["169.254.169.254", "fe80::1", "::ffff:169.254.1.1"])
def test_a_tracker_whose_name_resolves_to_a_link_local_address_is_refused(
    resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: real(resolved if host == "models.invalid" else host, *rest, **more),
    )
    with pytest.raises(UserError, match=r"models.invalid resolves to .*, a link-local or metadata address"):
        check(TrackingConfig(mlflow="https://models.invalid"))


def test_white_space_around_a_trackers_key_is_taken_off_and_a_key_that_can_be_none_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mlf-made-up-0123\n")
    monkeypatch.setenv("WANDB_API_KEY", " wb-made-up\r\n")
    prepare_clients()
    assert (os.environ["MLFLOW_TRACKING_TOKEN"], os.environ["WANDB_API_KEY"]) == ("mlf-made-up-0123", "wb-made-up")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mlf-made\nup-0123")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_TOKEN: a line feed stands within the key"):
        check(TrackingConfig(mlflow="https://models.invalid"))


@pytest.mark.parametrize("status", [302, 307, 308])
def test_figures_do_not_follow_a_trackers_redirect(status: int) -> None:
    with serving(lambda number: iter([reply(b"{}")])) as other:
        moved = reply(b"", f"Location: http://127.0.0.1:{other.port}/api", status=f"{status} Moved")
        with (
            serving(lambda number: iter([moved])) as server,
            pytest.raises(UserError, match="no MLflow server lets us in"),
        ):
            check(TrackingConfig(mlflow=f"http://127.0.0.1:{server.port}"))
    assert (len(server.heads) > 0, other.heads) == (True, [])
