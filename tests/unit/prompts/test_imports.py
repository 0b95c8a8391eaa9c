"""Published formats: what poses the task is kept, what does not is rejected by its reason, and nothing is run. The
inputs are our own, in the formats of the tools."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paft_ray.cli.main import main
from paft_ray.errors import UserError
from paft_ray.prompts.imports import Imported, import_templates
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.prompts.published.found import Unusable
from paft_ray.prompts.published.names import Names
from paft_ray.prompts.published.plain_jinja import plain_text
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task, load_task

SST2, RACE, PIQA, GSM8K = map(load_task, ("sst2", "race", "piqa", "gsm8k"))
LETTERS = Task.model_validate(
    {"name": "m", "kind": "choice", "description": "Choose.", "fields": {"question": "q"}, "labels": ["A", "B"]}
)


def imported(folder: Path, content: str, task: Task, *renames: str, name: str = "t.yaml") -> Imported:
    (folder / name).write_text(content, encoding="utf-8")
    return import_templates([str(folder / name)], task, 120, renames)


def outcome(result: Imported) -> str | tuple[str, str]:
    """The text of the one template, or reason and detail of its rejection."""
    if result.kept:
        (template,) = result.kept
        return template.text
    (rejection,) = result.rejections
    return rejection.reason, rejection.detail


def promptsource(jinja: str, choices: Any = ("negative", "positive")) -> str:
    """A templates.yaml of one template, with the tags that PromptSource writes."""
    return f"""dataset: own
templates:
  0a1b: !Template
    answer_choices: {json.dumps(choices if choices is None else list(choices))}
    id: 0a1b
    jinja: {json.dumps(jinja)}
    metadata: !TemplateMetadata
      choices_in_prompt: true
    name: of our own
"""


LABEL = " ||| {{ answer_choices[label] }}"


@pytest.mark.parametrize(
    ("jinja", "text"),
    [
        ("How does {{ sentence }} sound?", "How does {text} sound?"),
        ("How does {{text}} sound?", "How does {text} sound?"),
        ("A mood: {{ sentence | trim }}", "A mood: {text}"),
        ("A mood: {{ sentence.strip() }}", "A mood: {text}"),
        ("A mood:   {{- sentence -}}   please", "A mood:{text}please"),
        ('Is "{{sentence}}" {{"positive"}} or {{\'negative\'}}?', 'Is "{text}" positive or negative?'),
        ("Is {{sentence}} {{answer_choices[1]}}, {{ answer_choices [0] }}?", "Is {text} positive, negative?"),
        ("One of {{ ', '.join(answer_choices) }}: {{sentence}}", "One of negative, positive: {text}"),
        ("One of {{ answer_choices | join(' / ') }}: {{sentence}}", "One of negative / positive: {text}"),
        ("{# not shown #}What mood?\n{{sentence}}", "What mood?\n{text}"),
        ("In TeX $x^{2}$, judge {{sentence}}", "In TeX $x^{{2}}$, judge {text}"),
    ],
)
def test_plain_jinja_becomes_our_template(tmp_path: Path, jinja: str, text: str) -> None:
    assert outcome(imported(tmp_path, promptsource(jinja + LABEL), SST2)) == text


@pytest.mark.parametrize(
    ("jinja", "choices", "reason"),
    [
        ("{% if sentence %}Mood of {{sentence}}?{% endif %}" + LABEL, ("negative", "positive"), "logic"),
        ("{% for w in sentence %}{{w}}{% endfor %} mood?" + LABEL, ("negative", "positive"), "logic"),
        ("Mood of {{ sentence.upper() }}?" + LABEL, ("negative", "positive"), "expression"),
        ("Mood of {{ sentence | upper }}?" + LABEL, ("negative", "positive"), "expression"),
        ("Mood of {{ sentence[0:3] }}?" + LABEL, ("negative", "positive"), "expression"),
        ("Mood of {{ sentence ~ '!' }}?" + LABEL, ("negative", "positive"), "expression"),
        ("Mood of {{ sentence }}? {{ lipsum() }}" + LABEL, ("negative", "positive"), "expression"),
        ("Mood of {{ sentence" + LABEL, ("negative", "positive"), "expression"),
        ("Mood of {{ sentence }}, which is {{ label }}?" + LABEL, ("negative", "positive"), "answer_in_prompt"),
        ("Say {{ answer_choices[label] }} of {{sentence}}" + LABEL, ("negative", "positive"), "answer_in_prompt"),
        ("Mood of {{ phrase }}?" + LABEL, ("negative", "positive"), "unknown_field"),
        ("Mood of a text?" + LABEL, ("negative", "positive"), "missing_field"),
        ("Mood of {{ sentence }}? Answer: positive" + LABEL, ("negative", "positive"), "leaks_answer"),
        ("Mood of {{ sentence }}?" + LABEL, ("bad", "good"), "other_labels"),
        ("Mood of {{ sentence }}?" + LABEL, ("negative", "positive", "neither"), "other_labels"),
        ("{{ sentence }} This is not ||| {{ answer_choices[1 - label] }}", ("negative", "positive"), "other_answer"),
        ("Mood of {{ sentence }}? ||| {% if label %}positive{% endif %}", None, "other_answer"),
        ("Say it again: {{ sentence }} ||| {{ sentence }}", None, "other_answer"),
        ("Mood of {{ sentence }}?", ("negative", "positive"), "other_answer"),
        ("", ("negative", "positive"), "no_prompt"),
        ("Think step by step: the mood of {{ sentence }}?" + LABEL, ("negative", "positive"), "asks_for_reasoning"),
        ("Rate it on a scale from 0 to 1: {{ sentence }}" + LABEL, ("negative", "positive"), "other_task"),
        ('End with "The answer is X". Mood of {{sentence}}?' + LABEL, ("negative", "positive"), "other_answer_format"),
    ],
)
def test_what_does_not_pose_the_task_in_plain_text_is_rejected(
    tmp_path: Path, jinja: str, choices: Any, reason: str
) -> None:
    result = imported(tmp_path, promptsource(jinja, choices), SST2)
    assert outcome(result)[0] == reason
    assert (result.rejections[0].name, result.rejections[0].text) == ("of our own", jinja)


def test_keys_of_a_column_are_found_by_the_columns_of_the_task(tmp_path: Path) -> None:
    options = "A) {{options.0}} B) {{options[1]}} C) {{ options[2] }} D) {{options.3}}"
    jinja = f"{{{{article}}}}\n{{{{question}}}}\n{options}\n||| {{{{answer}}}}"
    text = "{article}\n{question}\nA) {A} B) {B} C) {C} D) {D}"
    assert outcome(imported(tmp_path, promptsource(jinja, "ABCD"), RACE)) == text
    assert (
        outcome(imported(tmp_path, promptsource(jinja.replace("answer", "question"), None), RACE))[0] == "other_answer"
    )


PIECES = [
    *(
        "text ",
        "a {b} c",
        "{",
        "}",
        "}}",
        "\n",
        " {{ text }} ",
        "{{- text -}}",
        "{{text|trim}}",
        "{{text.strip()}}",
        '{{"x"}}',
    ),
    *(
        "{{ 'y' }}",
        "{# c #}",
        "{{ text.upper() }}",
        "{% if text %}",
        "{% endif %}",
        "{{ text",
        "{{ '{{' }}",
        "{{}}",
        "{{ 1 }}",
    ),
]


@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | st.text("{}%#-|' text.\n", max_size=30))
@example("{{ text }}{#-#} x")
def test_what_is_accepted_is_what_jinja_would_have_written(jinja: str) -> None:
    names = Names.of(Task.model_validate({**LETTERS.model_dump(), "fields": {"text": "t"}}))
    try:
        ours = plain_text(jinja, names)
    except Unusable:
        return
    theirs = jinja2.Environment(keep_trailing_newline=True, autoescape=False).from_string(jinja)  # noqa: S701
    assert PromptTemplate(text=ours).render({"text": "<v{{x}}>"}) == theirs.render(text="<v{{x}}>")


def lm_eval(**task: Any) -> str:
    values = {"task": "own", "dataset_path": "own/set", "doc_to_target": "label", **task}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items() if value is not ...)


CHOICES = {"doc_to_choice": ["negative", "positive"]}


@pytest.mark.parametrize(
    ("task", "values", "expected"),
    [
        (SST2, {"doc_to_text": "{{sentence}}\nMood:", **CHOICES}, "{text}\nMood:"),
        (
            SST2,
            {"doc_to_text": "{{sentence}}\nMood:", "doc_to_choice": {"0": "Negative", "1": "Positive"}},
            "{text}\nMood:",
        ),
        (SST2, {"doc_to_text": "{{sentence}}\nMood:"}, "{text}\nMood:"),
        (
            SST2,
            {"description": "About moods.\n", "doc_to_text": "{{sentence}} is", **CHOICES},
            "About moods.\n{text} is",
        ),
        (SST2, {"doc_to_text": "{{sentence}}\nMood:", "doc_to_choice": ["bad", "good"]}, ("other_labels", "bad, good")),
        (
            SST2,
            {"doc_to_text": "{{sentence}}\nMood:", "doc_to_target": "{{1 - label}}", **CHOICES},
            ("other_answer", "{{1 - label}}"),
        ),
        (SST2, {"doc_to_text": "sentence", **CHOICES}, ("too_short", "")),
        (SST2, {"doc_to_text": "", **CHOICES}, ("no_prompt", "")),
        (SST2, {"include": "elsewhere/_base", "doc_to_text": ...}, ("other_file", "")),
        (PIQA, {"doc_to_text": "{{goal}}", "doc_to_choice": "{{[sol1, sol2]}}"}, ("other_answer", "{{[sol1, sol2]}}")),
        (
            PIQA,
            {"doc_to_text": "{{goal.strip()}} A: {{sol1}} B: {{sol2}}", "doc_to_choice": ["A", "B"]},
            "{goal} A: {sol1} B: {sol2}",
        ),
        (
            PIQA,
            {
                "doc_to_text": "{{goal}}? A: {{sol1}} B: {{sol2}}",
                "doc_to_choice": ["A", "B"],
                "doc_to_target": "{{['x', 'y'].index(label)}}",
            },
            "{goal}? A: {sol1} B: {sol2}",
        ),
        (
            GSM8K,
            {"doc_to_text": "Q: {{question}}\nA:", "doc_to_target": "{{answer.split('#')[-1]}}"},
            "Q: {question}\nA:",
        ),
        (
            GSM8K,
            {"doc_to_text": "Q: {{question}}\nA:", "doc_to_target": "{{answer[2:] if answer is defined else target}}"},
            "Q: {question}\nA:",
        ),
        (
            GSM8K,
            {"doc_to_text": "Q: {{question}}\nA:", "doc_to_target": "{{hints}}{{answer}}"},
            ("other_answer", "{{hints}}{{answer}}"),
        ),
        (GSM8K, {"doc_to_text": "Q: {{question}}\nA:", **CHOICES}, ("other_answer", "a choice")),
        (GSM8K, {"doc_to_text": "{{shots}}Q: {{question}}"}, ("unknown_field", "shots")),
        (
            GSM8K,
            {"doc_to_text": "Put it into \\boxed{}: {{question}}", "doc_to_target": "answer"},
            ("other_answer_format", ""),
        ),
        (
            GSM8K,
            {"doc_to_text": "Write a new problem like {{question}}", "doc_to_target": "answer"},
            ("other_task", ""),
        ),
    ],
)
def test_a_task_of_lm_evaluation_harness(tmp_path: Path, task: Task, values: dict[str, Any], expected: object) -> None:
    assert outcome(imported(tmp_path, lm_eval(**values), task)) == expected


def test_code_of_a_task_file_is_neither_imported_nor_run(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("raise SystemExit('imported')\n")
    for name in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        text = (
            lm_eval(doc_to_text="Mood of {{sentence}}?", **CHOICES).replace(name + ":", "x:")
            + f"{name}: !function utils.f\n"
        )
        assert outcome(imported(tmp_path, text, SST2)) == ("code", "utils.f")
    evil = lm_eval(doc_to_text="Mood of {{sentence}}?", **CHOICES) + "metadata: !!python/object/apply:os.abort []\n"
    assert outcome(imported(tmp_path, evil, SST2)) == "Mood of {text}?"


def test_an_included_file_of_the_same_folder_is_read_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "_base").write_text(lm_eval(doc_to_text="From below: {{sentence}}?", doc_to_choice=["bad", "good"]))
    assert outcome(imported(tmp_path, "task: own\ninclude: _base\n", SST2)) == ("other_labels", "bad, good")
    own = 'task: own\ninclude: _base\ndoc_to_choice: ["negative", "positive"]\n'
    assert outcome(imported(tmp_path, own, SST2)) == "From below: {text}?"
    (tmp_path / "inner").mkdir()
    up = own.replace("_base", "../_base")
    assert outcome(imported(tmp_path / "inner", up, SST2)) == ("other_file", "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('user: "Solve it.\\n\\n{examples}{problem}"\n', "Solve it.\n\n{question}"),
        ('system: ""\nuser: "Solve {problem} with {{}}"\n', "Solve {question} with {{}}"),
        ('user: "{problem}"\n', ("too_short", "")),
        ('user: "Multiple choice: {problem}"\n', ("other_task", "")),
        ('system: "Your format:\\nAnswer: {{the answer}}"\nuser: "{problem}!"\n', ("other_answer_format", "")),
        ('user: "Is {guess} right for {problem}?"\n', ("unknown_field", "guess")),
        ('user: "Is {answer} right for {problem}?"\n', ("answer_in_prompt", "answer")),
        ('user: "Solve {problem!r} now"\n', ("unparsable", None)),
        ("user: {problem}\n", ("no_prompt", "")),
        ('system: "About {problem}"\nuser: "Solve {problem}"\n', ("field_in_system", "problem")),
        ('system: "Use \\\\boxed{{}}."\nuser: "Solve {problem}"\n', ("other_answer_format", "")),
    ],
)
def test_a_prompt_of_nemo_skills(tmp_path: Path, content: str, expected: Any) -> None:
    found = outcome(imported(tmp_path, content, GSM8K, "problem=question"))
    assert (found[0], None) == expected if expected[1] is None else found == expected


def test_the_system_part_of_nemo_skills_is_plain_text(tmp_path: Path) -> None:
    result = imported(tmp_path, 'system: "Be {{brief}} now."\nuser: "Solve {question}"\n', GSM8K)
    assert [rejection.reason for rejection in result.rejections] == ["unfilled_slot"]
    result = imported(tmp_path, 'system: "Be brief."\nuser: "Solve {question}"\n', GSM8K)
    assert [(t.system, t.text) for t in result.kept] == [("Be brief.", "Solve {question}")]


def variation(system: str | None, text: str, **config: Any) -> dict[str, Any]:
    values = {"prompt format variations": text, "choices": "filled in"} | (
        {"instruction variations": system} if system else {}
    )
    config = {"instruction": "As it was", "prompt format": "As it was: {question}", "gold": "answer", **config}
    return {"prompt": "filled in", "configuration": {"template_config": config, "field_values": values}}


def test_an_export_of_prompt_suite_gives_each_template_once_without_its_answer(tmp_path: Path) -> None:
    rows = [
        variation("Solve it.", "Q: {question}\nA: {answer}"),
        variation("Solve it.", "Q: {question}\nA: {answer}"),
        variation("About {question}:", "Q || {question}\nA || {answer}"),
        variation("Solve it.", "{answer} is what follows from {question}", gold={"field": "answer", "type": "value"}),
        variation("About {topic}:", "Q: {question}"),
    ]
    result = imported(tmp_path, json.dumps(rows), GSM8K, name="t.json")
    assert [(t.system, t.text) for t in result.kept] == [
        ("Solve it.", "Q: {question}\nA:"),
        (None, "About {question}:\n\nQ || {question}\nA ||"),
    ]
    assert [(r.name, r.reason, r.detail) for r in result.rejections] == [
        ("variation 3", "answer_in_prompt", "answer"),
        ("variation 4", "unknown_field", "topic"),
    ]


def test_template_dictionaries_and_csv_exports_of_prompt_suite(tmp_path: Path) -> None:
    own = {"instruction": "Judge.", "prompt_format": "Text: {text}\nMood: {label}", "text": ["typos and noise"]}
    result = imported(tmp_path, json.dumps(own), SST2, name="t.json")
    assert [(t.system, t.text) for t in result.kept] == [("Judge.", "Text: {text}\nMood:")]
    head = "prompt,original_row_index,variation_count,field_instruction,field_options\n"
    rows = head + '"filled",0,1,"Read:\nQ: {question}\nA: {answer}","x"\n' * 3
    assert outcome(imported(tmp_path, rows, GSM8K, name="t.csv")) == "Read:\nQ: {question}\nA:"
    with pytest.raises(UserError, match=r"t\.csv: no export of PromptSuite"):
        imported(tmp_path, "text\nabc\n", GSM8K, name="t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", r"cannot be read \(while parsing"),
        ("a: &x [1]\nb: *x\n", r"the alias \*x"),
        ("just: a mapping\n", "no known format; allowed: a task of lm-evaluation-harness"),
        ("- a list\n", "no known format"),
        ("[" * 10_000, "cannot be read"),
    ],
)
def test_a_yaml_file_of_no_known_format_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        imported(tmp_path, content, SST2)
    assert "\n" not in str(caught.value)


def test_a_template_of_two_files_is_kept_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(lm_eval(doc_to_text="Mood of {{sentence}}?", **CHOICES))
    (tmp_path / "b.jsonl").write_text('{"text": "Mood of {text}?"}\n{"text": "Its mood? {text}"}\n')
    result = import_templates([str(tmp_path / "a.yaml"), str(tmp_path / "b.jsonl")], SST2, 120)
    assert [t.text for t in result.kept] == ["Mood of {text}?", "Its mood? {text}"]
    assert [(Path(r.file).name, r.name, r.reason) for r in result.rejections] == [
        ("b.jsonl", "template 1", "duplicate")
    ]
    assert result.summary() == {"read": 3, "kept": 2, "repaired": {}, "rejected": {"duplicate": 1}}


@pytest.mark.parametrize(
    "renaming", ["problem", "problem=", "=question", "problem=nothing", "a b=question", "x()=question"]
)
def test_a_renaming_that_names_no_field_is_refused(tmp_path: Path, renaming: str) -> None:
    with pytest.raises(UserError, match=r"--map .*: write THEIR=OURS, .* fields? of task gsm8k: question"):
        imported(tmp_path, 'user: "Solve {question}"\n', GSM8K, renaming)


def test_the_command_lists_every_rejected_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text('user: "Solve it: {problem}"\n')
    (tmp_path / "b.yaml").write_text('user: "Is {guess} right for \u202e {problem}?"\n')
    files, out = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")], tmp_path / "out.jsonl"
    arguments = ["prompts", "import", *files, "--task", "gsm8k", "--out", str(out), "--map", "problem=question"]
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *extra])
        assert ended.value.code == 0
    assert [t.text for t in read_templates(out)] == ["Solve it: {question}"]
    *lines, found = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["read: 2", "kept: 1"]
    assert lines[-1].endswith("b.yaml, b: unknown_field (guess): 'Is {guess} right for \\\\u202e {problem}?'")
    (rejection,) = json.loads(found)["rejections"]
    assert (rejection["file"], rejection["name"], rejection["reason"]) == (files[1], "b", "unknown_field")
    with pytest.raises(SystemExit) as ended:
        main(["prompts", "import", files[1], "--task", "gsm8k", "--out", str(out)])
    assert ended.value.code == 2
