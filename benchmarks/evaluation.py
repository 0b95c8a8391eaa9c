"""Evaluation of several models under many templates, against lm-evaluation-harness with vLLM on the same prompts.

`python -m benchmarks.evaluation`; asks for ../shared (SST-2 and TREC) and a CPU engine. 12 templates x 50 examples x 4
models (base and three adapters). Ours: `paft evaluate`, merging included. Baseline: one process per model with a task
for each template, on weights merged beforehand; and the way of the paper's code, a process per template, extrapolated
from PROCESSES of them. Then with the unconstrained answer, too: ours in the same request, the baseline with a second
task of each template, which generates. Both under the engine settings of paft_ray/inference/vllm_args.py. Whole
commands are timed; a second run of both on a sixth of the templates tells the cost of a start from that of a row."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import environment_of
from benchmarks.results import paired, record
from benchmarks.stages import CONFIG, paft
from paft_ray.config import EngineConfig, EvaluateConfig, load_config
from paft_ray.cpu_priority import usable_cpus
from paft_ray.inference.vllm_args import CPU_ENVIRONMENT, engine_settings
from paft_ray.models.resolve import resolve_model
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages.prepare import examples_of
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from paft_ray.training.export import merge_adapter

SHARED = Path("../shared/data")
EXAMPLES, FEW, PROCESSES = 50, 2, 3
LONGEST = 256
"""Tokens of a prompt with its answer."""
TEXTS = (
    "{rows}\n{ask}:", "{ask} of this {what}: {rows}\nAnswer:", "Read the {what} and give its "
                                                               "{ask}.\n\n{rows}\n\n{ask}:", "{what}: {rows} => {ask}:",
    "Task: tell the {ask}.\nInput: {rows}\nOutput:", "Given the {what} \"{rows}\", the {ask} "
                                                     "is", "Q: what is the {ask} of: {rows}\nA:",
    "You label {what}s with their "
    "{ask}.\n{rows}\nLabel:", "{rows}\n\nWhich {ask} fits? It is", "Please name the {ask} of this {what}: {rows}\n\nIt "
                                                                                                "is",
    "### {what}\n{rows}\n### {ask}", "Here is a {what}. {rows} Its {ask} is",
)  # fmt: skip
LABELS_ALONE = "evaluate.max_answer_tokens=1"
"""Of an unconstrained answer the first token, which is computed with the labels' probabilities anyway."""
LABELS = {"sst2": ("text", "negative", "positive"), "trec": ("question", "description", "entity", "human", "location")}
WORDS = {"sst2": {"what": "sentence", "ask": "sentiment"}, "trec": {"what": "question", "ask": "kind of answer"}}


@dataclass(frozen=True, kw_only=True)
class Work:
    """One task's run, trained, with what the baseline needs."""

    folder: Path
    settings: tuple[str, ...]
    models: dict[str, str]
    """Arm and seed -> folder of complete weights."""
    templates: tuple[str, ...]
    """Ids, in the order of the baseline's tasks `t00`, `t01`, ..."""

    @property
    def run(self) -> Store:
        return Store(f"{self.folder}/run")


def name(number: int, kind: str = "t") -> str:
    """The baseline's task of a template: `t` chooses a label, `g` generates."""
    return f"{kind}{number:02d}"


def prepare(folder: Path, task: str) -> Work:
    """Runs every stage up to `train` on small sizes, and writes the baseline's tasks and weights."""
    field, *labels = LABELS[task]
    given = map(json.loads, (SHARED / task / "train.jsonl").read_text().splitlines())
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given if row["label"] in labels))
    definition = {
        "name": task,
        "kind": "choice",
        "description": f"Give the {WORDS[task]['ask']}.",
        "fields": {field: f"the {WORDS[task]['what']}"},
        "answer": "label",
        "labels": {label: label for label in labels},
        "sources": {"train": {"path": str(folder / "train.jsonl")}},
    }
    (folder / "task.yaml").write_text(json.dumps(definition))
    texts = [
        text.replace("{rows}", "{" + field + "}")
        .replace("{ask}", WORDS[task]["ask"])
        .replace("{what}", WORDS[task]["what"])
        for text in TEXTS
    ]
    (folder / "held_out.jsonl").write_text("".join(json.dumps({"text": text.rstrip()}) + "\n" for text in texts))
    (folder / "seeds.jsonl").write_text(
        "".join(json.dumps({"text": f"{{{field}}} {mark}"}) + "\n" for mark in ("It was:", "Label:", "So it is"))
    )
    settings = (
        f"storage={folder}",
        "name=run",
        f"task={folder}/task.yaml",
        f"data.train={folder}/train.jsonl",
        "data.num_train=200",
        f"data.num_test={EXAMPLES}",
        f"prompts.seed_templates={folder}/seeds.jsonl",
        f"prompts.held_out_templates={folder}/held_out.jsonl",
        "prompts.generators=[]",
        "score.enabled=false",
        "train.arms=[paft]",
        "train.seeds=[0,1,2]",
        "train.num_steps=6",
        "evaluate.latency_sample_rows=0",
        "model.max_prompt_tokens=192",
    )
    for stage in ("prepare", "synthesize", "train"):
        paft(stage, settings)
    config = load_config(CONFIG, list(settings))
    run, base = Store(f"{folder}/run"), resolve_model(config.model.id, config.model.revision)
    models = {"base": base}
    for trained in run.read_json("train/manifest.json")["models"]:
        models[f"{trained['arm']}-s{trained['seed']}"] = target = f"{folder}/merged-{trained['seed']}"
        merge_adapter(base, run.path(trained["path"]), target, precision=config.engine.precision)
    held_out = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet")).split("held_out").templates
    (folder / "tasks").mkdir()
    for number, template in enumerate(held_out):
        write_task(folder / "tasks", number, template, examples_of(run, "test"), labels)
    assert len(held_out) == len(TEXTS), "a template was refused"
    return Work(folder=folder, settings=settings, models=models, templates=tuple(t.id for t in held_out))


def write_task(
    folder: Path, number: int, template: PromptTemplate, examples: Sequence[Example], labels: Sequence[str]
) -> None:
    """Writes both of the baseline's tasks of a template: the rows as this package shows them, under its settings."""
    rows = [
        {"prompt": template.render(e.fields).rstrip(" \t"), "label": labels.index(e.answer), "answer": e.answer}
        for e in examples
    ]
    file = folder / f"{name(number)}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    baseline = {
        "task": name(number),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": list(labels),
        "doc_to_target": "label",
        "target_delimiter": "" if template.text.rstrip(" \t").endswith("\n") else " ",
        "metric_list": [{"metric": "acc"}],
    }
    file.with_suffix(".yaml").write_text(json.dumps(baseline))
    generated = {key: value for key, value in baseline.items() if key != "doc_to_choice"} | {
        "task": name(number, "g"),
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [], "max_gen_toks": EvaluateConfig().max_answer_tokens, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    (folder / f"{name(number, 'g')}.yaml").write_text(json.dumps(generated))


def ours(work: Work, *settings: str) -> tuple[float, dict[tuple[str, str], float]]:
    """Seconds of `paft evaluate`, and the accuracy of each (model, template)."""
    work.run.delete("evaluate")
    begin = time.perf_counter()
    paft("evaluate", (*work.settings, *settings))
    seconds = time.perf_counter() - begin
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in work.run.read_table("evaluate/outcomes.parquet").to_pylist():
        arm = row["arm"] if row["seed"] < 0 else f"{row['arm']}-s{row['seed']}"
        right[arm, row["template_id"]].append(row["correct"])
    return seconds, {key: statistics.mean(found) for key, found in right.items()}


def baseline(
    work: Work, python: str, models: dict[str, str], templates: range, kinds: str = "t"
) -> tuple[float, dict[tuple[str, str], float]]:
    """The same of lm-evaluation-harness, one process per model, with these kinds of its tasks."""
    names, out = ",".join(name(number, kind) for kind in kinds for number in templates), work.folder / "out.json"
    settings = json.dumps(engine_settings(EngineConfig(), LONGEST))
    environment = {
        **os.environ,
        **CPU_ENVIRONMENT,
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(usable_cpus()),
        "HF_DATASETS_CACHE": str(work.folder / "cache"),
    }
    found: dict[tuple[str, str], float] = {}
    begin = time.perf_counter()
    for model, folder in models.items():
        command = [
            python,
            "benchmarks/baselines/lm_eval_vllm.py",
            folder,
            str(work.folder / "tasks"),
            names,
            settings,
            str(out),
        ]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        found |= {
            (model, work.templates[int(key[1:])]): accuracy
            for key, accuracy in json.loads(out.read_text()).items()
            if key.startswith("t")
        }
    return time.perf_counter() - begin, found


def main(tasks: list[str], pairs: int) -> None:
    if not SHARED.is_dir():
        print(
            f"benchmarks.evaluation: {SHARED} is absent (research data that is not part of the project); nothing "
            "was measured"
        )
        return
    python = environment_of("lm-eval")
    for task in tasks:
        with tempfile.TemporaryDirectory() as scratch:
            measure(prepare(Path(scratch), task), python, task, pairs)


def measure(work: Work, python: str, task: str, pairs: int) -> None:
    whole = range(len(work.templates))
    few, few_baseline = (
        ours(work, LABELS_ALONE, f"evaluate.budget={FEW / len(whole)}")[0],
        baseline(work, python, work.models, range(FEW))[0],
    )
    single = [baseline(work, python, {"base": work.models["base"]}, range(n, n + 1))[0] for n in range(PROCESSES)]
    seconds: list[float] = []
    peer_seconds: list[float] = []
    both: list[float] = []
    peer_both: list[float] = []
    for _ in range(pairs):
        both.append(ours(work)[0])
        peer_both.append(baseline(work, python, work.models, whole, "tg")[0])
        spent, accuracies = ours(work, LABELS_ALONE)
        baseline_spent, baseline_accuracies = baseline(work, python, work.models, whole)
        seconds.append(spent)
        peer_seconds.append(baseline_spent)
        differing = [abs(accuracies[key] - baseline_accuracies[key]) for key in accuracies]
        apart = f"{statistics.mean(differing):.3f} in the mean, {max(differing):.3f} at most"
        print(f"{task}: {spent:.0f} s, lm-eval {baseline_spent:.0f} s; accuracies differ by {apart}", flush=True)
    what = f"evaluation, {task}, {len(LABELS[task]) - 1} labels, {len(whole)} x {EXAMPLES} x {len(work.models)}"
    two = "lm-evaluation-harness with vLLM, a choice and a generation"
    every = statistics.median(single) * len(whole) * len(work.models)
    record(
        [
            paired(
                what, seconds, peer_seconds, peer_name="lm-evaluation-harness with vLLM", unit="s", more_is_better=False
            ),
            paired(f"{what}, with behavior", both, peer_both, peer_name=two, unit="s", more_is_better=False),
            paired(
                what,
                seconds,
                [every] * pairs,
                peer_name=f"a process per template, extrapolated from {PROCESSES}",
                unit="s",
                more_is_better=False,
            ),
        ]
    )
    rows = (len(whole) - FEW) * EXAMPLES * len(work.models)
    for who, all_of_it, part in (
        ("paft_ray", statistics.median(seconds), few),
        ("lm-eval", statistics.median(peer_seconds), few_baseline),
    ):
        row = (all_of_it - part) / rows
        start = (part - row * FEW * EXAMPLES * len(work.models)) / len(work.models)
        print(
            f"{task}, {who}: {start:.1f} s per engine start (the command's own start shared among them), "
            f"{1000 * row:.0f} ms per row",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation")
    parser.add_argument("--tasks", default="sst2,trec")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    main(given.tasks.split(","), given.pairs)
