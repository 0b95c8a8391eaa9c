"""What the baselines that train with transformers' Trainer measure."""

import itertools
import json
import os
import resource
import time
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import TrainerCallback


class Steps(TrainerCallback):
    """Seconds of each optimizer step, the first one included, and its tokens where the Trainer counts them
    (`include_num_input_tokens_seen`)."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.seen = [0]

    def on_step_begin(self, *args, **kwargs) -> None:
        self.begin = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.begin)
        self.seen.append(state.num_input_tokens_seen)

    def on_train_end(self, *args, **kwargs) -> None:
        """Adds up the memory of all processes, for a baseline may leave their group before it returns."""
        peak = (
            torch.cuda.max_memory_allocated()
            if torch.cuda.is_available()
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
        )
        self.memory = torch.tensor(
            peak / 2**30, dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu"
        )
        if dist.is_initialized():
            dist.all_reduce(self.memory)

    def write(self, out: Path) -> None:
        """By rank 0: seconds, tokens, and the peak memory of all processes together in GiB."""
        if os.environ.get("RANK", "0") == "0":
            tokens = [after - before for before, after in itertools.pairwise(self.seen)]
            out.write_text(
                json.dumps(
                    {
                        "seconds": self.seconds,
                        "tokens": tokens if any(tokens) else None,
                        "peak_memory_gib": self.memory.item(),
                    }
                )
            )
