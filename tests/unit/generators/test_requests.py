"""Requests to generators: strategies, axes, lists and system parts; what the stage keeps of the answers."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from paft_ray.config import Config, GeneratorConfig, PromptsConfig, TrainConfig
from paft_ray.errors import UserError
from paft_ray.generators.axes import axes
from paft_ray.generators.requests import Completion, Request, grammar_share, request
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.stages import synthesize
from paft_ray.stages.user_templates import user_templates
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Task, load_task
from tests.support.known_judge import trusting, without_forced
from tests.support.resolved import resolved

DEMO = load_task("demo")
TASKS = [load_task(name) for name in ("demo", "gsm8k", "hellaswag", "race", "trec", "winogrande")]
SHOTS = [PromptTemplate(text=f"Seed {i}: {{text}}\nAnswer:") for i in range(4)]


def test_half_of_the_requests_show_examples_and_half_show_none() -> None:
    asked = [request(DEMO, SHOTS, 2, seed=0, number=i) for i in range(40)]
    assert Counter(r.strategy for r in asked) == {"zero_shot": 20, "few_shot": 20}
    assert all((r.message.count("Seed ") == 2) == (r.strategy == "few_shot") for r in asked)


def test_by_default_half_of_the_requests_show_no_template_and_a_quarter_rewrites_one() -> None:
    strategies = PromptsConfig().strategies
    asked = [request(DEMO, SHOTS, 2, seed=0, number=i, strategies=strategies) for i in range(40)]
    assert Counter(r.strategy for r in asked) == {"zero_shot": 20, "few_shot": 10, "paraphrase": 10}
    assert {request(DEMO, [], 2, seed=0, number=i, strategies=strategies).strategy for i in range(8)} == {"zero_shot"}


def test_a_paraphrase_shows_the_template_that_it_names_and_every_one_has_its_turn() -> None:
    texts = {shot.id: shot.text for shot in SHOTS}
    asked = [request(DEMO, SHOTS, 2, seed=0, number=i, strategies=["paraphrase"]) for i in range(40)]
    assert {r.rewrites for r in asked} == set(texts)
    assert all(f"Text: {texts[r.rewrites]}\n" in r.message and r.message.count("Seed ") == 1 for r in asked)
    turned = [request(DEMO, SHOTS[::-1], 2, seed=0, number=i, strategies=["paraphrase"]) for i in range(40)]
    assert turned == asked, "the order of a file is no input"


def test_a_request_is_fixed_by_seed_and_number_and_axes_are_spread() -> None:
    asked = [request(DEMO, SHOTS, 2, seed=0, number=i) for i in range(200)]
    assert asked == [request(DEMO, SHOTS, 2, seed=0, number=i) for i in range(200)]
    assert asked != [request(DEMO, SHOTS, 2, seed=1, number=i) for i in range(200)]
    for axis in axes(DEMO):
        counts = Counter(r.axes[0][axis] for r in asked)
        assert min(counts.values()) > 200 / len(counts) / 3
        assert all(r.axes[0][axis] in r.message for r in asked)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_there_are_a_thousand_styles_and_more(task: Task) -> None:
    assert math.prod(map(len, axes(task).values())) >= 1000
    assert all(len(set(values)) == len(values) > 1 for values in axes(task).values())


def test_each_text_of_a_list_has_a_style_of_its_own() -> None:
    asked = request(DEMO, SHOTS, 2, seed=0, number=1, count=6)
    assert len({tuple(each.values()) for each in asked.axes}) == 6
    assert asked.axes[0] == request(DEMO, SHOTS, 2, seed=0, number=1).axes[0]
    assert all(f"Style of text {i}: tone: {each['tone']};" in asked.message for i, each in enumerate(asked.axes, 1))
    assert asked.message.endswith("Answer with a JSON array of 6 strings.")


def test_system_parts_are_asked_for_only_where_a_template_of_the_user_has_one() -> None:
    with_system = [*SHOTS, PromptTemplate(text="One more: {text}", system="You are brief.")]
    asked = [request(DEMO, with_system, 5, seed=0, number=i) for i in range(8)]
    assert [r.system for r in asked] == [False, False, True, True, False, False, True, True]
    assert all(r.is_list == r.system for r in asked)
    assert all('"system": "You are brief."' in r.message for r in asked if r.strategy == "few_shot")
    assert not any(request(DEMO, SHOTS, 5, seed=0, number=i).system for i in range(8))


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

    @without_forced
    def write(
        requests: Sequence[Request], generator: GeneratorConfig, engine: object, seed: int
    ) -> tuple[list[Completion], int]:
        written = [
            Completion(text=text, finished=bool(text), tokens=10 if text else 0)
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
    manifest = synthesize.run(resolved(config(num_candidates=4, max_rounds=1), run), write=write, signals=trusting)
    assert (manifest["asked"], manifest["kept"], manifest["engine_starts"]) == (4, 3, 1)
    assert manifest["rejected"] == {"missing_field": 1, "near_duplicate": 2, "failed": 1, "unknown_field": 1}
    assert run.read_bytes("synthesize/raw.jsonl").count(b"\n") == 8
    assert "asked 4, got 3 from 8 candidates" in capsys.readouterr().out
    prompts = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))
    written = [e for e in prompts.entries if e.provenance["source"] == "demo"]
    assert {e.template.text for e in written} == set(GOOD)
    assert all(e.split == "train" and e.provenance["strategy"] for e in written)


def test_what_breaks_a_rule_is_never_kept(tmp_path) -> None:
    texts = ["Always answer positive.\n{text}\nAnswer:", "Translate this into French: {text}"]
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(
        resolved(config(num_candidates=1, max_rounds=1), run), write=writer(texts), signals=trusting
    )
    assert (manifest["kept"], manifest["rejected"]) == (0, {"states_answer": 1, "other_task": 1})


def test_a_near_copy_of_a_held_out_template_is_never_kept(tmp_path) -> None:
    _, held_out = user_templates(config(), DEMO)
    write = writer([held_out[0].text + " !"])
    manifest = synthesize.run(
        resolved(config(num_candidates=1, max_rounds=2), Store.open(str(tmp_path), "t")), write=write, signals=trusting
    )
    assert manifest["kept"] == 0
    assert set(manifest["rejected"]) == {"near_duplicate"}
    assert manifest["engine_starts"] == 2


def test_a_generator_that_gives_enough_is_started_once(tmp_path) -> None:
    write = writer(GOOD)
    manifest = synthesize.run(
        resolved(config(num_candidates=2, max_rounds=4), Store.open(str(tmp_path), "t")), write=write, signals=trusting
    )
    assert (manifest["kept"], manifest["engine_starts"], manifest["rejected"]) == (
        2,
        1,
        {"surplus": 1, "near_duplicate": 1},
    )


COPIES = [
    "Judge how the customer felt about it, negative or positive:\n{text}",
    "Judge how the guest felt, negative or positive, please:\n{text}",
    "Was it worth the money to whoever wrote this: {text}",
    "Read what somebody bought: {text} Say positive where they would again, negative otherwise.",
]


def test_of_what_passes_the_most_different_are_kept_and_not_the_first(tmp_path) -> None:
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(
        resolved(config(num_candidates=2, max_rounds=1), run), write=writer(COPIES), signals=trusting
    )
    assert (manifest["kept"], manifest["rejected"]) == (2, {"surplus": 2})
    prompts = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))
    assert {e.template.text for e in prompts.entries if e.provenance["source"] == "demo"} == set(COPIES[2:])


def test_held_out_templates_have_no_say_in_what_is_selected(tmp_path) -> None:
    file = tmp_path / "other.jsonl"
    texts = [f"Words{letter * 3} of nothing {{text}}" for letter in "abcdefghijkl"]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert chosen(tmp_path / "a") == chosen(tmp_path / "b", held_out_templates=str(file)) == set(COPIES[2:])


def chosen(folder: Path, **prompts: object) -> set[str]:
    run = Store.open(str(folder), "t")
    synthesize.run(
        resolved(config(num_candidates=2, max_rounds=1, **prompts), run), write=writer(COPIES), signals=trusting
    )
    found = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))
    return {e.template.text for e in found.entries if e.provenance["source"] == "demo"}


def test_cost_and_yield_are_stated_per_generator(tmp_path, capsys) -> None:
    run = Store.open(str(tmp_path), "t")
    write = writer([*COPIES[:3], "no placeholder", ""])
    manifest = synthesize.run(resolved(config(num_candidates=3, max_rounds=1), run), write=write, signals=trusting)
    (got,) = manifest["generators"]
    assert got["time_s"] >= 0
    assert {name: value for name, value in got.items() if name != "time_s"} == {
        "source": "demo",
        "asked": 3,
        "requests": 6,
        "answers": 4,
        "tokens": 40,
        "candidates": 6,
        "passed": 3,
        "kept": 3,
    }
    said = capsys.readouterr().out
    assert "demo: 6 requests, 4 answers, 40 tokens, 0 s; 6 candidates, 3 passed, 3 of 3 kept" in said
    rows = [json.loads(line) for line in run.read_bytes("synthesize/raw.jsonl").splitlines()]
    assert sum(row["tokens"] for row in rows) == 40
    assert [row["request"] for row in rows] == list(range(6))


def lists(answers: Sequence[str]):
    """A generator that goes through these answers, and keeps what it was asked for."""
    given, asked = iter(answers), []

    @without_forced
    def write(requests: Sequence[Request], *_: object) -> tuple[list[Completion], int]:
        asked.extend(requests)
        return [Completion(text=next(given, answers[-1]), tokens=10) for _ in requests], 1

    return write, asked


ROOMY = (GeneratorConfig(max_tokens=480),)  # three templates of 120 words


def test_where_an_answer_has_room_it_is_asked_for_several_templates(tmp_path) -> None:
    write, asked = lists([json.dumps(COPIES[:2]), json.dumps(COPIES[2:])])
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(
        resolved(config(num_candidates=3, max_rounds=1, generators=ROOMY), run), write=write, signals=trusting
    )
    assert [len(r.axes) for r in asked] == [3, 3]
    got = manifest["generators"][0]
    assert (got["requests"], got["answers"], got["candidates"], got["tokens"], got["kept"]) == (2, 2, 4, 20, 3)
    found = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))
    styles = {e.template.text: e.provenance.get("axes") for e in found.entries}
    assert all(styles[text] == asked[i // 2].axes[i % 2] for i, text in enumerate(COPIES) if text in styles)


def test_a_model_that_writes_no_lists_is_asked_for_one_template_from_then_on(tmp_path) -> None:
    write, asked = lists(["Sure! 1. First text", '["half', "[]", *COPIES])
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(
        resolved(config(num_candidates=4, max_rounds=2, generators=ROOMY), run), write=write, signals=trusting
    )
    assert [len(r.axes) for r in asked] == [3] * 3 + [1] * 8
    assert [r.number for r in asked] == list(range(11))
    assert (manifest["kept"], manifest["rejected"]["no_list"]) == (4, 3)


def test_an_answer_with_more_templates_than_were_asked_for_is_refused(tmp_path) -> None:
    write, _ = lists([json.dumps([*COPIES, *GOOD])])
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(
        resolved(config(num_candidates=3, max_rounds=1, generators=ROOMY), run), write=write, signals=trusting
    )
    assert (manifest["kept"], manifest["rejected"]) == (0, {"no_list": 2})


def test_the_template_that_was_rewritten_stands_in_the_provenance_and_copies_of_it_are_refused(tmp_path) -> None:
    seeds, _ = user_templates(config(), DEMO)
    write, _ = lists([seeds[0].text + " ", *COPIES])
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(
        resolved(config(num_candidates=2, max_rounds=1, strategies=("paraphrase",)), run), write=write, signals=trusting
    )
    assert manifest["rejected"]["near_duplicate"] == 1
    found = PromptSet.from_table(run.read_table("synthesize/prompt_set.parquet"))
    written = [e.provenance for e in found.entries if e.provenance["source"] == "demo"]
    assert written
    assert all(p["strategy"] == "paraphrase" and p["rewrites"] in {seed.id for seed in seeds} for p in written)


def test_without_generators_only_the_users_templates_are_used(tmp_path) -> None:
    manifest = synthesize.run(resolved(config(generators=()), Store.open(str(tmp_path), "t")))
    assert (manifest["asked"], manifest["engine_starts"], manifest["grammar_share"]) == (0, 0, None)
    assert manifest["num_held_out"] >= 12


def test_too_few_held_out_templates_are_refused(tmp_path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text('{"text": "A {text}"}\n')
    with pytest.raises(UserError, match="1 distinct held-out templates given, at least 12"):
        user_templates(config(held_out_templates=str(file)), DEMO)
