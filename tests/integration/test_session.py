"""The local Ray of a command."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def test_a_cluster_that_left_its_address_behind_is_not_joined(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="paft-") as folder:  # short, for Ray puts sockets there
        left = Path(folder) / "ray" / "ray_current_cluster"
        left.parent.mkdir()
        left.write_text("127.0.0.1:1")
        environment = {**os.environ, "RAY_TMPDIR": folder}
        environment.pop("RAY_ADDRESS", None)
        command = [sys.executable, "-m", "paft_ray", "prepare", "jobs/configs/demo.yaml", "--set", f"storage={tmp_path}"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout
