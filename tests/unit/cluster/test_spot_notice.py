"""The watcher of spot notices, against a metadata server on the loopback: what clouds document, and what goes wrong."""

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

WATCHER = Path("cluster/spot_notice.py")


class Metadata(BaseHTTPRequestHandler):
    """Answers as AWS (IMDSv2) and Google Cloud do; `answers` of the server may change while it runs."""

    def do_PUT(self) -> None:
        wanted = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200 if wanted else 400, "secret-of-the-session")

    def do_GET(self) -> None:
        if self.path.startswith("/latest/") and self.headers["X-aws-ec2-metadata-token"] != "secret-of-the-session":
            self._answer(401, "")
        elif self.path.startswith("/computeMetadata/") and self.headers["Metadata-Flavor"] != "Google":
            self._answer(403, "")
        else:
            self._answer(*self.server.answers.get(self.path, (404, "")))  # type: ignore[attr-defined]

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    found.answers = {"/computeMetadata/v1/instance/preempted": (200, "FALSE")}  # type: ignore[attr-defined]
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def host(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(scope="module")
def watcher() -> ModuleType:
    spec = spec_from_file_location("spot_notice", WATCHER)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ACTION = "/latest/meta-data/spot/instance-action"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_aws_says_nothing_until_the_machine_is_taken_away(watcher: ModuleType, server: ThreadingHTTPServer) -> None:
    assert watcher.aws_notice(host(server)) is None
    server.answers[ACTION] = (200, json.dumps({"action": "terminate", "time": "2026-01-01T12:02:00Z"}))  # type: ignore[attr-defined]
    assert watcher.aws_notice(host(server), lambda: NOW) == 120
    assert watcher.aws_notice(host(server), lambda: NOW + timedelta(hours=1)) == 0, "the time is over: at once"


def test_google_cloud_gives_half_a_minute(watcher: ModuleType, server: ThreadingHTTPServer) -> None:
    assert watcher.gcp_notice(host(server)) is None
    server.answers["/computeMetadata/v1/instance/preempted"] = (200, "TRUE")  # type: ignore[attr-defined]
    assert watcher.gcp_notice(host(server)) == 25


@pytest.mark.parametrize("body", ["", "[]", "{}", "null", '{"time": 3}', '{"time": "soon"}', "<html>"])
def test_what_is_no_notice_raises_what_the_watcher_survives(
    watcher: ModuleType, server: ThreadingHTTPServer, body: str
) -> None:
    server.answers.update({ACTION: (200, body), "/computeMetadata/v1/instance/preempted": (200, body)})  # type: ignore[attr-defined]
    for notice in (watcher.aws_notice, watcher.gcp_notice):
        with pytest.raises((OSError, ValueError, KeyError, TypeError)):
            notice(host(server))


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_ray_is_asked_again_until_it_takes_the_notice(tmp_path: Path, server: ThreadingHTTPServer, cloud: str) -> None:
    """The first `ray drain-node` fails; the watcher ends when the second succeeds."""
    soon = (datetime.now(UTC) + timedelta(seconds=100)).strftime("%Y-%m-%dT%H:%M:%SZ")
    server.answers.update(  # type: ignore[attr-defined]
        {ACTION: (200, json.dumps({"time": soon})), "/computeMetadata/v1/instance/preempted": (200, "TRUE")}
    )
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ $(wc -l < {tmp_path}/asked) -ge 2 ]\n')
    ray.chmod(stat.S_IRWXU)
    result = subprocess.run(
        [sys.executable, str(WATCHER), cloud, "--metadata", host(server)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HTTP_PROXY": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert all(each.startswith("drain-node --reason=DRAIN_NODE_REASON_PREEMPTION ") for each in (first, second))
    left = int(second.rpartition("=")[2])
    assert 80 <= left <= 100 if cloud == "aws" else left == 25
    assert result.stderr.count("Ray did not take the notice") == 1


def test_without_metadata_the_watcher_says_so_once_and_waits(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        subprocess.run(
            [sys.executable, str(WATCHER), "gcp", "--metadata", "http://127.0.0.1:1"],
            capture_output=True,
            timeout=5,
            check=False,
        )
    assert (caught.value.stderr or b"").count(b"no instance metadata") == 1
