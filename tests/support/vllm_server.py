"""vLLM's own server on this machine."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.ports import free_ports

_START_S = 600


class Server:
    """vLLM's server on this machine, asked through its OpenAI-compatible endpoint."""

    def __init__(self, line: str, url: str) -> None:
        self.url = url
        self.model = shlex.split(line)[shlex.split(line).index("--served-model-name") + 1]

    def ask(self, prompt_ids: Sequence[int], **sampling: Any) -> dict[str, Any]:
        """The first choice of a greedy completion."""
        body = {"model": self.model, "prompt": list(prompt_ids), "temperature": 0, **sampling}
        answer = httpx.post(f"{self.url}/v1/completions", json=body, timeout=120)
        answer.raise_for_status()
        return answer.json()["choices"][0]

    def label(self, prompt_ids: Sequence[int], labels: dict[str, list[int]]) -> tuple[str, dict[int, float]]:
        """The label that decoding token by token, each one among those that lead to a label, ends in; and the first
        tokens' log-probabilities."""
        said: list[int] = []
        first: dict[int, float] = {}
        remaining = dict(labels)
        while len(remaining) > 1:
            allowed = sorted({ids[len(said)] for ids in remaining.values()})
            choice = self.ask(
                [*prompt_ids, *said],
                max_tokens=1,
                allowed_token_ids=allowed,
                logprobs=len(allowed),
                logprob_token_ids=allowed,
                return_tokens_as_token_ids=True,
                return_token_ids=True,
            )
            first = first or {
                int(key.removeprefix("token_id:")): value
                for key, value in choice["logprobs"]["top_logprobs"][0].items()
            }
            said.append(choice["token_ids"][0])
            remaining = {label: ids for label, ids in remaining.items() if ids[: len(said)] == said}
        return next(iter(remaining)), first

    def choice(self, prompt_ids: Sequence[int], labels: dict[str, list[int]]) -> tuple[str, dict[str, float]]:
        """As `label`, with the log-probability of each label by its first token, normalized over the labels."""
        said, first = self.label(prompt_ids, labels)
        scores = {label: first[ids[0]] for label, ids in labels.items()}
        norm = math.log(sum(map(math.exp, scores.values())))
        return said, {label: score - norm for label, score in scores.items()}


@contextmanager
def serving(line: str, log: Path, **environment: str) -> Iterator[str]:
    """URL of the server that a shell line starts, on a free port, once it is healthy. It is ended by its process id."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as sink:
        command = ["/bin/sh", "-c", f"exec {line} --port {port}"]
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env={**os.environ, "PATH": path, "DO_NOT_TRACK": "1", **environment}
        )
    try:
        _wait(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310 (the loopback)
            return
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"no server: {log.read_text()[-5000:]}")
