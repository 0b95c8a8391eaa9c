"""What the peers that train with transformers' Trainer measure."""

import json
import resource
import time
from pathlib import Path

import torch
from transformers import TrainerCallback


class Steps(TrainerCallback):
    """Seconds of each optimizer step, the first one included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args, **kwargs) -> None:
        self.begin = time.perf_counter()

    def on_step_end(self, *args, **kwargs) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.begin)

    def write(self, out: Path) -> None:
        """The seconds and the peak memory in GiB."""
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
        out.write_text(json.dumps({"seconds": self.seconds, "peak_memory_gib": peak / 2**30}))
