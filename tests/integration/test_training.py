"""The loop in real gloo process groups on a tiny random Llama: plain SFT, resume, ZeRO stages, sharding, export. No
Ray."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from paft_ray.config import LoraConfig, ModelConfig, TrainConfig, builtin
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.prompt_set import Entry, PromptSet, read_templates
from paft_ray.tasks.readers import examples_to_table, read_examples
from paft_ray.tasks.task import load_task
from paft_ray.training.data_order import permute
from paft_ray.training.export import merge_adapter
from tests.support.gloo import run_group
from tests.support.pickles import not_plain, pickles

NUM_EXAMPLES, BATCH, STEPS = 20, 8, 6
CONFIG: dict[str, Any] = {
    "global_batch": BATCH,
    "micro_batch": 4,
    "precision": "fp32",
    "learning_rate": 5e-3,
    "num_epochs": None,
    "num_steps": STEPS,
    "zero_stage": 2,
    "checkpoint_every": 3,
    "warmup_fraction": 0.2,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
}
FULL = {"lora": None, "learning_rate": 1e-3}
BEST = {
    "export": "worst",
    "checkpoint_every": 2,
    "keep_checkpoints": 1,
    "num_validation": 9,
    "num_validation_templates": 3,
    "learning_rate": 2e-2,
}
DROPOUT = {"lora": {"rank": 8, "alpha": 16, "dropout": 0.1}}
DIVERGING = {"learning_rate": 1e30, "warmup_fraction": 0}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the processes of one job left."""

    out: Path
    probes: list[dict[str, Any]]

    @property
    def losses(self) -> list[float]:
        return self.probes[0]["losses"]

    @property
    def norms(self) -> list[float]:
        """Of the gradient before clipping: AdamW hides a gradient that is too large or small by a factor, its norm does
        not."""
        return self.probes[0]["norms"]

    @property
    def left(self) -> list[bool]:
        """Whether the engine outlived the job, by rank."""
        return [json.loads((self.out / f"left-{rank}.json").read_text()) for rank in range(len(self.probes))]

    @property
    def measured(self) -> list[dict[str, Any]]:
        """Metrics of the steps whose accuracy was measured."""
        return [row for row in self.probes[0]["metrics"] if "validation_accuracy" in row]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.out / "final.safetensors")

    @property
    def pairs(self) -> list[list[Any]]:
        return sorted(pair for probe in self.probes for pair in probe["pairs"])


@pytest.fixture(scope="module")
def group(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Trained]]:
    base = tmp_path_factory.mktemp("group")
    task = load_task("demo")
    examples = list(read_examples(task, task.sources["train"]))[:NUM_EXAMPLES]
    pq.write_table(examples_to_table(examples, task.fields), base / "table.parquet")
    seeds = PromptSet.of(
        Entry(template=t) for t in read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
    )
    pq.write_table(seeds.to_table(), base / "prompts.parquet")
    common = {
        "config": CONFIG,
        "model_path": tiny_model,
        "table": str(base / "table.parquet"),
        "prompts": str(base / "prompts.parquet"),
    }

    def run(world_size: int, jobs: dict[str, dict[str, Any]]) -> dict[str, Trained]:
        folder = base / "-".join([str(world_size), *jobs])[:80]
        folder.mkdir()
        values = [{"num_steps": STEPS, "out": str(folder / name), **job} for name, job in jobs.items()]
        (folder / "spec.json").write_text(json.dumps({"common": common, "jobs": values}))
        run_group(Path(__file__).with_name("training_worker.py"), str(folder / "spec.json"), world_size=world_size)
        outs = {
            name: Path(job["out"])
            for name, job in zip(jobs, values, strict=True)
            if not job.keys() & {"stop_at", "refused"}
        }
        return {
            name: Trained(
                out=out, probes=[json.loads((out / f"probe-{r}.json").read_text()) for r in range(world_size)]
            )
            for name, out in outs.items()
        }

    return run


@pytest.fixture(scope="module")
def alone(group: Callable[..., dict[str, Trained]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Jobs of one process."""
    broken, chosen = (str(tmp_path_factory.mktemp(name) / "out") for name in ("broken", "chosen"))
    return group(
        1,
        {
            "plain": {"num_templates": 1, "config": {"zero_stage": 1}},
            "whole": {"config": {"micro_batch": 8}},
            "micro2": {"config": {"micro_batch": 2, "zero_stage": 1}},
            "checkpointing": {"config": {"micro_batch": 8, "gradient_checkpointing": True}},
            "compiled": {"config": {"micro_batch": 8, "compile": True}},
            "half": {"config": {"precision": "bf16"}},
            "half checkpointing": {"config": {"precision": "bf16", "gradient_checkpointing": True}},
            "dropout": {"config": DROPOUT},
            "crash": {"config": DROPOUT, "stop_at": 5, "out": broken},
            "resumed": {"config": DROPOUT, "out": broken},
            "epochs": {"num_steps": 8, "num_positions": 3 * NUM_EXAMPLES, "config": {"zero_stage": 0}},
            "best": {"config": BEST},
            "best crash": {"config": BEST, "stop_at": 5, "out": chosen},
            "best resumed": {"config": BEST, "out": chosen},
            "full": {"num_steps": 4, "config": FULL},
            "diverged": {"refused": True, "config": DIVERGING},
        },
    )


@pytest.fixture(scope="module")
def pair(
    group: Callable[..., dict[str, Trained]], alone: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trained]:
    """Jobs of two processes; `moved` goes on from a checkpoint that one process wrote."""
    base = tmp_path_factory.mktemp("pair")
    broken = str(base / "broken")
    for name, of, last in (("moved", "whole", STEPS), ("full2", "full", 4), ("full3", "full", 4)):
        shutil.copytree(alone[of].out, base / name)
        shutil.rmtree(base / name / "checkpoints" / "f" / f"step-{last:06d}")
    return group(
        2,
        {
            **{f"zero{stage}": {"config": {"zero_stage": stage}} for stage in (3, 2, 1, 0)},  # 3 in a fresh process
            "zero3micro2": {"config": {"zero_stage": 3, "micro_batch": 2, "gradient_checkpointing": True}},
            **{f"half{stage}": {"config": {"precision": "bf16", "zero_stage": stage}} for stage in (0, 2, 3)},
            "crash": {"stop_at": 4, "out": broken, "config": {**DROPOUT, "zero_stage": 3}},
            "resumed": {"out": broken, "config": {**DROPOUT, "zero_stage": 3}},
            "dropout": {"config": {**DROPOUT, "zero_stage": 3}},
            "moved": {"out": str(base / "moved")},
            **{
                f"full{stage}": {
                    "out": str(base / f"full{stage}"),
                    "num_steps": 4,
                    "config": {**FULL, "zero_stage": stage},
                }
                for stage in (2, 3)
            },
            "best": {"config": {**BEST, "zero_stage": 3}},
        },
    )


def test_a_prompt_set_of_size_one_is_plain_supervised_fine_tuning_step_for_step(
    alone: dict[str, Trained], tiny_model: str
) -> None:
    losses, norms, weights = _plain_fine_tuning(tiny_model)
    assert alone["plain"].norms == pytest.approx(norms, rel=1e-4)
    assert alone["plain"].losses == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < losses[0]
    for name, weight in alone["plain"].weights.items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-3, atol=2e-5)


def _plain_fine_tuning(path: str) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """An independent loop in PyTorch and PEFT: right-padded, whole logits, one pass per step, AdamW and a schedule
    written out."""
    from peft import LoraConfig as PeftLora
    from peft import get_peft_model

    task, tokenizer = load_task("demo"), AutoTokenizer.from_pretrained(path)
    examples = list(read_examples(task, task.sources["train"]))[:NUM_EXAMPLES]
    seeds = PromptSet.of(
        Entry(template=t) for t in read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
    )
    template = seeds.take(1, seed=0).templates[0]
    encoder = Encoder(task, tokenizer)
    encoded = [encoder.encode(template, example) for example in examples]
    order = [permute(torch.arange(NUM_EXAMPLES).numpy(), NUM_EXAMPLES, 1, epoch) for epoch in range(3)]
    stream = [encoded[i] for epoch in order for i in epoch]
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    torch.manual_seed(1)
    lora = LoraConfig()
    model = get_peft_model(
        model, PeftLora(r=lora.rank, lora_alpha=lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=1.0, weight_decay=CONFIG["weight_decay"])
    losses, norms = [], []
    for step in range(STEPS):
        batch = stream[step * BATCH : (step + 1) * BATCH]
        width = max(len(e.prompt_ids) + len(e.answer_ids) for e in batch)
        ids, labels = torch.zeros(BATCH, width, dtype=torch.long), torch.full((BATCH, width), -100)
        for i, e in enumerate(batch):
            n, m = len(e.prompt_ids), len(e.prompt_ids) + len(e.answer_ids)
            ids[i, :m] = torch.tensor(e.prompt_ids + e.answer_ids)
            labels[i, n:m] = ids[i, n:m]
        loss = model(
            input_ids=ids,
            attention_mask=(torch.arange(width) < (labels != -100).long().cumsum(1).argmax(1)[:, None] + 1).long(),
            labels=labels,
        ).loss
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained.values(), CONFIG["max_grad_norm"]).item())
        for groups in optimizer.param_groups:  # warm-up of 2 of 6 steps, then cosine
            groups["lr"] = CONFIG["learning_rate"] * [1 / 3, 2 / 3, 1.0, 0.853553, 0.5, 0.146447][step]
        optimizer.step()
        losses.append(loss.item())
    return losses, norms, {name: p.detach() for name, p in trained.items()}


@pytest.mark.parametrize("other", ["zero0", "zero1", "zero2", "zero3", "zero3micro2"])
def test_zero_stages_micro_batches_and_workers_agree(
    alone: dict[str, Trained], pair: dict[str, Trained], other: str
) -> None:
    _same_training(alone["whole"], pair[other])


@pytest.mark.parametrize("stage", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_workers_that_do_not_divide_the_batch_fill_up_with_rows_that_count_nothing(
    alone: dict[str, Trained], group: Callable[..., dict[str, Trained]], stage: int
) -> None:
    """Three workers have 2, 3 and 3 rows of a batch of 8, in passes of 4."""
    found = group(3, {f"uneven{stage}": {"config": {"zero_stage": stage}}})[f"uneven{stage}"]
    _same_training(alone["whole"], found)
    assert [len(probe["pairs"]) for probe in found.probes] == [2 * STEPS, 3 * STEPS, 3 * STEPS]


@pytest.mark.parametrize("other", ["micro2", "checkpointing", "compiled"])
def test_accumulation_recomputation_and_compilation_change_nothing(alone: dict[str, Trained], other: str) -> None:
    _same_training(alone["whole"], alone[other])


@pytest.mark.parametrize("other", ["half", "half checkpointing"])
def test_bf16_learns_as_fp32_does(alone: dict[str, Trained], other: str) -> None:
    assert alone[other].losses == pytest.approx(alone["whole"].losses, rel=1e-2)
    assert alone[other].losses != alone["whole"].losses


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_zero_stages_agree_in_bf16(alone: dict[str, Trained], pair: dict[str, Trained], stage: int) -> None:
    assert pair[f"half{stage}"].losses == pytest.approx(alone["half"].losses, rel=1e-2)


def _same_training(one: Trained, other: Trained) -> None:
    assert other.losses == pytest.approx(one.losses, rel=2e-5)
    assert other.pairs == one.pairs
    if other.norms[0] is not None:
        assert other.norms == pytest.approx(one.norms, rel=1e-3)
    for name, weight in other.weights.items():
        torch.testing.assert_close(weight, one.weights[name], rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_each_worker_holds_half_of_the_optimizer_state(pair: dict[str, Trained], stage: int) -> None:
    for probe in pair[f"zero{stage}"].probes:
        assert probe["held"] == pytest.approx(probe["trained"] / 2, rel=0.02)


@pytest.mark.parametrize("job", ["zero0", "zero1", "zero2", "half2", "full2"])
def test_an_engine_that_was_destroyed_leaves_its_process(pair: dict[str, Trained], job: str) -> None:
    assert pair[job].left == [False, False]


def test_a_zero_3_engine_stays_in_its_process_which_is_why_each_gets_its_own(pair: dict[str, Trained]) -> None:
    assert pair["zero3"].left == [True, True], "DeepSpeed lets go of it: trainer.fit may share the group for ZeRO-3 too"


def test_without_zero_each_worker_holds_all_of_the_optimizer_state(pair: dict[str, Trained]) -> None:
    assert [probe["held"] for probe in pair["zero0"].probes] == [probe["trained"] for probe in pair["zero0"].probes]


@pytest.mark.parametrize("world", ["alone", "pair"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(world: str, request: pytest.FixtureRequest) -> None:
    trained = request.getfixturevalue(world)
    whole, resumed = trained["dropout"], trained["resumed"]
    assert min(position for position, *_ in resumed.pairs) == 3 * BATCH, (
        "it did not resume from the checkpoint at step 3"
    )
    assert resumed.losses == whole.losses
    assert all(torch.equal(weight, whole.weights[name]) for name, weight in resumed.weights.items())


def test_a_run_moved_to_another_world_size_goes_on_alike(alone: dict[str, Trained], pair: dict[str, Trained]) -> None:
    assert pair["moved"].pairs == alone["whole"].pairs[3 * BATCH :], "the (example, template) pairs changed"
    assert pair["moved"].losses == pytest.approx(alone["whole"].losses, rel=2e-5)


@pytest.mark.parametrize("stage", [2, 3])
def test_full_fine_tuning_moved_to_another_world_size_goes_on_alike(
    alone: dict[str, Trained], pair: dict[str, Trained], stage: int
) -> None:
    moved = pair[f"full{stage}"]
    assert moved.pairs == alone["full"].pairs[3 * BATCH :]
    assert moved.losses == pytest.approx(alone["full"].losses, rel=2e-5)
    for name, weight in moved.weights.items():
        torch.testing.assert_close(weight, alone["full"].weights[name], rtol=1e-3, atol=5e-5)


def test_every_example_is_used_once_per_epoch_and_only_the_last_batch_is_padded(alone: dict[str, Trained]) -> None:
    pairs = alone["epochs"].pairs
    for epoch in range(3):
        used = [example for position, example, _, weight in pairs if weight and position // NUM_EXAMPLES == epoch]
        assert len(used) == len(set(used)) == NUM_EXAMPLES
    assert [position for position, _, _, weight in pairs if not weight] == list(range(3 * NUM_EXAMPLES, 8 * BATCH))


def test_an_adapter_trained_with_zero_3_loads_in_peft_and_holds_the_trained_weights(
    pair: dict[str, Trained], tiny_model: str, tmp_path: Path
) -> None:
    from peft import PeftModel

    trained = pair["zero3"]
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(trained.out / "export"))
    loaded = {name: p for name, p in model.named_parameters() if "lora_" in name}
    assert loaded.keys() == trained.weights.keys()
    assert all(torch.equal(p, trained.weights[name]) for name, p in loaded.items())
    assert all(p.norm() > 0 for p in loaded.values())
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        expected = model(ids).logits
        merge_adapter(tiny_model, str(trained.out / "export"), str(tmp_path))
        merged = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(ids).logits
        plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)(ids).logits
    assert (merged - expected).abs().max() < 0.1 * (plain - expected).abs().max()


def test_full_fine_tuning_exports_a_model_folder_with_tokenizer(alone: dict[str, Trained], tiny_model: str) -> None:
    folder = alone["full"].out / "export"
    model, base = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (folder, tiny_model))
    assert AutoTokenizer.from_pretrained(folder).eos_token_id is not None
    for name, weight in alone["full"].weights.items():
        torch.testing.assert_close(dict(model.named_parameters())[name], weight)
        assert not torch.equal(weight, dict(base.named_parameters())[name])


def test_the_checkpoint_with_the_best_worst_template_is_exported_and_kept(alone: dict[str, Trained]) -> None:
    best = alone["best"]
    rows = best.measured
    assert [row["step"] for row in rows] == [2, 4, 6]
    step = max(rows, key=lambda row: (row["validation_accuracy_worst"], row["validation_accuracy"], row["step"]))[
        "step"
    ]
    assert best.probes[0]["exported_step"] == step
    assert len({row["validation_accuracy_worst"] for row in rows}) > 1, "nothing to choose between"
    kept = sorted(p.name for p in (best.out / "checkpoints" / "f").glob("step-*"))
    assert kept == sorted({f"step-{step:06d}", f"step-{STEPS:06d}"})
    saved = load_file(best.out / "checkpoints" / "f" / f"step-{step:06d}" / "state.safetensors")
    exported = load_file(best.out / "export" / "adapter_model.safetensors")
    assert len(exported) == len(best.weights)
    assert all(torch.equal(weight, saved[f"weight/{name}"]) for name, weight in best.weights.items())
    assert all(any(torch.equal(tensor, weight) for weight in best.weights.values()) for tensor in exported.values())


def test_a_resumed_training_measures_and_exports_the_same(alone: dict[str, Trained]) -> None:
    whole, resumed = alone["best"], alone["best resumed"]
    assert min(position for position, *_ in resumed.pairs) == 4 * BATCH
    names = ("step", "validation_accuracy", "validation_accuracy_worst", "validation_accuracy_q0.1", "loss")
    assert [[row[name] for name in names] for row in resumed.measured] == [
        [row[name] for name in names] for row in whole.measured
    ]
    assert resumed.probes[0]["exported_step"] == whole.probes[0]["exported_step"]
    assert all(torch.equal(weight, whole.weights[name]) for name, weight in resumed.weights.items())


def test_a_training_that_diverges_ends_and_exports_nothing(alone: dict[str, Trained]) -> None:
    out = alone["plain"].out.parent / "diverged"
    assert (out / "refused-0.txt").read_text() == (
        "job training diverged: the loss of steps 2 to 4 is no number; lower train.learning_rate, or raise "
        "train.warmup_fraction"
    )
    assert not (out / "export").exists()


def test_two_workers_measure_the_accuracy_that_one_does(alone: dict[str, Trained], pair: dict[str, Trained]) -> None:
    one, two = ([row["validation_accuracy"] for row in trained["best"].measured] for trained in (alone, pair))
    assert two == pytest.approx(one, abs=1 / 27 + 1e-9), "more than one answer of 27 flipped"


def test_the_accuracy_is_that_of_whole_labels_scored_one_by_one(alone: dict[str, Trained], tiny_model: str) -> None:
    from peft import PeftModel

    best = alone["best"]
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32), str(best.out / "export")
    )
    task = load_task("demo")
    encoder = Encoder(task, AutoTokenizer.from_pretrained(tiny_model))
    seeds = PromptSet.of(
        Entry(template=t) for t in read_templates(builtin("tasks", "data", "demo", "seed_templates.jsonl"))
    )
    examples = list(read_examples(task, task.sources["train"]))[: BEST["num_validation"]]
    found = []
    for template in seeds.take(4, seed=0).take(3, seed=0).templates:
        right = []
        for example in examples:
            encoded, scores = encoder.encode(template, example), {}
            for label, answer in encoder.label_ids(encoded.after_newline).items():
                with torch.no_grad():
                    logits = model(torch.tensor([[*encoded.prompt_ids, *answer]])).logits[0].log_softmax(-1)
                start = len(encoded.prompt_ids) - 1
                scores[label] = sum(logits[start + i, token].item() for i, token in enumerate(answer))
            right.append(max(scores, key=scores.__getitem__) == example.answer)
        found.append(sum(right) / len(right))
    row = next(row for row in best.measured if row["step"] == best.probes[0]["exported_step"])
    assert (row["validation_accuracy"], row["validation_accuracy_worst"]) == pytest.approx((sum(found) / 3, min(found)))


@pytest.mark.parametrize("job", ["whole", "full"])
def test_checkpoints_and_exports_are_safetensors_and_json_only(alone: dict[str, Trained], job: str) -> None:
    out = alone[job].out
    assert pickles(out) == []
    assert len(list((out / "checkpoints" / "f").glob("step-*/state.safetensors"))) == 2
    templates = {"chat_template.jinja"}  # text of the tokenizer, beside whole weights
    assert not_plain(out / "checkpoints") == [] == sorted(set(not_plain(out / "export")) - templates)


def test_the_test_configuration_is_valid() -> None:
    TrainConfig(**CONFIG)
    assert ModelConfig().chat is False
