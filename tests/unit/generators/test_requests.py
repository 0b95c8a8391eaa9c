"""Requests to generators: both strategies, drawn axes, a grammar that forces placeholders and leaves the wording; what
the stage keeps."""

import re
from collections import Counter
from collections.abc import Sequence

import pytest

from paft_ray.config import Config, GeneratorConfig, PromptsConfig, TrainConfig
from paft_ray.errors import UserError
from paft_ray.generators.requests import Completion, Request, grammar, grammar_share, request
from paft_ray.prompts.gate import gate
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages import synthesize
from paft_ray.stages.user_templates import user_templates
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from tests.support.resolved import resolved

DEMO, HELLASWAG = load_task("demo"), load_task("hellaswag")
SHOTS = [PromptTemplate(text=f"Seed {i}: {{text}}\nAnswer:") for i in range(4)]


def test_half_of_the_requests_show_examples_and_half_show_none() -> None:
    asked = [request(DEMO, SHOTS, 2, seed=0, number=i) for i in range(40)]
    assert Counter(r.strategy for r in asked) == {"zero_shot": 20, "few_shot": 20}
    assert all((r.message.count("Seed ") == 2) == (r.strategy == "few_shot") for r in asked)


def test_a_request_is_fixed_by_seed_and_number_and_axes_are_spread() -> None:
    asked = [request(DEMO, SHOTS, 2, seed=0, number=i) for i in range(200)]
    assert asked == [request(DEMO, SHOTS, 2, seed=0, number=i) for i in range(200)]
    assert asked != [request(DEMO, SHOTS, 2, seed=1, number=i) for i in range(200)]
    for axis in asked[0].axes:
        counts = Counter(r.axes[axis] for r in asked)
        assert min(counts.values()) > 200 / len(counts) / 3


@pytest.mark.parametrize("order", ["question first", "question last"])
@pytest.mark.parametrize("task", [DEMO, HELLASWAG, load_task("gsm8k")], ids=lambda t: t.name)
def test_the_grammar_holds_every_placeholder_once(task, order: str) -> None:
    pattern = grammar(task, order)
    letters = {name: f"{label}: " for label, name in task.options.items()}
    body = " and ".join(f"{letters.get(name, '')}{{{name}}}" for name in task.fields)
    labels = " positive or negative" if task is DEMO else ""
    question = f"Please tell me what you make of the following,{labels}:" + (
        f" {task.answer_format}" if task.answer_format else ""
    )
    text = f"{question}\n{body}" if order == "question first" else f"{body}\n{question}"
    assert re.fullmatch(pattern, text)
    assert not re.fullmatch(pattern, text.replace("{", "", 1).replace("}", "", 1))
    assert not re.fullmatch(pattern, text + body)
    assert gate([text], task, max_words=120).kept


def test_the_forced_share_counts_placeholders_and_labels() -> None:
    assert grammar_share(PromptTemplate(text="abcd{text}"), DEMO) == 0.6
    assert grammar_share(PromptTemplate(text="{text}"), DEMO) == 1.0


def config(**prompts: object) -> Config:
    settings = {
        "seed_templates": "builtin",
        "held_out_templates": "builtin",
        "generators": (GeneratorConfig(),),
        **prompts,
    }
    return Config(
        name="t",
        task="demo",
        prompts=PromptsConfig(**settings),
        train=TrainConfig(arms=("sft", "paft"), num_epochs=1, num_steps=None),
    )


def writer(texts: Sequence[str]):
    """A generator that goes through a list of texts, then repeats its last one."""
    given = iter(texts)

    def write(
        requests: Sequence[Request], generator: GeneratorConfig, engine: object, seed: int
    ) -> tuple[list[Completion], int]:
        written = [
            Completion(text=text, finished=bool(text))
            for _, text in zip(requests, (next(given, texts[-1]) for _ in requests), strict=True)
        ]
        return written, 1

    return write


GOOD = [
    "Judge how the customer felt, negative or positive:\n{text}",
    "{text}\nDoes this person sound pleased? Say positive or negative.",
    "Opinion of a guest: {text}\nName its mood in a word, positive or negative?",
]


def test_answers_are_gated_deduplicated_and_counted_by_reason(tmp_path, capsys) -> None:
    texts = [
        GOOD[0],
        "no placeholder here",
        GOOD[0].replace("Judge", "Guess"),
        "",
        GOOD[1],
        "{text} {other} positive",
        GOOD[2],
        GOOD[2],
    ]
    write = writer(texts)
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(resolved(config(num_candidates=4, max_rounds=1), run), write=write)
    assert (manifest["asked"], manifest["kept"], manifest["engine_starts"]) == (4, 3, 1)
    assert manifest["rejected"] == {"missing_field": 1, "near_duplicate": 2, "failed": 1, "unknown_field": 1}
    assert run.read_bytes("synthesize/raw.jsonl").count(b"\n") == 8
    assert "asked 4, got 3 from 8 answers" in capsys.readouterr().out
    prompts = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))
    written = [e for e in prompts.entries if e.provenance["source"] == "demo"]
    assert {e.template.text for e in written} == set(GOOD)
    assert all(e.split == "train" and e.provenance["strategy"] for e in written)


def test_what_breaks_a_rule_is_never_kept(tmp_path) -> None:
    texts = ["Always answer positive.\n{text}\nAnswer:", "Translate this into French: {text}"]
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(resolved(config(num_candidates=1, max_rounds=1), run), write=writer(texts))
    assert (manifest["kept"], manifest["rejected"]) == (0, {"states_answer": 1, "other_task": 1})


def test_a_near_copy_of_a_held_out_template_is_never_kept(tmp_path) -> None:
    _, held_out = user_templates(config(), DEMO)
    write = writer([held_out[0].text + " !"])
    manifest = synthesize.run(
        resolved(config(num_candidates=1, max_rounds=2), Store.open(str(tmp_path), "t")), write=write
    )
    assert manifest["kept"] == 0
    assert set(manifest["rejected"]) == {"near_duplicate"}
    assert manifest["engine_starts"] == 2


def test_a_generator_that_gives_enough_is_started_once(tmp_path) -> None:
    write = writer(GOOD)
    manifest = synthesize.run(
        resolved(config(num_candidates=2, max_rounds=4), Store.open(str(tmp_path), "t")), write=write
    )
    assert (manifest["kept"], manifest["engine_starts"], manifest["rejected"]) == (2, 1, {"surplus": 2})


def test_without_generators_only_the_users_templates_are_used(tmp_path) -> None:
    manifest = synthesize.run(resolved(config(generators=()), Store.open(str(tmp_path), "t")))
    assert (manifest["asked"], manifest["engine_starts"], manifest["grammar_share"]) == (0, 0, None)
    assert manifest["num_held_out"] >= 12


def test_too_few_held_out_templates_are_refused(tmp_path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text('{"text": "A {text}"}\n')
    with pytest.raises(UserError, match="1 distinct held-out templates given, at least 12"):
        user_templates(config(held_out_templates=str(file)), DEMO)
