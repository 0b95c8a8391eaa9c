"""Environments of baselines: each in a folder of its own next to the project's, made once, so that the project's stays
clean."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import peft
import torch
import transformers

_SHARED = (
    f"torch=={torch.__version__.split('+')[0]}",
    f"transformers=={transformers.__version__}",
    f"peft=={peft.__version__}",
)


def packages(baseline: str) -> tuple[str, ...]:
    """What a baseline's environment holds; torch, transformers, PEFT and vLLM as the project has them, where the
    baseline allows it."""
    if baseline == "trl":
        return ("trl==1.16.0", *(["liger-kernel==0.8.5"] if torch.cuda.is_available() else []), *_SHARED)
    if baseline == "llamafactory":
        # It brings transformers 5.6 and PEFT 0.18, and no torchaudio is made for a later torch.
        return ("llamafactory==0.9.5", "torch==2.11.0", "torchaudio==2.11.0")
    vllm = importlib.metadata.packages_distributions()["vllm"][0]  # the CPU build has a name of its own
    return ("lm-eval==0.4.13", f"{vllm}=={importlib.metadata.version(vllm)}", *_SHARED)


def environment_of(baseline: str) -> str:
    """Its Python."""
    folder = Path(f".venv-{baseline}")
    python, uv = folder / "bin/python", str(Path(sys.executable).with_name("uv"))
    ready, wanted = folder / ".ready", packages(baseline)
    if not ready.exists() or ready.read_text().splitlines() != list(wanted):
        whole = (
            baseline == "llamafactory"
            # it imports torchvision and torchaudio, whose builds in the package index need the CUDA build of torch, on
            # a CPU too
        )
        find = (
            {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ and not whole else {}
        )  # as scripts/setup.sh
        index = [] if torch.cuda.is_available() else ["--find-links", "https://download.pytorch.org/whl/cpu/torch/"]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        install = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--python",
            str(python),
            *(["--no-config"] if whole else []),
            *wanted,
        ]
        environment = {**os.environ, **find}
        if subprocess.run(install, env=environment, check=False).returncode:
            subprocess.run([*install, *index], env=environment, check=True)
        ready.write_text("\n".join(wanted))
    return str(python)
