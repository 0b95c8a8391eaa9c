"""Faults that tests inject into a training of the session's Ray, and the small model that makes them cheap."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def make_tiny_model(tokenizer_from: str, folder: Path, **sizes: int) -> str:
    """A random Llama of two small layers, under the tokenizer of another model; a step of it takes a tenth of a second.
    `sizes`: other than its own."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_from)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=2,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        **{"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, **sizes},
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def wait_for(happened: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Returns once `happened()`."""
    until = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)


def newest_checkpoint(training: Path) -> int:
    """Step of the newest checkpoint in the folder of one arm and seed; 0 where there is none."""
    return max(
        (int(path.parent.name.removeprefix("step-")) for path in training.glob("checkpoints/*/step-*/manifest.json")),
        default=0,
    )


def wait_for_checkpoint(training: Path, step: int) -> int:
    """The newest checkpoint's step, once it is at least `step`."""
    wait_for(lambda: newest_checkpoint(training) >= step, f"a checkpoint of step {step} in {training}", timeout_s=240)
    return newest_checkpoint(training)


def train_workers() -> list[int]:
    """Process ids of the Ray Train workers of this process's Ray."""
    import ray

    session = ray._private.worker._global_node.get_session_dir_path()
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if any("RayTrainWorker" in part for part in process.info["cmdline"] or ()) and any(
                session in part for part in process.parent().cmdline()
            ):
                found.append(process.pid)
        except (psutil.NoSuchProcess, AttributeError):  # it, or its parent, ended meanwhile
            continue
    return found


def kill_a_worker() -> int:
    """Process id of the worker that was sent SIGKILL."""
    pid = train_workers()[0]
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_for_no_workers() -> None:
    """Returns once Ray has ended the workers of a driver that is gone."""
    wait_for(lambda: not train_workers(), "the end of the workers of a driver that is gone", timeout_s=120)
