"""A driver that asks a small engine: run it, kill it, run it again. Prints what it was given."""

import json
import sys
import time

import ray
import ray.data

from paft_ray.config import EngineConfig
from paft_ray.console import console
from paft_ray.inference import answer_cache
from paft_ray.inference.engine_pool import shared_engines
from paft_ray.inference.generate import generate
from paft_ray.inference.model_weights import ModelWeights
from paft_ray.models.local import find_model
from paft_ray.storage.store import Store

SMALL = EngineConfig(
    precision="fp32",
    kv_cache_gib=0.5,
    batch_rows=4,
    max_failed_fraction=0.2,
    timeout_s=500,
    engine_kwargs={"max_num_seqs": 4},
)
NUM_ROWS = 24


def requests(num_rows: int = NUM_ROWS) -> list[dict[str, object]]:
    """Half greedy, half sampled by a seed of their own."""
    common = {"max_tokens": 12, "min_tokens": 12, "detokenize": False}
    sampled = {**common, "temperature": 0.9, "top_p": 0.95}
    return [
        {
            "key": str(n),
            "prompt_ids": [504 + n, 2644 + 3 * n, 282],
            "sampling": json.dumps({**sampled, "seed": n} if n % 2 else {**common, "temperature": 0.0}),
        }
        for n in range(num_rows)
    ]


def main(storage: str, *, idle: bool) -> None:
    """Asks all requests into the run `killed` under `storage`. `idle`: then keeps its engine for later stages, which
    never come."""
    answer_cache.SAVE_EVERY_S = 0
    model, weights = find_model("demo", None), ModelWeights(key={})
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    place = answer_cache.AnswerCache.of(Store.open(storage, "killed"), "score")
    with console(), shared_engines(model, 64):
        rows = ray.data.from_items([{"weights": weights.id, **row} for row in requests()])
        done = generate(rows, name="test", base=model, models=[weights], cache=place, engine=SMALL, max_model_len=64)
        given = {"kept": done.num_kept, "answers": done.answers.num_rows, "engine_starts": done.engine_starts}
        print(json.dumps(given), flush=True)
        while idle:
            time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], idle="idle" in sys.argv[2:])
