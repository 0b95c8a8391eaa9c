"""Settings that YAML would cut, and places that only a home would explain."""

from tests.hostile.bad_inputs.case import Case, setting

CASES: list[Case] = [
    setting(
        "a comment behind a number",
        "would leave it out; put the text into quotes",
        "train.num_steps=10 # as in the paper",
        dry=True,
    ),
    setting(
        "a comment behind a mapping",
        "would leave it out; put the text into quotes",
        "engine.engine_kwargs={max_num_seqs: 8} # few",
        dry=True,
    ),
    setting(
        "a comment behind quotes", "would leave it out; put the text into quotes", "storage='/data' # here", dry=True
    ),
    setting(
        "a comment alone for a number",
        "would leave it out; put the text into quotes",
        "train.global_batch=#8",
        dry=True,
    ),
    setting(
        "rows in the home of nobody", "~nobody-has-this-name", "data.train=~nobody-has-this-name/rows.jsonl", dry=True
    ),
    setting("a task in the home of nobody", "no such task", "task=~nobody-has-this-name/t.yaml", dry=True),
    setting(
        "templates in the home of nobody",
        "~nobody-has-this-name",
        "prompts.seed_templates=~nobody-has-this-name/t.jsonl",
        dry=True,
    ),
]
