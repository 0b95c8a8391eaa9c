"""LLaMA-Factory on given rows, in an environment of its own: `python llama_factory.py ROWS MODEL OUT SETTINGS`.

SETTINGS: JSON of its training arguments, over those below; with `neat_packing` the rows of a micro-batch lie in one
sequence, as its own packing leaves them. Rows go in tokenized, with the loss on answers only. OUT gets seconds per
optimizer step (the first one included), its tokens where it takes other rows than ours, and the peak memory in GiB,
under torchrun of all processes."""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict
from llamafactory.train.tuner import run_exp
from steps import Steps


def example(rows: list[dict]) -> dict:
    """One sequence of its data format; the mask counts the rows in it."""
    return {
        "input_ids": [token for r in rows for token in r["prompt_ids"] + r["answer_ids"]],
        "attention_mask": [number for number, r in enumerate(rows, 1) for _ in r["prompt_ids"] + r["answer_ids"]],
        "labels": [token for r in rows for token in [-100] * len(r["prompt_ids"]) + r["answer_ids"]],
    }


def with_fp32_weights(model_path: str, folder: Path) -> str:
    """A copy of the model whose frozen weights it loads as fp32: it takes the format that the model names, and bf16 is
    emulated on a CPU without it."""
    shutil.copytree(model_path, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    return str(folder)


def main(path: Path, model_path: str, out: Path, settings: str) -> None:
    train, given = json.loads(path.with_name("train.json").read_text()), json.loads(settings)
    rows = [row for line in path.read_text().splitlines() for row in json.loads(line)]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    together = train["micro_batch"] if given.get("neat_packing") else 1
    batch = given.get("per_device_train_batch_size", train["micro_batch"])
    data = Dataset.from_list([example(rows[i : i + together]) for i in range(0, len(rows), together)])
    folder = str(out.with_suffix(f".data{os.environ.get('RANK', '')}"))
    DatasetDict({"train": data}).save_to_disk(folder)
    if train["precision"] == "fp32":
        model_path = with_fp32_weights(model_path, out.with_suffix(f".model{os.environ.get('RANK', '')}"))
    measured = Steps()
    fixed = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": model_path,
        "template": "default",
        "tokenized_path": folder,
        "dataset": "rows",
        "finetuning_type": "lora",
        "lora_rank": train["lora"]["rank"],
        "lora_alpha": train["lora"]["alpha"],
        "lora_target": "all",
        "output_dir": str(out.with_suffix(".factory")),
        "overwrite_output_dir": True,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": train["global_batch"] // (batch * together * processes),
        "num_train_epochs": 1,
        "learning_rate": train["learning_rate"],
        "max_grad_norm": 1.0,
        "disable_gradient_checkpointing": True,
        "bf16": train["precision"] == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "disable_shuffling": True,
        "include_num_input_tokens_seen": "no" if together > 1 else "non_padding",
    }
    run_exp({**fixed, **given}, [measured])
    measured.write(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])
