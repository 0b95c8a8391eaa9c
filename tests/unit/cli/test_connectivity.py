"""An address at which no cluster answers is told in seconds, before Ray tries it for a quarter of an hour."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from paft_ray.cli import connectivity as module
from paft_ray.cli.connectivity import reach, reach_job_api
from paft_ray.cli.doctor import examine
from paft_ray.cli.session import ray_session
from paft_ray.cli.submit import submit
from paft_ray.errors import UserError
from tests.support.ports import free_ports

HTTP2_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """Address of a server that answers every client with these bytes."""
    with socket.create_server(("", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                client.sendall(answer)
                clients.append(client)

        clients: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for client in clients:
            client.close()


def gone() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_gone_is_told_in_seconds(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = scheme + gone()
    start = time.monotonic()
    said = rf"--address {address}: no Ray cluster answers \(\[Errno 111\] Connection refused\); .*leave --address out"
    with pytest.raises(UserError, match=said), ray_session(address):
        pass
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="unset RAY_ADDRESS"), ray_session():
        pass
    assert time.monotonic() - start < 20  # most of it imports Ray


@pytest.mark.parametrize("address", ["garbage", "host:99999", "host:port", "ray://host", "127.0.0.1"])
def test_what_is_no_address_is_told_at_once(address: str) -> None:
    with pytest.raises(UserError, match=rf"--address {address}: no Ray cluster could be found \(.*\); give HOST:PORT"):
        reach(address)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", ".example"])
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_no_host_can_be_named_is_told_at_once(scheme: str, host: str) -> None:
    with pytest.raises(UserError, match=rf"--address {scheme}{host}:6379: no Ray cluster answers"):
        reach(f"{scheme}{host}:6379")


def test_doctor_tells_it_as_a_finding() -> None:
    (finding,) = examine(None, gone())
    assert (finding.level, finding.what) == ("FAIL", "cluster")
    assert finding.found.endswith("no Ray cluster answers ([Errno 111] Connection refused)")
    assert str(finding).count("ray status") == 1


@pytest.mark.parametrize(
    "answer", [b"", HTTP2_SETTINGS, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"]
)
def test_another_server_is_no_cluster(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_S", 0.5)
    with listening(answer) as address, pytest.raises(UserError, match="what listens there is no Ray cluster"):
        reach(address)


class Calls(grpc.GenericRpcHandler):
    """A server of gRPC that knows some calls, and answers them with an error."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is needed")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse) if handler_call_details.method in self.known else None


@contextmanager
def serving(*known: str) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Calls(*known)])
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_what_knows_rays_calls_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(module.HEAD_CALL, module.CLIENT_SERVER_CALL) as address:
        reach(address)
        reach(f"ray://{address}")
    with (
        serving("/some.other/Service") as address,
        pytest.raises(UserError, match="what listens there is no Ray cluster"),
    ):
        reach(address)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with listening(b"") as address:
        reach(address)


def test_the_address_of_the_last_cluster_is_tried_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(
        "ray._private.services.find_gcs_addresses", set
    )  # other clusters of this machine, which Ray would take
    folder = tmp_path / "ray"
    folder.mkdir()
    (folder / "ray_current_cluster").write_text(address := gone())
    with pytest.raises(UserError, match=rf"--address auto \(.*:{address.rpartition(':')[2]}\): no Ray cluster answers"):
        reach("auto")


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://head"])
def test_the_job_api_is_no_address_of_a_cluster(address: str) -> None:
    with pytest.raises(UserError, match="is for paft submit"):
        reach(address)


@pytest.mark.parametrize(
    ("variable", "scheme"), [("RAY_ADDRESS", ""), ("RAY_API_SERVER_ADDRESS", "http://"), ("RAY_ADDRESS", "ray://")]
)
def test_submit_tells_in_seconds_that_nothing_answers(
    variable: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, address := scheme + gone())
    with pytest.raises(
        UserError, match=rf"--address {address}: no (Ray cluster|job API) answers \(\[Errno 111\] Connection refused\)"
    ):
        submit("jobs/configs/demo.yaml", "run", ["storage=/tmp/none"], force=False, follow=False, address=None)


def test_a_job_api_that_listens_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for status in ("200 OK", "401 Unauthorized", "404 Not Found"):
        with listening(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as address:
            reach_job_api(f"http://{address}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    reach_job_api("http://only.the.proxy.knows:8265")


@pytest.mark.parametrize("answer", [b"", b"no HTTP at all\r\n\r\n"])
def test_a_port_that_is_open_and_no_job_api_is_told_in_seconds(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_S", 0.5)
    with listening(answer) as address, pytest.raises(UserError, match="no job API answers"):
        reach_job_api(f"http://{address}")
