"""`cluster/on-premises.yaml` on three hosts, from up to down, as cluster/README.md tells it."""

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from paft_ray.artifacts import Run
from paft_ray.models import resolve_model
from tests.small_run import ONE_ARM

FILE = "cluster/on-premises.yaml"
SETTINGS = ("name=job", "storage=/mnt/shared/runs", *ONE_ARM)


def checkout(folder: Path) -> None:
    """What `ray up` and a submitted job need of the repository."""
    for name in ("paft_ray", "jobs", "scripts", "cluster"):
        shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(name, folder)


def fill_in(path: Path, ips: tuple[str, ...], key: Path, environment: str) -> None:
    """The places marked with <-; and the installation, which takes the network and minutes, becomes a link to the environment of this test.

    The package itself is the one that was shipped: PYTHONPATH on the hosts names ~/paft_ray.
    """
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    config["provider"] |= {"head_ip": ips[0], "worker_ips": list(ips[1:])}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    config["min_workers"] = config["max_workers"] = len(ips) - 1
    (place,) = [index for index, command in enumerate(config["setup_commands"]) if "scripts/setup.sh" in command]
    config["setup_commands"][place] = f"ln -sfn {environment} ~/paft_ray/.venv"
    path.write_text(yaml.safe_dump(config))


def ray_processes(pid: int) -> str:
    """Ray's processes in the namespaces below a process: one line each, empty where there are none."""
    inside = ["nsenter", f"--target={pid}", "--mount", "--pid", "--", "pgrep", "-a", "-f", "raylet|gcs_server|ray::|dashboard/|monitor.py|log_monitor"]
    return subprocess.run(inside, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_up_submit_report_in_shared_storage_down_and_nothing_is_left(hosts: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    variables = {
        "PYTHONPATH": "$HOME/paft_ray",
        "PAFT_CACHE": str(Path(resolve_model("demo", None)).parent),
        "HF_HUB_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": "eth0",
    }
    with hosts(3, variables) as lab:
        place = lab.folder / "checkout"
        place.mkdir()
        checkout(place)
        fill_in(place / FILE, lab.ips, lab.folder / "key", sys.prefix)
        token = lab.folder / "client" / "home" / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)

        def ray(*arguments: str, **changed: str) -> tuple[int, str]:
            code, output = lab.run("ray", *arguments, folder=place, **{"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **changed})
            return code, output.replace("\r", "")

        code, output = ray("up", "-y", FILE)
        assert code == 0, output[-6000:]
        cpus = len(lab.ips) * (os.cpu_count() or 1)
        wait_until(lambda: re.search(rf"/{cpus}(\.0)? CPU", ray("exec", FILE, "ray status")[1]) is not None, 180, lambda: ray("exec", FILE, "ray status")[1])

        tunnel = lab.start("ray", "dashboard", FILE, folder=place, RAY_AUTH_MODE="token")
        server = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265"}
        wait_until(lambda: ray("job", "list", **server)[0] == 0, 120, lambda: ray("job", "list", **server)[1])
        code, output = ray("job", "list", **server, HOME=str(place))
        assert code != 0, "a client without the token is refused"

        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        submit = ["job", "submit", "--no-wait", "--submission-id=tiny", "--working-dir=.", "--", "python", "jobs/pipeline.py", "jobs/configs/demo.yaml"]
        code, output = ray(*submit, *settings, **server)
        assert code == 0, output[-6000:]
        _, log = ray("job", "logs", "--follow", "tiny", **server)
        assert "succeeded" in ray("job", "status", "tiny", **server)[1], log[-6000:]

        run = Run(f"{lab.folder}/shared/runs/job")
        assert set(run.read_json("report/results.json")["arms"]) == {"base", "paft"}
        assert run.exists("report/report.html")
        assert run.read_json("train/manifest.json")["models"][0]["num_steps"] == 2
        assert token.read_text() not in log

        tunnel.terminate()
        code, output = ray("down", "-y", FILE)
        assert code == 0, output[-6000:]
        wait_until(lambda: not ray_processes(lab.pid), 180, lambda: ray_processes(lab.pid))

    assert not lab.folder.exists()
    left = subprocess.run(["pgrep", "-a", "-f", str(lab.folder)], capture_output=True, text=True, check=False).stdout
    assert left == ""
