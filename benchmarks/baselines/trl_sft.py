"""TRL's SFTTrainer on given rows, in an environment of its own: `python trl_sft.py ROWS MODEL OUT SETTINGS`.

SETTINGS: JSON of `SFTConfig` fields, over those below, and `weights`, the number format of the frozen weights (default
float32). Rows go in tokenized, with the loss on answers only. OUT gets seconds and tokens per optimizer step (the first
one included) and the peak memory in GiB, of all processes."""

import json
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from steps import Steps
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main(rows: Path, model_path: str, out: Path, settings: str) -> None:
    train = json.loads(rows.with_name("train.json").read_text())
    steps = [json.loads(line) for line in rows.read_text().splitlines()]
    examples = [
        {
            "input_ids": r["prompt_ids"] + r["answer_ids"],
            "completion_mask": [0] * len(r["prompt_ids"]) + [1] * len(r["answer_ids"]),
        }
        for step in steps
        for r in step
    ]
    given = json.loads(settings)
    weights = getattr(torch, given.pop("weights", "float32"))
    batch = given.get("per_device_train_batch_size", train["micro_batch"])
    together = batch * int(os.environ.get("WORLD_SIZE", "1"))
    fixed = {
        "output_dir": str(out.with_suffix(".trl")),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": train["global_batch"] // together,
        "num_train_epochs": 1,
        "learning_rate": train["learning_rate"],
        "max_grad_norm": 1.0,
        "completion_only_loss": True,
        "gradient_checkpointing": False,
        "bf16": train["precision"] == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "max_length": None,
        "train_sampling_strategy": "sequential",
        "ddp_find_unused_parameters": False,
        "include_num_input_tokens_seen": "all" if given.keys() & {"packing", "padding_free"} else "non_padding",
    }
    config = SFTConfig(**{**fixed, **given})
    lora = LoraConfig(
        r=train["lora"]["rank"], lora_alpha=train["lora"]["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
    )
    measured = Steps()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_path, dtype=weights),
        args=config,
        train_dataset=Dataset.from_list(examples),
        peft_config=lora,
        processing_class=AutoTokenizer.from_pretrained(model_path),
        callbacks=[measured],
    )
    trainer.train()
    measured.write(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])
