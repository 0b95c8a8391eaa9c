"""Documents: those made from the code are the repository's, and what the others tell a reader to do exists."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main
import yaml

from paft_ray.cli.main import app
from paft_ray.config import load_config
from paft_ray.models.resolve import resolve_model
from paft_ray.tasks.task import Example, load_task

README = Path("README.md").resolve()
GENERATED = {Path("docs/capacity.md"), Path("docs/configuration.md")}
PAGES = [Path("README.md"), Path("CHANGELOG.md"), *sorted(set(Path("docs").glob("*.md")) - GENERATED)]
WRITTEN = [*PAGES, Path("EXPERIMENTS.md")]
LINKED = [*WRITTEN, *sorted(GENERATED), Path("cluster/README.md"), Path("benchmarks/README.md")]


def blocks(path: Path, language: str) -> list[str]:
    """Contents of a page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Fragments that GitHub makes from the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()).replace(" ", "-")
        for heading in headings
    }


def commands(path: Path) -> Iterator[list[str]]:
    """Words of every `paft` command in a page: in its shell blocks, and between backticks in its text."""
    lines = [line for block in blocks(path, "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *re.findall(r"`(paft [^`]+)`", prose(path))]:
        words = shlex.split(line, comments=True)
        if words[:1] == ["paft"]:
            yield words[1:]


def test_the_configuration_reference_is_that_of_the_models() -> None:
    spec = importlib.util.spec_from_file_location("configuration_reference", "scripts/configuration_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert Path("docs/configuration.md").read_text(encoding="utf-8") == module.reference(), (
        "run python scripts/configuration_reference.py"
    )


def test_the_readme_is_short_and_its_fifth_line_tells_what_ran_on_a_gpu() -> None:
    text = Path("README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1300
    fifth = text.splitlines()[4]
    assert all(word in fifth for word in ("GPU", "ran", "largest model"))


def test_every_page_is_in_the_readme() -> None:
    text = Path("README.md").read_text(encoding="utf-8")
    assert [str(page) for page in Path("docs").glob("*.md") if f"({page})" not in text] == []


@pytest.mark.parametrize("path", WRITTEN, ids=str)
def test_lines_are_at_most_120_characters(path: Path) -> None:
    text = re.sub(
        r"<!-- hardware:begin -->.*<!-- hardware:end -->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL
    )  # written by a script
    assert [line for line in text.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("path", LINKED, ids=str)
def test_relative_links_lead_somewhere(path: Path) -> None:
    dead = []
    inline, defined = (
        re.findall(r"\]\(([^)\s]+)\)", prose(path)),
        re.findall(r"^\[\w+\]: (\S+)", prose(path), flags=re.MULTILINE),
    )
    for link in (link for link in [*inline, *defined] if not link.startswith("https:")):
        file, _, fragment = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (fragment and fragment not in anchors(target)):
            dead.append(link)
    named, given = (
        set(re.findall(pattern, prose(path), flags=re.MULTILINE)) for pattern in (r"\]\[(\w+)\]", r"^\[(\w+)\]: ")
    )
    assert dead == []
    assert named == given


@pytest.mark.parametrize("path", [*PAGES, Path("cluster/README.md")], ids=str)
def test_commands_and_their_options_exist(path: Path) -> None:
    for words in commands(path):
        command: Any = typer.main.get_command(app)
        if words[0].isupper():  # STAGE stands for any
            continue
        while words and words[0] in getattr(command, "commands", ()):
            command, words = command.commands[words[0]], words[1:]
        assert not hasattr(command, "commands") or [w[:2] for w in words] == ["--"], f"paft {words}"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert [word for word in words if word.startswith("--") and word not in known | {"--help"}] == []


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8"))) | set(
        re.findall(r"^make ([a-z-]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert named <= targets


def test_the_example_of_ones_own_task_is_a_task_and_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    files = dict(re.findall(r"`(my/\w+\.yaml)`[^`]*(?:`[^`]+`[^`]*)?:\n\n```yaml\n(.*?)```", text, flags=re.DOTALL))
    assert set(files) == {"my/task.yaml", "my/run.yaml"}
    (tmp_path / "my").mkdir()
    for name, content in files.items():
        Path(name).write_text(content, encoding="utf-8")
    config = load_config("my/run.yaml", [])
    task = load_task(config.task)
    assert task.sources["train"].path == "my/rows.jsonl"
    assert config.prompts.seed_templates == "my/templates.jsonl"
    [pair] = blocks(README, "json")
    row, template = pair.splitlines()
    assert set(yaml.safe_load(row)) == {*task.fields, task.answer}
    assert all(f"{{{field}}}" in yaml.safe_load(template)["text"] for field in task.fields)


def test_the_training_loop_snippet_masks_all_but_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = blocks(Path("docs/method.md"), "python")
    monkeypatch.chdir(tmp_path)
    Path("templates.jsonl").write_text(
        '{"text": "Review: {text}\\nSentiment:"}\n{"text": "How does this sound? {text}"}\n', encoding="utf-8"
    )
    names: dict[str, Any] = {"MODEL": resolve_model("demo", None)}
    exec(code, names)  # noqa: S102
    data = SimpleNamespace(examples=[Example(id="a", fields={"text": "fine"}, answer="positive")], epoch=0)
    row = names["__getitem__"](data, 0)
    answer = [label for label in row["labels"] if label != -100]
    assert names["encoder"].tokenizer.decode(answer[:-1]).strip() == "positive"
    assert row["input_ids"][-len(answer) :] == answer
    assert len(row["labels"]) == len(row["input_ids"])
