"""What fraction of a checkpoint's time is hidden behind the training: uploads during it against waiting for each, on
slow stores.

`python -m benchmarks.checkpoints`. The real loop with ZeRO-2 and LoRA, one process, on a small Llama of random weights;
stores that take so many seconds for a checkpoint. Both ways train the same steps in one process and must end with the
same weights. A pause is the time between two optimizer steps with a checkpoint between them: collecting the state, and
waiting for the upload of this one or the one before. Hidden: the fraction of all time that checkpoints took, the wait
for the last one included, which nothing can hide."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as training workers have it
os.environ.update(
    DS_ACCELERATOR="cpu", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29632"
)

import torch
import torch.distributed as dist
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.data_path import TASK, TEMPLATES, table_of
from paft_ray.config import ModelConfig, TrainConfig
from paft_ray.models.encoder import make_encoder
from paft_ray.models.local import find_model
from paft_ray.models.resolve import resolve_model
from paft_ray.prompts.sampling import PerExample
from paft_ray.storage.store import Store
from paft_ray.training import background_upload, checkpoint, loop
from paft_ray.training.data_order import step_positions
from paft_ray.training.example_builder import ExampleBuilder, Row, rows_of
from paft_ray.training.job import TrainingJob, Worker
from paft_ray.training.step_metrics import read_metrics

STEPS, EVERY = 20, 5
UPLOADS_S = (0.5, 4.0)
CONFIG = TrainConfig(
    num_epochs=None, num_steps=STEPS, checkpoint_every=EVERY, global_batch=8, micro_batch=8, precision="fp32"
)


@dataclass(frozen=True, kw_only=True)
class SlowJob(TrainingJob):
    """A job whose checkpoints go far away."""

    upload_s: float

    @property
    def store(self) -> Store:
        slow = Store(f"{self.out}/checkpoints/{self.fingerprint}")
        write = slow.write_bytes

        def write_late(relative: str, data: bytes) -> None:
            time.sleep(self.upload_s / 2)  # a checkpoint is two files
            write(relative, data)

        slow.write_bytes = write_late  # type: ignore[method-assign]
        return slow


class Waiting(background_upload.BackgroundUpload):
    """The baseline: each upload is waited for."""

    def start(self, what: str, work: Any) -> None:
        super().start(what, work)
        self.wait()


@dataclass(frozen=True, kw_only=True)
class TimedTraining:
    """One training."""

    pauses_s: list[float]
    """Of the checkpoints before the last."""
    last_s: float
    """From the end of the last step to the end of the training."""
    step_s: float
    """Median optimizer step."""
    whole_s: float
    weights: dict[str, torch.Tensor]

    @property
    def lost_s(self) -> float:
        """Seconds that all checkpoints held the training up."""
        return sum(self.pauses_s) + self.last_s


def measure(
    kind: type[background_upload.BackgroundUpload], batches: list[list[Row]], path: str, upload_s: float
) -> TimedTraining:
    """Trains all batches; `kind` says how uploads are waited for."""
    with tempfile.TemporaryDirectory() as folder:
        job = SlowJob(
            config=CONFIG,
            model=find_model(path, None),
            seed=0,
            num_steps=STEPS,
            out=folder,
            fingerprint="f",
            label=kind.__name__,
            upload_s=upload_s,
        )
        begun: list[float] = []
        loop.BackgroundUpload = kind  # type: ignore[misc]
        loop.train(
            job,
            iter(batches),
            Worker(rank=0, world_size=1),
            loop.Hooks(observe=lambda step, rows: begun.append(time.perf_counter())),
        )
        end = time.perf_counter()
        took = [row["time_s"] for row in read_metrics(Store(folder))]
        gaps = [after - before - seconds for before, after, seconds in zip(begun, [*begun[1:], end], took, strict=True)]
        weights = checkpoint.read(job.store, STEPS).tensors
    return TimedTraining(
        pauses_s=gaps[EVERY - 1 : -1 : EVERY],
        last_s=gaps[-1],
        step_s=statistics.median(took),
        whole_s=end - begun[0],
        weights=weights,
    )


def small_model(folder: str) -> str:
    """A Llama of random weights with the demo model's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("demo", None))
    torch.manual_seed(0)
    shape = {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=0, world_size=1)
    print(
        "| upload, s | way | pause per checkpoint, s | after the last step, s | optimizer step, s | complete "
        "training, s | hidden |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = small_model(folder)
        encoder = make_encoder(TASK, ModelConfig(), path)
        maker = ExampleBuilder(
            table=table_of(400),
            templates=TEMPLATES,
            encoder=encoder,
            draw=PerExample(seed=0),
            seed=0,
            num_positions=10**9,
        )
        batches = [rows_of(maker.rows(step_positions(step, 0, 1, CONFIG.global_batch))) for step in range(STEPS)]
        for upload_s in UPLOADS_S:
            waiting, during = (
                measure(kind, batches, path, upload_s) for kind in (Waiting, background_upload.BackgroundUpload)
            )
            assert all(torch.equal(tensor, during.weights[name]) for name, tensor in waiting.weights.items()), (
                "the two trainings differ"
            )
            hidden = f"{1 - during.lost_s / waiting.lost_s:.0%}"
            for name, one, fraction in (("waited for", waiting, ""), ("during the training", during, hidden)):
                pause = statistics.mean(one.pauses_s)
                print(
                    f"| {upload_s:g} | {name} | {pause:.2f} | {one.last_s:.2f} | {one.step_s:.2f} | "
                    f"{one.whole_s:.1f} | {fraction} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
