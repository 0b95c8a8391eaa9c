"""`paft robustness` with real engines: arms of a run, the base model in two ways and an adapter that plain PEFT wrote,
in one comparison."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from paft_ray.storage.store import Store
from tests.chaos.tiny import save_tiny_model
from tests.support.peft_adapter import write_peft_adapter

if TYPE_CHECKING:
    from paft_ray.config import Config

PAFT = (sys.executable, "-m", "paft_ray")
CELL = [("template_id", "ascending"), ("example_id", "ascending")]


def paft(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PAFT, *arguments], cwd=folder, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def files(finished: tuple[Config, Store], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(A folder, held-out templates of the run, its test rows) for the command line."""
    from paft_ray.stages.prepare import examples_of
    from paft_ray.storage.artifacts import PROMPT_SET

    _, run = finished
    folder = tmp_path_factory.mktemp("robustness")
    held_out = PROMPT_SET.read(run).split("held_out")
    (folder / "held_out.jsonl").write_text(held_out.to_jsonl(), encoding="utf-8")
    rows = [{"id": row.id, **row.fields, "label": row.answer} for row in examples_of(run, "test")]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder, folder / "held_out.jsonl", folder / "rows.jsonl"


def test_models_side_by_side(finished: tuple[Config, Store], files: tuple[Path, Path, Path], demo_model: str) -> None:
    folder, templates, rows = files
    run = finished[1]
    adapter = write_peft_adapter(folder / "adapter", demo_model)
    models = (f"{run.root}:paft", "demo:chat", f"plain_peft={adapter}")
    options = ("--task", "demo", "--suite", str(templates), "--suite", "noise", "--data", str(rows), "--out", "out")
    checks = ("--set", "engine.precision=fp32", "--fail-below", "mean=1", "--junit", "ci.xml")
    done = paft(folder, "robustness", *models, *options, *checks)
    assert done.returncode == 3, (done.stdout + done.stderr)[-4000:]

    out = Store(str(folder / "out"))
    values, outcomes = out.read_json("results.json"), out.read_table("outcomes.parquet")
    assert set(values["arms"]) == {"tiny-paft", "demo-chat", "plain_peft"}
    assert values["engine_starts"] == 1, "one base model by two names, one engine"
    assert set(values["axes"]) == {"templates", "noise"}
    assert [(check["what"], check["passed"]) for check in values["checks"]] == [("mean >= 1", False)] * 3
    assert "plain_peft" in (folder / "ci.xml").read_text(encoding="utf-8")
    assert "plain_peft" in (folder / "out/report.html").read_text(encoding="utf-8")
    assert (folder / "out/adapters/plain_peft/adapter_model.safetensors").is_file()
    assert (folder / "out/cards/plain_peft.md").is_file()
    _same_answers(run, outcomes)

    again = paft(folder, "robustness", *models, *options, "--set", "engine.precision=fp32", "--fail-below", "mean=0")
    assert again.returncode == 0, (again.stdout + again.stderr)[-4000:]
    assert out.read_json("results.json")["engine_starts"] == 0, "answers are kept"
    assert out.read_table("outcomes.parquet").equals(outcomes)


def _same_answers(run: Store, outcomes: pa.Table) -> None:
    """The arm of the run answers as in its own evaluation, cell by cell."""
    theirs = run.read_table("evaluate/outcomes.parquet").filter(pc.field("arm") == "paft")
    ours = outcomes.filter(pc.field("arm") == "tiny-paft")
    ours = ours.filter(pc.is_in(ours["template_id"], pc.unique(theirs["template_id"])))
    theirs = theirs.filter(pc.is_in(theirs["template_id"], pc.unique(ours["template_id"])))
    assert ours.num_rows == theirs.num_rows == 6 * 3
    for column in ("behavior", "strict", "correct", "predicted"):
        one, other = (table.sort_by(CELL)[column].to_pylist() for table in (ours, theirs))
        assert one == other, column


def test_options_that_changed_places_are_answered_as_if_they_had_been_given_so(
    ray_session: None, tmp_path: Path
) -> None:
    from paft_ray.config import EngineConfig, ModelConfig
    from paft_ray.inference.answer_cache import AnswerCache
    from paft_ray.inference.evaluator import evaluate
    from paft_ray.inference.grid import Free
    from paft_ray.inference.model_weights import ModelWeights
    from paft_ray.models.local import find_model
    from paft_ray.prompts.template import PromptTemplate
    from paft_ray.prompts.variations import options
    from paft_ray.tasks.task import Example, load_task

    tiny = tmp_path / "tiny"
    save_tiny_model(tiny)
    task = load_task("piqa")
    template = PromptTemplate(text="Goal: {goal}\nA: {sol1}\nB: {sol2}\nAnswer:")
    (moved, *_) = options.variants(task, [template], 0)
    rows, by_hand = [], []
    for i in range(6):
        first, second, answer = f"do {i}", "wait", i % 2
        fields = {"goal": f"goal number {i}", "sol1": first, "sol2": second}
        rows.append(Example(id=str(i), fields=fields, answer="AB"[answer]))
        by_hand.append(Example(id=f"h{i}", fields={**fields, "sol1": second, "sol2": first}, answer="BA"[answer]))
    (result,), _ = evaluate(
        name="test",
        task=task,
        templates=[template, moved],
        examples=[*rows, *by_hand],
        model=ModelConfig(id=str(tiny)),
        base=find_model(str(tiny), None),
        models=[ModelWeights(key={"tiny": 1})],
        cache=AnswerCache.of(Store.at(str(tmp_path / "run")), "score"),
        engine=EngineConfig(precision="fp32", timeout_s=300),
        free=Free(max_tokens=4),
    )
    found = {(row["template_id"], row["example_id"]): row for row in result.outcomes.to_pylist()}
    for row in rows:
        varied, plain = found[moved.id, row.id], found[template.id, f"h{row.id}"]
        assert varied["answer"] == row.answer
        assert varied["correct"] == plain["correct"]
        assert varied["logprob"] == pytest.approx(plain["logprob"], abs=1e-5)
        assert varied["label_logprobs"] == pytest.approx(plain["label_logprobs"][::-1], abs=1e-5)
        assert varied["predicted"] == {"A": "B", "B": "A"}[plain["predicted"]]
        assert varied["behavior"] == plain["behavior"]
