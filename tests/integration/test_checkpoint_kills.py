"""A process that SIGKILL ends while it writes checkpoints, thirty times: what is left is one that a resume can take, or
nothing."""

import json
import subprocess
import sys
from pathlib import Path


def test_a_process_killed_while_it_writes_leaves_nothing_that_a_resume_would_take(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.checkpoint_kills", str(tmp_path), "30", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["wrong"] == []
    assert found["torn"] > 0, f"no kill came while a checkpoint was written: {found}"
    assert found["steps"] > 3, f"checkpoints were hardly ever written whole: {found}"
