"""An adapter that nothing of ours made."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_peft_adapter(folder: Path, base: str, *, seed: int = 0, rank: int = 4) -> Path:
    """An adapter as a user's own script makes it: PEFT alone, nothing of ours."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    model.save_pretrained(str(folder))
    return folder
