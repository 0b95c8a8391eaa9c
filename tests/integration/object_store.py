"""A real S3-compatible server for the tests: OpenStack Swift with its S3 interface, from PyPI, on the loopback.

It checks AWS signatures, lists by prefix and takes multipart uploads. It gets a virtual environment of its own (set up
once, some seconds), needs no root and no service. One replica on one device: four processes, ended with the block.

`python -m tests.integration.object_store FOLDER ADDRESS BUCKET` serves until it is ended, for hosts that reach that
address, and prints the endpoint.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LOOPBACK = "127.0.0.1"
PACKAGES = ("swift==2.38.3", "setuptools<81")
USER, KEY = "test:paft", "only-for-the-tests"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": USER,
    "AWS_SECRET_ACCESS_KEY": KEY,
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Variables that pyarrow's S3 filesystem reads."""
_PIPELINES = {
    "proxy": "catch_errors proxy-logging cache listing_formats bulk s3api tempauth slo dlo proxy-server",
    "account": "account-server",
    "container": "container-server",
    "object": "object-server",
}
_FILTERS = f"""
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_{USER.replace(":", "_")} = {KEY} .admin
[filter:slo]
use = egg:swift#slo
minimum_segment_size = 1
[filter:dlo]
use = egg:swift#dlo
"""


_RINGS = """
import sys
from swift.common.ring import RingBuilder
for name, port in (pair.split("=") for pair in sys.argv[3:]):
    builder = RingBuilder(4, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": sys.argv[2], "port": int(port), "device": "d1", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{name}.ring.gz")
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server."""

    endpoint: str
    """`http://ADDRESS:PORT`."""
    ports: dict[str, int]
    """Of its four processes; a server that gets them again is the same to its clients."""
    processes: tuple[subprocess.Popen[bytes], ...]


def install() -> Path | None:
    """The `bin` folder of an environment with Swift; None where the packages cannot be had."""
    cache = Path(os.environ.get("PAFT_CACHE", "~/.cache/paft_ray")).expanduser()
    home = cache / f"{PACKAGES[0].replace('==', '-')}-py{sys.version_info.major}.{sys.version_info.minor}"
    if (home / ".ready").is_file():
        return home / "bin"
    shutil.rmtree(home, ignore_errors=True)
    commands = (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin/python"), "-m", "pip", "install", "--quiet", *PACKAGES],
    )
    if any(subprocess.run(command, check=False).returncode for command in commands):
        return None
    (home / ".ready").touch()
    return home / "bin"


@contextmanager
def serve(
    binaries: Path, folder: Path, ports: dict[str, int] | None = None, *, address: str = _LOOPBACK
) -> Iterator[Server]:
    """A server with its data below `folder` (what an earlier one left there too), ended with the block."""
    ports = ports or {name: _free_port(address) for name in _PIPELINES}
    (folder / "devices/d1").mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
    subprocess.run(
        [
            str(binaries / "python"),
            "-c",
            _RINGS,
            str(folder),
            address,
            *(f"{name}={port}" for name, port in ports.items()),
        ],
        check=True,
    )
    processes = []
    try:
        for name in ("account", "container", "object", "proxy"):
            config = folder / f"{name}.conf"
            config.write_text(_config(name, address, ports[name], folder))
            log = (folder / f"{name}.log").open("w")
            processes.append(
                subprocess.Popen([str(binaries / f"swift-{name}-server"), str(config), "-v"], stdout=log, stderr=log)
            )
        endpoint = f"http://{address}:{ports['proxy']}"
        _wait(f"{endpoint}/", processes, folder)
        yield Server(endpoint=endpoint, ports=ports, processes=tuple(processes))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def _config(name: str, address: str, port: int, folder: Path) -> str:
    place = f"swift_dir = {folder}\ndevices = {folder}/devices\nmount_check = false\nuser = {getpass.getuser()}"
    return (
        f"[DEFAULT]\nbind_ip = {address}\nbind_port = {port}\nworkers = 0\n{place}\n"
        f"[pipeline:main]\npipeline = {_PIPELINES[name]}\n"
        f"[app:{name}-server]\nuse = egg:swift#{name}\n"
        + ("account_autocreate = true\n" + _FILTERS if name == "proxy" else "")
    )


def _free_port(address: str) -> int:
    with socket.socket() as listener:
        listener.bind((address, 0))
        return int(listener.getsockname()[1])


def _wait(url: str, processes: Sequence[subprocess.Popen[bytes]], folder: Path, timeout_s: float = 120) -> None:
    """Until it answers, with any status. Raises `RuntimeError` with the logs where a process ends or the time does."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and all(process.poll() is None for process in processes):
        try:
            urllib.request.urlopen(url, timeout=2)  # noqa: S310 (the loopback)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in folder.glob("*.log")))


def main(folder: str, address: str, bucket: str) -> None:
    """Serves at an address, with one empty bucket, until SIGTERM."""
    import pyarrow.fs as pafs

    binaries = install()
    assert binaries is not None, "swift cannot be installed"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with serve(binaries, Path(folder), address=address) as server:
        os.environ.update(ENVIRONMENT)
        pafs.S3FileSystem(endpoint_override=server.endpoint, allow_bucket_creation=True).create_dir(bucket)
        print(server.endpoint, flush=True)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
