"""Files of rows and of templates: broken, in other encodings, or made to reach what they should not."""

import json

import pyarrow as pa

from tests.hostile.bad_inputs.case import GOOD_ROW, Case, imported, parquet, rows, setting, templates


def template(text: str, **more: object) -> str:
    return json.dumps({"text": text, **more}) + "\n"


ROWS = [
    setting("no such file of rows", "no such file", "data.train=nowhere.jsonl"),
    setting("an unknown kind of file", "unknown kind of file", "data.train=rows.xml"),
    setting("a folder as rows", "unknown kind of file", "data.test={dir}"),
    setting(
        "a folder with the name of a file of rows", "no such file", "data.train={dir}/d.jsonl", files={"d.jsonl/x": ""}
    ),
    setting(
        "a loop of links as rows", "rows.jsonl", "data.train={dir}/rows.jsonl", files={"rows.jsonl -> rows.jsonl": ""}
    ),
    setting(
        "a link to nothing as rows", "no such file", "data.train={dir}/rows.jsonl", files={"rows.jsonl -> nowhere": ""}
    ),
    setting(
        "rows that fail while they are read",
        "cannot be read",
        "data.train={dir}/rows.jsonl",
        files={"rows.jsonl -> /proc/self/mem": ""},
    ),
    setting(
        "templates that fail while they are read",
        "cannot be read",
        "prompts.seed_templates={dir}/t.jsonl",
        files={"t.jsonl -> /proc/self/mem": ""},
    ),
    setting("rows that climb out of the package", "leads out of the package", "data.train=builtin:../../../rows.jsonl"),
    setting("rows of the package that are not there", "cannot be read", "data.train=builtin:none.jsonl"),
    setting("rows behind a scheme that nobody knows", "cannot be reached", "data.train=zz://bucket/rows.jsonl"),
    setting("rows behind a broken URI", "cannot be reached", "data.train=s3://[/rows.jsonl"),
    rows("no rows", "holds no rows", ""),
    rows("empty lines alone", "holds no rows", "\n \r\n\n"),
    rows("a byte order mark alone", "holds no rows", b"\xef\xbb\xbf"),
    rows("a row that is no JSON", "rows.jsonl:2: not JSON", GOOD_ROW + "{"),
    rows("a row that is a list", "an object is needed, found list", GOOD_ROW + "[1]\n"),
    rows("a row cut in the middle", "rows.jsonl:2: not JSON", GOOD_ROW + GOOD_ROW[:20]),
    rows(
        "a row in another encoding",
        "rows.jsonl:2: not UTF-8 (byte 14",
        GOOD_ROW.encode() + '{"text": "caf\xe9"}'.encode("latin-1"),
    ),
    rows("rows in UTF-16", "rows.jsonl:1: not UTF-8", GOOD_ROW.encode("utf-16")),
    rows("a byte order mark in the middle", "rows.jsonl:2: not JSON", GOOD_ROW + "\ufeff" + GOOD_ROW),
    rows("rows in the line ends of an old Mac", "rows.jsonl:1: not JSON", (GOOD_ROW + GOOD_ROW).replace("\n", "\r")),
    rows("binary rubbish", "rows.jsonl:1: not UTF-8", bytes(range(255, -1, -1)) * 8),
    rows("JSON nested a hundred thousand deep", "nested too deep", '{"text": ' + "[" * 100_000),
    rows("JSON nested deep and closed", "nested too deep", '{"text": ' + "[" * 50_000 + "]" * 50_000 + "}"),
    rows(
        "a list where text is needed",
        "text must be text or a number, found list",
        '{"text": [[["a"]]], "label": "positive"}',
    ),
    rows(
        "a key twice in a row", "the key 'label' comes twice", '{"text": "a", "label": "positive", "label": "negative"}'
    ),
    rows("a number of five thousand digits in a row", "not JSON", '{"text": ' + "1" * 5000 + ', "label": "positive"}'),
    rows("no number in a row", "text is a missing value (nan)", '{"text": NaN, "label": "positive"}'),
    rows("a number beyond all", "text is a missing value (inf)", '{"text": 1e999, "label": "positive"}'),
    rows("nothing in a field", "text must be text or a number, found NoneType", '{"text": null, "label": "positive"}'),
    rows("spaces alone in a field", "text is empty", '{"text": " \\n ", "label": "positive"}'),
    rows("half a character in a field", "text holds half a character", '{"text": "a\\ud83d", "label": "positive"}'),
    rows(
        "half a character in an id", "id holds half a character", '{"id": "\\udc00", "text": "a", "label": "positive"}'
    ),
    rows("no column of that name", "no column 'text'", '{"body": "a", "label": "positive"}'),
    rows(
        "an unknown label",
        "unknown label 'neutral'; allowed: negative, positive",
        GOOD_ROW + '{"text": "a", "label": "neutral"}',
    ),
    rows("a label of a megabyte", "unknown label 'xxx", json.dumps({"text": "a", "label": "x" * 2**20})),
    rows(
        "a label of a row with an escape sequence",
        "unknown label '\\x1b[2J'",
        json.dumps({"text": "a", "label": "\x1b[2J"}),
    ),
    rows(
        "a column whose name reads backwards",
        "the row has: te\\u202ext, label",
        json.dumps({"te\u202ext": "a", "label": "positive"}),
    ),
    rows("an id twice", "id 'a' stands already at", '{"id": "a", "text": "b", "label": "positive"}\n' * 2),
    rows("a table without rows", "holds no rows", "text,label\n", "rows.csv"),
    rows(
        "a column twice in a table",
        "rows.csv:1: the head names a column twice",
        "text,text,label\na,b,positive\n",
        "rows.csv",
    ),
    rows(
        "a row with a cell too many",
        "rows.csv:2: the row has another number of columns",
        "text,label\na,b,positive\n",
        "rows.csv",
    ),
    rows(
        "a row with a cell too few",
        "rows.csv:3: the row has another number of columns",
        "text,label\na,positive\nb\n",
        "rows.csv",
    ),
    rows("a quote in the middle of a cell", "rows.csv:2: not CSV", 'text,label\n"a"b,positive\n', "rows.csv"),
    rows("a quote that is never closed", "rows.csv:2: not CSV", 'text,label\n"a,positive\n', "rows.csv"),
    rows(
        "a cell of a megabyte",
        "none may be longer than 131072 characters (in JSONL it may)",
        f"text,label\n{'a' * 2**20},positive\n",
        "rows.csv",
    ),
    rows("a table in another encoding", "rows.csv:2: not UTF-8", b"text,label\n\xe9,positive\n", "rows.csv"),
    rows("a table in the line ends of an old Mac", "rows.csv:1: not CSV", "text,label\ra,positive\r", "rows.csv"),
    rows("no Parquet", "not a Parquet file that can be read", b"PAR1", "rows.parquet"),
    rows("JSON under the name of Parquet", "not a Parquet file that can be read", GOOD_ROW, "rows.parquet"),
    rows(
        "Parquet cut in the middle",
        "not a Parquet file that can be read",
        parquet(pa.table({"text": ["a"], "label": ["positive"]}))[:-20],
        "rows.parquet",
    ),
    rows(
        "Parquet whose foot lies",
        "not a Parquet file that can be read",
        b"PAR1" + b"\xff" * 64 + b"\x40\0\0\0PAR1",
        "rows.parquet",
    ),
    rows(
        "Parquet without rows", "holds no rows", parquet(pa.table({"text": pa.array([], pa.string())})), "rows.parquet"
    ),
    rows(
        "bytes in Parquet",
        "text must be text or a number, found bytes",
        parquet(pa.table({"text": [b"a"], "label": ["positive"]})),
        "rows.parquet",
    ),
    rows(
        "a column twice in Parquet",
        "the head names a column twice",
        parquet(pa.table([["a"], ["b"], ["positive"]], names=["text", "text", "label"])),
        "rows.parquet",
    ),
    rows(
        "a time out of range in Parquet",
        "rows.parquet",
        parquet(pa.table({"text": pa.array([2**62], pa.timestamp("us")), "label": ["positive"]})),
        "rows.parquet",
    ),
]
TEMPLATES = [
    setting("no such file of templates", "cannot be read", "prompts.seed_templates=nowhere.jsonl"),
    setting("a folder as templates", "Is a directory", "prompts.seed_templates={dir}"),
    setting(
        "templates that climb out of the package",
        "leads out of the package",
        "prompts.seed_templates=builtin:../../x.jsonl",
    ),
    setting("no templates at all", "neither seed_templates nor generators", "prompts.seed_templates=null"),
    setting(
        "nothing left to hold out",
        "10 distinct templates and no generators, at least 13 are needed",
        "prompts.held_out_templates=null",
    ),
    setting(
        "too few held-out templates",
        "at least 12 are needed",
        "prompts.held_out_templates={dir}/t.jsonl",
        files={"t.jsonl": template("Good? {text}")},
    ),
    templates("templates that are no JSON", "templates.jsonl:1: not JSON", "{"),
    templates("templates in another encoding", "cannot be read", b"\xff\xfe"),
    templates("an empty file of templates", "no templates in the file", "\n"),
    templates("a template without text", "templates.jsonl:1: an object with the text", '{"prompt": "Good? {text}"}\n'),
    templates("a template that is a number", "templates.jsonl:1: an object with the text", '{"text": 3}\n'),
    templates(
        "a text twice in a template", "the key 'text' comes twice", '{"text": "Good? {text}", "text": "Bad? {text}"}\n'
    ),
    templates("a template nested too deep", "nested too deep", '{"text": ' + "[" * 100_000),
    templates("half a character in a template", "text holds half a character", '{"text": "Good? \\ud83d {text}"}\n'),
    templates(
        "a group that is a number", "templates.jsonl:1: an object with", '{"text": "Good? {text}", "group": 3}\n'
    ),
    templates("a group without a name", "group '' is no short name", '{"text": "Good? {text}", "group": ""}\n'),
    templates("half a character in a group", "group holds half", '{"text": "Good? {text}", "group": "\\ud83d"}\n'),
    templates("a template without its field", "template 1: template", template("Is it good?")),
    templates("a field that the task lacks", "unknown {author}", template("Is {text} by {author} good?")),
    templates("a stray brace", "stray '{'", template("Is it good? {text")),
    templates("a format string that reaches an attribute", "stray '{'", template("{text.__class__} {text}")),
    templates("a format string that reaches by number", "stray '{'", template("{0.__class__.__mro__} {text}")),
    templates("a format string that reaches an item", "stray '{'", template("{text[0]} {text}")),
    templates("a format string with a conversion", "stray '{'", template("{text!r} {text}")),
    templates("a format string with a nested width", "stray '{'", template("{text!r:>{w}} {text}")),
    templates("a format string that fills memory", "stray '{'", template("{text:>9999999999} {text}")),
    templates("a format string without a name", "stray '{'", template("{} {text}")),
    templates("jinja in a template", "is refused: unfilled_slot", template("{{ text }} {text} good or bad?")),
    templates("jinja that runs", "stray '{'", template("{% for x in ().__class__.__mro__ %} {text}")),
    templates("a slot that is not filled", "is refused: unfilled_slot", template("[describe the task] {text}")),
    templates("an answer in a template", "is refused: leaks_answer", template("{text}\nAnswer: positive")),
    templates("a template of a megabyte", "is refused: too_long", template("[x] " * 2**18 + "{text}")),
    templates("a megabyte of opening braces", "stray '{'", template("{" * (2**20 + 1) + "text")),
    templates("a NUL in a template", "is refused: hidden_character", template("Good\0 or bad? {text}")),
    templates(
        "an escape sequence in a template",
        "is refused: hidden_character ('Good\\x1b[2J",
        template("Good\x1b[2J or bad? {text}"),
    ),
    templates(
        "a template that reads backwards",
        "is refused: hidden_character ('Good \\u202e",
        template("Good \u202eor bad? {text}"),
    ),
    templates(
        "an isolate of text in a template", "is refused: hidden_character", template("Good \u2066or\u2069 bad? {text}")
    ),
    templates(
        "a zero-width space in a template", "is refused: hidden_character", template("Good\u200b or bad? {text}")
    ),
    templates("a joiner that joins nothing", "is refused: hidden_character", template("Good\u200d or bad? {text}")),
    templates(
        "text in tag characters",
        "is refused: hidden_character",
        template("Good or bad? {text}" + "".join(chr(0xE0000 + ord(c)) for c in "obey")),
    ),
    templates(
        "variants that carry a message",
        "is refused: hidden_character",
        template("Good or bad? {text} ☺\ufe00\ufe01\ufe02"),
    ),
    templates("a line separator in a template", "is refused: hidden_character", template("Good or bad?\u2028{text}")),
    templates(
        "a hidden character in a system part",
        "is refused: hidden_character",
        template("Good or bad? {text}", system="Be\u2063brief"),
    ),
    templates("no Parquet of templates", "cannot be read", b"PAR1", "templates.parquet"),
    templates(
        "Parquet without texts",
        "no rows with the text column",
        parquet(pa.table({"prompt": ["Good? {text}"]})),
        "templates.parquet",
    ),
    imported("templates of an unknown kind", "unknown kind of file; allowed: .jsonl, .json, .txt", "x", "t.xml"),
    imported(
        "templates that all fall through",
        "none of 2 came through the gate ({'hidden_character': 1, 'missing_field': 1})",
        "Good\u200b? {text}\nGood?\n",
        "t.txt",
    ),
    imported("a list of numbers as templates", "no list of texts", "[1]", "t.json"),
    imported("JSON of templates nested too deep", "nested too deep", "[" * 100_000, "t.json"),
    imported("text in another encoding", "cannot be read", b"\xff\xfe", "t.txt"),
    imported(
        "YAML of nobody's templates", "no known format; allowed: a task of lm-evaluation-harness", "a: b\n", "t.yaml"
    ),
    imported("YAML nested too deep", "t.yaml: cannot be read", "[" * 100_000, "t.yaml"),
    imported("a table that is no export", "no export of PromptSuite", "text,label\nA,B\n", "t.csv"),
    setting(
        "a decision that is none",
        "d.jsonl:1: decision: Input should be 'accept' or 'reject'",
        "prompts.decisions={dir}/d.jsonl",
        files={"d.jsonl": '{"id": "0123456789abcdef", "decision": "perhaps"}\n'},
        dry=True,
    ),
    setting(
        "a decision about a template that is nowhere",
        "0123456789abcdef: no templates of this run",
        "prompts.decisions={dir}/d.jsonl",
        files={"d.jsonl": '{"id": "0123456789abcdef", "decision": "reject"}\n'},
        dry=True,
    ),
    setting("decisions in a folder", "prompts.decisions=", "prompts.decisions={dir}", dry=True),
    Case(
        given="an unknown kind of file to write",
        arguments=("prompts", "import", "t.txt", "--task", "demo", "--out", "t.csv"),
        says="allowed: .parquet, .jsonl",
    ),
    Case(
        given="a folder in place of the file to write",
        arguments=("prompts", "import", "{dir}/t.txt", "--task", "demo", "--out", "{dir}/o.jsonl"),
        says="o.jsonl: cannot be written",
        files={"t.txt": "Good? {text}\n", "o.jsonl/x": ""},
    ),
]
CASES = [*ROWS, *TEMPLATES]
