"""The process that an engine is forked from (paft_ray/inference/engine_preload.py), without an engine: what its
children get, and when they end."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from paft_ray.inference.engine_preload import ENVIRONMENT

_ACTOR = """
import json, os, signal, sys, time
from paft_ray.inference import engine_preload

def engine(path):
    found = {
        "pid": os.getpid(),
        "later": os.environ["LATER"],
        "imported": "vllm.v1.engine.core" in sys.modules,
        "maps": open("/proc/self/maps").read(),
    }
    with open(path + ".part", "w") as out:
        json.dump(found, out)
    os.rename(path + ".part", path)
    time.sleep(600)

if __name__ == "__main__":
    with engine_preload.importing():
        import vllm.v1.engine.utils
    os.environ["LATER"] = "set by the actor"
    context = vllm.v1.engine.utils.get_mp_context()
    process = context.Process(target=engine, args=(sys.argv[1],), name="EngineCore", daemon=True)
    process.start()
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_has_the_imports_and_the_variables_and_ends_with_the_actor(tmp_path: Path) -> None:
    (tmp_path / "actor.py").write_text(_ACTOR)
    environment = {**os.environ, **ENVIRONMENT}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        [sys.executable, "actor.py", "out.json"],
        cwd=tmp_path,
        env=environment,
        check=False,
        timeout=180,
    )
    assert done.returncode == -signal.SIGKILL
    found = json.loads((tmp_path / "out.json").read_text())
    with suppress(psutil.NoSuchProcess):  # its server has ended, and with it the child
        psutil.Process(found["pid"]).wait(20)
    assert found["later"] == "set by the actor"
    assert found["imported"]
    assert "libgomp" in found["maps"]
