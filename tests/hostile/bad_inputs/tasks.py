"""Tasks and the rows they read: columns that are not there, labels that YAML reads otherwise, patterns that never
end."""

import json

from tests.hostile.bad_inputs.case import GOOD_TASK, Case, setting, task


def wordings(field: str) -> str:
    """As many templates as a run needs."""
    return "".join(
        json.dumps({"text": f"Which one fits, in wording {number}? {{{field}}}"}) + "\n" for number in range(13)
    )


CHOICE = "name: t\nkind: choice\ndescription: d\nfields: {text: the text}\n"
FREE = "name: t\nkind: free\ndescription: d\nfields: {text: the text}\nanswer: label\n"
JUDGED = FREE.replace("kind: free\n", "") + "grader: "
ROWS_HERE = "sources: {train: {path: '{dir}/rows.jsonl'}}\n"


def own(
    given: str, says: str, declared: str, *rows: dict[str, object], name: str = "rows.jsonl", content: str | None = None
) -> Case:
    """A task of the user's own with rows of its own, looked through as a whole."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) if content is None else content
    files = {"t.yaml": declared, name: text, "w.jsonl": wordings("text")}
    changes = [
        "task={dir}/t.yaml",
        "data.train={dir}/" + name,
        "prompts.seed_templates={dir}/w.jsonl",
        "prompts.held_out_templates=null",
    ]
    return setting(given, says, *changes, files=files, dry=True)


def built_in(given: str, says: str, name: str, *rows: dict[str, object]) -> Case:
    """A built-in task with rows of the user's own."""
    field = "question" if name == "trec" else "text"
    files = {"rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows), "w.jsonl": wordings(field)}
    changes = [
        f"task={name}",
        "data.train={dir}/rows.jsonl",
        "prompts.seed_templates={dir}/w.jsonl",
        "prompts.held_out_templates=null",
    ]
    return setting(given, says, *changes, files=files, dry=True)


AB = CHOICE + "labels: [a, b]\n"
COLUMNS = [
    own(
        "a misspelt answer column",
        "rows.jsonl:1: no column 'gold_lable'",
        AB + "answer: gold_lable\n",
        {"text": "x", "gold_label": "b", "label": "a"},
    ),
    own(
        "a misspelt answer column beside a label alone",
        "no column 'lable'; the row has: text, label",
        AB + "answer: lable\n",
        {"text": "x", "label": "a"},
    ),
    own(
        "an answer column that some rows lack",
        "rows.jsonl:2: no column 'gold'",
        AB + "answer: gold\n",
        {"text": "x", "label": "a", "gold": "b"},
        {"text": "y", "label": "a"},
    ),
    own(
        "an answer column that the first rows lack",
        "rows.jsonl:1: no column 'gold'",
        AB + "answer: gold\n",
        {"text": "x", "answer": "a"},
        {"text": "y", "gold": "a"},
    ),
    own(
        "a misspelt column of a field",
        "no column 'sentnce'",
        AB + "columns: {text: sentnce}\n",
        {"text": "title", "sentence": "x", "label": "a"},
    ),
    own(
        "a misspelt answer column of a table",
        "rows.csv:2: no column 'gold'",
        AB + "answer: gold\n",
        name="rows.csv",
        content="text,label,glod\nx,a,b\n",
    ),
    own(
        "a dotted column that is not there",
        "no column 'meta.txt'",
        AB + "columns: {text: meta.txt}\n",
        {"meta.text": "x", "label": "a"},
    ),
    own(
        "a dotted path that ends early",
        "no column 'a.b.c'",
        AB + "columns: {text: a.b.c}\n",
        {"a": {"b": "x"}, "label": "a"},
    ),
    built_in(
        "a built-in task whose answer column is misspelt",
        "no column 'coarse_label'",
        "trec",
        {"text": "Who?", "coarse_labl": 3, "label": "human"},
    ),
    built_in(
        "rows of a built-in task that change their columns",
        "rows.jsonl:2: column 'coarse_label' is here, and not in the first row",
        "trec",
        {"question": "Who?", "label": "human"},
        {"question": "Who?", "label": "human", "coarse_label": 2},
    ),
    built_in(
        "rows of a built-in task in two formats",
        "rows.jsonl:2: column 'sentence' is here, and not in the first row",
        "sst2",
        {"text": "fine", "label": "positive"},
        {"sentence": "bad", "label": 0},
    ),
    own(
        "spaces around a column that is none of the task's",
        "no column 'label'; the row has: text, class",
        AB,
        name="rows.csv",
        content="text, class\nx, a\n",
    ),
]
ROWS = [{"text": "x", "label": True}]
LABELS = [
    own("a boolean that is no label", "unknown label 'True'; allowed: a, b", AB, *ROWS),
    own(
        "a number that is no label",
        "unknown label '2.0'; allowed: 0, 1",
        CHOICE + "labels: {'0': a, '1': b}\n",
        {"text": "x", "label": 2.0},
    ),
    own("a boolean as a field", "text must be text or a number, found bool", AB, {"text": True, "label": "a"}),
    own("a label in another case", "unknown label 'A'; allowed: a, b", AB, {"text": "x", "label": "A"}),
    own(
        "a label with two spaces inside",
        "unknown label 'not spam', that is 'not\\x20\\x20spam' where the label is 'not spam'",
        CHOICE + "labels: [spam, not spam]\n",
        {"text": "x", "label": "not  spam"},
    ),
    own(
        "a label with a space that does not break",
        "unknown label 'not\\xa0spam', that is 'not\\xa0spam' where",
        CHOICE + "labels: [spam, not spam]\n",
        {"text": "x", "label": "not\u00a0spam"},
    ),
    own(
        "a label with a letter of another script",
        "that is 'sp\\u0430m' where the label is 'spam'",
        CHOICE + "labels: [spam, ham]\n",
        {"text": "x", "label": "sp\u0430m"},
    ),
    own(
        "a label with a character that does not show",
        "that is 'sp\\u200bam' where the label is 'spam'",
        CHOICE + "labels: [spam, ham]\n",
        {"text": "x", "label": "sp\u200bam"},
    ),
    own(
        "an unknown label among very many",
        "19 and 131 more; fix the row",
        CHOICE + f"labels: {[f'intent {i}' for i in range(151)]}\n",
        {"text": "x", "label": "none"},
    ),
    task(
        "two labels that are one text",
        "are the same text in two Unicode forms; keep one",
        GOOD_TASK.replace("[bad, good]", '["n\\u00e9", "ne\\u0301"]'),
    ),
    task(
        "two values that are one text",
        "are the same text in two Unicode forms",
        GOOD_TASK.replace("[bad, good]", '{"n\\u00e9": bad, "ne\\u0301": good}'),
    ),
    task(
        "a label with a nought in front",
        "labels: '007' is written, YAML reads 7; put the label in quotes",
        GOOD_TASK.replace("[bad, good]", "[007, 12]"),
    ),
    task(
        "a label that is a time",
        "labels: '12:30' is written, YAML reads 750; put the label in quotes",
        GOOD_TASK.replace("[bad, good]", "[12:30, later]"),
    ),
    task(
        "a label that is a number in another base",
        "'0x1F' is written, YAML reads 31",
        GOOD_TASK.replace("[bad, good]", "{0x1F: a, b: c}"),
    ),
    task(
        "a label with a thousands mark",
        "'1_000' is written, YAML reads 1000",
        GOOD_TASK.replace("[bad, good]", "[1_000, 2_000]"),
    ),
    task(
        "a value of the data that YAML reads as a boolean",
        "labels: 'true' is written, YAML reads True; put",
        GOOD_TASK.replace("[bad, good]", "{true: a, false: b}"),
    ),
    task(
        "a label text that YAML reads as a boolean",
        "labels.true: 'yes' is written, YAML reads True; put",
        GOOD_TASK.replace("[bad, good]", "{'true': yes, 'false': no}"),
    ),
    task(
        "a field named on",
        "fields: 'on' is written, YAML reads True; put it in quotes",
        GOOD_TASK.replace("{text:", "{on: the switch, text:"),
    ),
    task(
        "a field named no",
        "fields: 'no' is written, YAML reads False; put it in quotes",
        GOOD_TASK.replace("{text:", "{no: the number, text:"),
    ),
    task(
        "a key of a task that is a boolean",
        "task: 'on' is written, YAML reads True; put it in quotes",
        GOOD_TASK + "on: x\n",
    ),
    task(
        "a column named by a number",
        "columns.text: '1' is written, YAML reads 1; put it in quotes",
        GOOD_TASK + "columns: {text: 1}\n",
    ),
    task(
        "an answer column named by a date",
        "answer: '2024-01-01' is written, YAML reads",
        GOOD_TASK + "answer: 2024-01-01\n",
    ),
]
LOOPING = FREE + "pattern: '((?:x+x+)+)y'\n"
PATTERNS = [
    task(
        "a grader that nothing has",
        "no grader 'os.system'; allowed: choice, regex",
        ROWS_HERE + JUDGED + "{type: os.system}\n",
    ),
    task(
        "a grader that is a path",
        "rows.jsonl'; allowed: choice, regex",
        ROWS_HERE + JUDGED + "{type: '{dir}/rows.jsonl'}\n",
    ),
    task(
        "a grader without a type",
        "grader.type: the name of a grader is needed",
        ROWS_HERE + JUDGED + "{pattern: '(a)'}\n",
    ),
    own(
        "a reference without a number for grader numeric",
        "the reference answer holds no number",
        JUDGED + "{type: numeric}\n",
        {"text": "a", "label": "seven"},
    ),
    own(
        "a pattern that backtracks without end",
        "the reference answer does not match pattern '((?:x+x+)+)y'",
        LOOPING,
        {"text": "a", "label": "y" + "x" * 60},
    ),
    own(
        "a pattern of choices without end",
        "searches the reference answer for over",
        FREE + "pattern: '((?:a|aa)+)$'\n",
        {"text": "a", "label": "a" * 60 + "b"},
    ),
    own(
        "a reference that the pattern misses",
        "the reference answer does not match pattern",
        FREE + "pattern: '#### (.+)'\n",
        {"text": "a", "label": "seven"},
    ),
    task(
        "a pattern nested five thousand deep",
        "pattern: too large; allowed are",
        FREE + f"pattern: '{'(?:' * 5000}(a){')' * 5000}'\n",
    ),
    task(
        "a pattern of groups five thousand deep",
        "pattern: too large; allowed are",
        FREE + f"pattern: '{'(' * 5000}{')' * 5000}'\n",
    ),
    task(
        "a pattern that repeats a billion times",
        "pattern: too large; allowed are",
        FREE + "pattern: '(a{1000000000})'\n",
    ),
    task(
        "a pattern of repeats of repeats",
        "pattern: too large; allowed are",
        FREE + "pattern: '((?:(?:a{100}){100}){100})'\n",
    ),
    task(
        "a pattern of a hundred thousand letters",
        "pattern: too large; allowed are",
        FREE + f"pattern: '({'a' * 100_000})'\n",
    ),
    task(
        "a pattern of five thousand brackets", "pattern: not a regular expression", FREE + f"pattern: '{'[' * 5000}'\n"
    ),
    task("a pattern with two groups", "exactly one group is needed, found 2", FREE + "pattern: '(a)(b)'\n"),
]
CASES = [*COLUMNS, *LABELS, *PATTERNS]
