"""The judge on the real engine: a model of 135 M weights is asked, and is not trusted."""

import json
import math
from pathlib import Path

import pytest

from paft_ray.config import EngineConfig
from paft_ray.generators.quality.ask_engine import ask_engine
from paft_ray.generators.quality.question import Question
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.models.local import find_model
from paft_ray.prompts.template import PromptTemplate
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task

TEXTS = Path(__file__).parents[1] / "unit" / "prompts" / "checks" / "quality_texts.jsonl"


@pytest.mark.slow
def test_a_model_in_the_cluster_answers_in_both_orders(ray_session: None, demo_model: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]
    templates = [PromptTemplate(text=row["text"]) for row in rows[:6]]
    question = Question.about(load_task("demo"))
    found, starts = ask_engine(
        question,
        templates,
        model=find_model("demo", None),
        engine=EngineConfig(precision="fp32", timeout_s=300),
        cache=AnswerCache.of(Store(str(tmp_path)), ""),
    )
    assert starts == 1
    assert set(found) == {template.id for template in templates}
    for answers in found.values():
        assert len(answers) == 2
        assert all(len(letters) == len(question.task.label_texts) for letters in answers)
        assert all(sum(map(math.exp, letters)) == pytest.approx(1, abs=1e-4) for letters in answers)
        assert answers[0] != answers[1]
