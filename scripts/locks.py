"""Remakes locks/: `make locks` keeps the versions that still fit, `python scripts/locks.py --upgrade` takes the newest.

Torch of the CPU build comes from PyTorch's index (pyproject.toml). Where that index does not answer, torch keeps the
hashes that locks/cpu.txt has, and its requirements are read from the torch installed here.
"""

from __future__ import annotations

import functools
import http.server
import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCKS = {
    "gpu": ["pyproject.toml", "--extra", "gpu", "--extra", "demo"],
    "cpu": ["pyproject.toml", "--extra", "cpu", "--extra", "demo"],
    "build": ["--group", "build", "--constraints", "locks/gpu.txt", "--constraints", "locks/cpu.txt"],
    "dev": ["--group", "dev", "--group", "fuzz", "--constraints", "locks/gpu.txt", "--constraints", "locks/cpu.txt"],
}
"""What each lock holds. The last two agree with both builds: they are installed on top of either."""
_PYTORCH = "download.pytorch.org"


def compile_lock(name: str, arguments: list[str]) -> None:
    """Writes locks/NAME.txt for Python 3.11 and 3.12 on Linux: versions and hashes, no address."""
    command = ["uv", "pip", "compile", *_LOCKS[name], *arguments, "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--quiet"]
    command += ["--custom-compile-command", "make locks", "--output-file", f"locks/{name}.txt"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("UV_FIND_LINKS", "UV_INDEX"))}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def answers(host: str) -> bool:
    """Whether a host can be reached by https."""
    try:
        socket.create_connection((host, 443), timeout=10).close()
    except OSError:
        return False
    return True


def torch_page(lock: str) -> tuple[str, str]:
    """Version of torch in a lock, and an index page of its wheels with the hashes of the lock."""
    entry = re.search(r"^torch==(\S+).*\\\n((?:    --hash=\S+.*\n)+)", lock, re.MULTILINE)
    if entry is None:
        raise SystemExit(f"locks: {_PYTORCH} does not answer, and locks/cpu.txt has no torch to keep")
    version, hashes = entry[1], re.findall(r"sha256:(\w{64})", entry[2])
    tags = [
        f"cp3{minor}-cp3{minor}-manylinux_2_28_{machine}" for minor in (11, 12) for machine in ("x86_64", "aarch64")
    ]
    links = [
        f'<a href="torch-{version}-{tag}.whl#sha256={digest}" data-dist-info-metadata="true"></a>'
        for tag, digest in zip(tags, hashes, strict=True)
    ]
    return version, "\n".join(links)


@contextmanager
def torch_served(lock: str) -> Iterator[str]:
    """Address on this machine of a stand-in for PyTorch's index of torch, with metadata alone."""
    version, page = torch_page(lock)
    metadata = importlib.metadata.distribution("torch")
    if metadata.version != version:
        raise SystemExit(f"locks: {_PYTORCH} does not answer, and torch {version} is not installed here")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "index.html").write_text(page, encoding="utf-8")
        for name in re.findall(r'href="([^#]+)', page):
            Path(folder, f"{name}.metadata").write_text(metadata.read_text("METADATA") or "", encoding="utf-8")
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/"
            server.shutdown()


def main(upgrade: list[str]) -> None:
    compile_lock("gpu", upgrade)
    if answers(_PYTORCH):
        compile_lock("cpu", upgrade)
    else:
        with torch_served(Path("locks/cpu.txt").read_text(encoding="utf-8")) as address:
            compile_lock("cpu", ["--no-sources", "--find-links", address, *upgrade])
    compile_lock("build", upgrade)
    compile_lock("dev", upgrade)


if __name__ == "__main__":
    main(sys.argv[1:])
