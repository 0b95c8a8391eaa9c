"""`paft compare`: made-up runs whose figures can be worked out by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from paft_ray.cli.main import main
from paft_ray.config import parse_config
from paft_ray.prompts.prompt_set import Entry, PromptSet
from paft_ray.prompts.template import PromptTemplate
from paft_ray.report import compare as report_compare
from paft_ray.storage.artifacts import OUTCOMES
from paft_ray.storage.store import Store
from paft_ray.tasks.task import Example
from tests.support import made_stage as stages
from tests.support.made_outcomes import outcome_row, outcome_table

Right = Callable[[str, int, int, int], bool]
"""(arm, seed, number of the template, number of the example) -> answered right."""


def evaluated(
    folder: Path,
    right: Right,
    *,
    templates: Sequence[int] = range(12),
    examples: Sequence[int] = range(10),
    seeds: Sequence[int] = (0,),
    text: str = "",
    **settings,
) -> Store:
    """A run whose arms base and paft were measured on templates and examples with these numbers."""
    run = Store(str(folder))
    config = parse_config(
        {"name": "made-up", "task": "demo", "report": {"num_bootstrap": 200}, **settings}, source="test"
    )
    run.write_json("config.json", config.model_dump(mode="json"))
    wordings = {t: PromptTemplate(text=f"Wording {t}: {{text}}") for t in templates}
    stages.synthesized(run, PromptSet.of(Entry(template=w, split="held_out") for w in wordings.values()))
    rows = [Example(id=f"e{e}", fields={"text": f"review {e}{text}"}, answer="positive") for e in examples]
    stages.prepared(run, {"test": rows})
    outcomes = [
        outcome_row(arm, wordings[t].id, f"e{e}", "positive", "positive" if found else "negative", seed=seed)
        for arm in ("base", "paft")
        for seed in ((-1,) if arm == "base" else seeds)
        for t in templates
        for e in examples
        for found in [right(arm, seed, t, e)]
    ]  # fmt: skip
    stages.evaluated(run, outcome_table(outcomes, ("positive", "negative")))
    return run


def compared(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def half(arm: str, seed: int, template: int, example: int) -> bool:
    return example < 5


def better(arm: str, seed: int, template: int, example: int) -> bool:
    """As `half`, and paft answers one example more on every template."""
    return example < 5 or (arm == "paft" and example == 5)


def test_runs_on_the_same_cells_are_paired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (
        evaluated(tmp_path / "old", half),
        evaluated(tmp_path / "new", better, train={"warmup_fraction": 0.2}),
    )
    code, out, _ = compared(capsys, first.root, f"file://{second.root}", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"headline", "runs", "differences", "settings"}
    assert found["headline"] == "behavior"
    figures = {
        "mean": 0.6,
        "std": 0.0,
        "worst": 0.6,
        "best": 0.6,
        "num_templates": 12,
        "num_examples": 10,
        "num_seeds": 1,
    }
    row = found["runs"]["new"]["arms"]["paft"]
    assert {key: row[key] for key in figures} == pytest.approx(figures)
    assert {name: each["mean"] for name, each in row["measures"].items()} == pytest.approx(
        {"behavior": 0.6, "strict": 0.6, "knowledge": 0.6}
    )
    assert (row["named_rate"], row["decile"]) == (1.0, pytest.approx(0.6))
    base, paft = found["differences"]
    expected = {
        "first": "old",
        "second": "new",
        "arm": "base",
        "first_arm": "base",
        "second_arm": "base",
        "first_seeds": [-1],
        "second_seeds": [-1],
        "mean": 0,
        "low": None,
        "high": None,
        "no_interval": "the difference is the same in every cell, which tells nothing of others",
        "decisive": False,
        "num_templates": 12,
        "num_examples": 10,
        "paired": True,
    }
    assert {key: base[key] for key in expected} == expected
    assert base["measures"]["knowledge"] == {"mean": 0, "low": None, "high": None}
    assert paft["mean"] == pytest.approx(-0.1)
    assert paft["low"] <= -0.1 < 0 < paft["high"], "only one of ten examples differs, and that shows nothing of others"
    assert found["settings"] == [{"first": "old", "second": "new", "differing": ["train.warmup_fraction: 0.1 -> 0.2"]}]


def test_any_arm_of_one_run_stands_against_any_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def even(arm: str, seed: int, template: int, example: int) -> bool:
        return example < (9 - template % 2 if arm == "paft" else 5)

    def varied(arm: str, seed: int, template: int, example: int) -> bool:
        return example < (9 if arm == "paft" else template % 6)

    first, second = evaluated(tmp_path / "a", even), evaluated(tmp_path / "b", varied)
    arguments = (first.root, second.root, "--arms", "paft:base", "--arms", "base:base")
    _, out, _ = compared(capsys, *arguments, "--json")
    gap, other = json.loads(out)["differences"]
    assert (gap["arm"], gap["first_arm"], gap["second_arm"]) == ("paft:base", "paft", "base")
    assert other["arm"] == "base"
    assert gap["mean"] == pytest.approx(0.85 - 0.25)
    assert 0 < gap["low"] < gap["mean"] < gap["high"]
    assert gap["p_value"] < gap["p_adjusted"] < 0.05, "two comparisons are corrected for"
    assert gap["decisive"]
    stds = [np.std(each, ddof=1) for each in (np.arange(12) % 2 / 10, np.arange(12) % 6 / 10)]
    assert gap["std_ratio"]["value"] == pytest.approx(stds[0] / stds[1])
    assert gap["std_ratio"]["low"] < gap["std_ratio"]["value"] < gap["std_ratio"]["high"]
    assert gap["decile"]["mean"] == pytest.approx(0.8 - 0.01)
    assert other["std_ratio"] is None, "base of the first is the same under every template"
    assert list(gap["measures"]) == ["strict", "knowledge"]
    _, out, _ = compared(capsys, *arguments)
    assert "paft:base" in out
    assert "corrected for 2 comparisons of behavior (Holm)" in out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("paft", "--arms paft: give two arms as A:B"),
        ("paft:", "give two arms as A:B"),
        ("a:b:c", "give two arms as A:B"),
        ("paft:sft", "--arms paft:sft: run b has no arm sft; its arms are base, paft"),
    ],
)
def test_arms_that_cannot_be_paired_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
) -> None:
    runs = [evaluated(tmp_path / name, half).root for name in ("a", "b")]
    code, out, err = compared(capsys, *runs, "--arms", given)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


def test_only_common_templates_and_examples_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def odd(arm: str, seed: int, template: int, example: int) -> bool:
        return template < 2 or example >= 8 or half(arm, seed, template, example)

    first = evaluated(tmp_path / "a", odd)
    second = evaluated(tmp_path / "b", half, templates=range(2, 14), examples=range(8))
    _, out, _ = compared(capsys, first.root, second.root, "--json")
    for row in json.loads(out)["differences"]:
        assert (row["num_templates"], row["num_examples"], row["paired"], row["mean"]) == (10, 8, True, 0), (
            "they differ in cells of one run alone"
        )


@pytest.mark.parametrize("change", [{"templates": range(5, 17)}, {"text": " in other words"}])
def test_runs_that_share_too_little_are_not_paired_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict
) -> None:
    """Seven common templates, or the same example ids for other rows."""
    first, second = evaluated(tmp_path / "a", half), evaluated(tmp_path / "b", better, **change)
    _, out, _ = compared(capsys, first.root, second.root, "--json")
    row = json.loads(out)["differences"][1]
    assert (row["paired"], row["low"], row["high"]) == (False, None, None)
    assert row["mean"] == pytest.approx(-0.1)
    assert row["num_templates"] == (7 if "templates" in change else 0)
    _, out, _ = compared(capsys, first.root, second.root)
    reason = "7 common templates, at least 8 are needed" if "templates" in change else "no cell of a common test row"
    assert f"paft: not paired ({reason}); the difference is that of the two means" in out


def test_a_part_of_the_cells_is_no_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What needs every cell is left out, as in the report."""
    runs = [evaluated(tmp_path / name, half) for name in ("a", "b")]
    table = OUTCOMES.read(runs[0])
    stages.evaluated(runs[0], table.take([n for n in range(len(table)) if n % 3]), budget=2 / 3)
    _, out, _ = compared(capsys, *(run.root for run in runs), "--json")
    part, whole = (json.loads(out)["runs"][name]["arms"]["paft"] for name in ("a", "b"))
    assert (part["worst"], part["decile"], part["best"]) == (None, None, None)
    assert whole["worst"] == 0.5
    assert part["mean"] == pytest.approx(part["estimated"]["mean"])
    assert part["measures"].keys() == whole["measures"].keys()
    _, out, _ = compared(capsys, *(run.root for run in runs))
    assert "estimated, 66.7 % of the cells were asked" in " ".join(out.split())


def test_seeds_are_paired_by_number_and_said_where_none_is_common(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        evaluated(tmp_path / name, half, seeds=seeds).root
        for name, seeds in (("a", (0, 1)), ("b", (1, 2)), ("c", (3, 4)))
    ]
    _, out, _ = compared(capsys, *runs, "--json")
    paired = {
        (row["first"], row["second"]): row["paired"] for row in json.loads(out)["differences"] if row["arm"] == "paft"
    }
    assert paired == {("a", "b"): True, ("a", "c"): False, ("b", "c"): False}
    _, out, _ = compared(capsys, runs[0], runs[2])
    assert "paft: not paired (no common training seed)" in out


def test_all_figures_of_a_pair_are_of_its_common_seeds_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def varied(arm: str, seed: int, template: int, example: int) -> bool:
        return example < (template + 4 * seed) % 9

    first = evaluated(tmp_path / "three", varied, seeds=(0, 1, 2))
    second = evaluated(tmp_path / "one", better, seeds=(1,))
    alone = evaluated(tmp_path / "alone", varied, seeds=(1,))

    def gap(run: Store) -> dict:
        _, out, _ = compared(capsys, run.root, second.root, "--arms", "paft:paft", "--arms", "paft:base", "--json")
        return json.loads(out)

    found, expected = gap(first)["differences"], gap(alone)["differences"]
    names = ("mean", "low", "high", "std_ratio", "decile", "measures", "first_seeds", "second_seeds", "num_examples")
    assert {name: found[0][name] for name in names} == {name: expected[0][name] for name in names}
    assert (found[0]["first_seeds"], found[0]["second_seeds"]) == ([1], [1])
    assert (found[1]["first_seeds"], found[1]["second_seeds"]) == ([0, 1, 2], [-1]), "nobody trained base: all count"
    _, out, _ = compared(capsys, first.root, second.root)
    (line,) = [line for line in out.splitlines() if "common seed" in line]
    assert line == "paft: all figures of the difference are of the common seed 1 (three has 3; one has 1)"


def test_the_cells_of_a_pair_are_found_once_for_each_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    found = report_compare._common
    monkeypatch.setattr(report_compare, "_common", lambda *given: calls.append(1) or found(*given))
    runs = [evaluated(tmp_path / name, half).root for name in ("a", "b")]
    compared(capsys, *runs, "--arms", "paft:paft", "--json")
    assert len(calls) == 3


def test_runs_of_one_name_stay_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [evaluated(tmp_path / place, half).root for place in ("x/[red]demo", "y/[red]demo", "z/[red]demo")]
    _, out, _ = compared(capsys, *runs, "--json")
    assert list(json.loads(out)["runs"]) == ["[red]demo", "[red]demo-2", "[red]demo-3"]
    _, out, _ = compared(capsys, *runs)
    assert "[red]demo - [red]demo-2" in out, "a name is no markup"


def test_what_is_no_evaluated_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = evaluated(tmp_path / "good", half)
    bare = evaluated(tmp_path / "bare", half)
    bare.delete("evaluate/outcomes.parquet")
    for arguments, message in [
        ((good.root,), "at least two runs are needed"),
        ((good.root, f"{good.root}/."), "comes twice"),
        ((good.root, tmp_path / "none"), "config.json is missing; give the folder of a run"),
        ((good.root, bare.root), "evaluate/outcomes.parquet is missing"),
        ((good.root, "nosuch://bucket/run"), "give a folder or a URI"),
    ]:
        code, out, err = compared(capsys, *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert message in err
