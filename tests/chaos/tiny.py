"""The model and the settings of a run that is over in seconds: every start costs more than the work, so that a kill may
fall on any part of it.

`python -m tests.chaos.tiny FOLDER` saves the model: random weights by seed, the demo model's tokenizer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.killing import make_tiny_model

STEPS, BATCH = 60, 8
SETTINGS = (
    "name=chaos",
    "data.num_train=52",  # no multiple of the batch: steps straddle epochs
    "data.num_validation=16",
    "data.num_test=6",
    "prompts.generators=[]",
    "score.num_examples=8",
    "train.arms=[paft]",
    f"train.num_steps={STEPS}",
    f"train.global_batch={BATCH}",
    "train.micro_batch=4",
    "train.num_workers=2",
    "train.threads_per_worker=1",
    "train.precision=fp32",
    "train.checkpoint_every=4",
    "engine.precision=fp32",
    "engine.kv_cache_gib=0.25",
    "engine.timeout_s=240",
    "evaluate.latency_sample_rows=0",
)


def save_tiny_model(folder: Path) -> None:
    """Two layers of two heads; 32 dimensions a head is the least that vLLM's attention takes on a CPU."""
    from paft_ray.models.resolve import resolve_model

    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 1024,
    }
    make_tiny_model(resolve_model("demo", None), folder, **sizes)


if __name__ == "__main__":
    save_tiny_model(Path(sys.argv[1]))
