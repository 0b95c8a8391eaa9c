"""The token boundary with a small tokenizer of our own, with and without a start token. Invariants 8 and 12; the real
tokenizer is in tests/integration."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from paft_ray.errors import UserError
from paft_ray.prompts.encode import Encoded, Encoder, encode
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example, load_task

TASK = load_task("demo")
TEMPLATE = PromptTemplate(text="Review: {text}\nAnswer:")
ROW = Example(id="1", fields={"text": "a good film"}, answer="positive")
SPECIAL = re.compile(r"(<\|\w+\|>)")
CHATML = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt "
    "%}<|start|>assistant\n{% endif %}"
)
PIECES = re.compile(r" ?\w+|\s|[^\w\s]")


class WordTokenizer:
    """Words with the space before them are tokens, as in byte-level BPE; special tokens are recognised unless they are
    to be split."""

    def __init__(self, *, start: bool = False, chat_template: str | None = CHATML) -> None:
        self.words = ["<|end|>", "<|begin|>", "<|start|>"]
        self.all_special_tokens = self.words[:2]  # the named ones, as in real tokenizers
        self.added_tokens_decoder = {i: AddedToken(word, special=True) for i, word in enumerate(self.words)}
        self.eos_token_id: int | None = 0
        self.special_tokens_map = {"eos_token": "<|end|>", "bos_token": "<|begin|>"}
        self.start = start
        self.chat_template = chat_template

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> dict[str, list[int]]:
        chunks = [text] if split_special_tokens else SPECIAL.split(text)
        pieces = [
            piece
            for chunk in chunks
            for piece in ([chunk] if chunk in self.words[:3] and not split_special_tokens else PIECES.findall(chunk))
        ]
        ids = [self.id_of(piece) for piece in pieces]
        return {"input_ids": [1, *ids] if self.start and add_special_tokens else ids}

    def id_of(self, piece: str) -> int:
        if piece not in self.words:
            self.words.append(piece)
        return self.words.index(piece)

    def get_chat_template(self) -> str | None:
        return self.chat_template

    def read(self, ids: list[int]) -> list[str]:
        return [self.words[i] for i in ids]


def encoded(
    tokenizer: WordTokenizer, template: PromptTemplate = TEMPLATE, row: Example = ROW, **options: object
) -> Encoded:
    return Encoder(TASK, tokenizer, **options).encode(template, row)  # type: ignore[arg-type]


def test_exactly_the_answer_and_its_end_token_are_answer_ids() -> None:
    tokenizer = WordTokenizer()
    row = encoded(tokenizer)
    assert tokenizer.read(row.prompt_ids) == ["Review", ":", " a", " good", " film", "\n", "Answer", ":"]
    assert tokenizer.read(row.answer_ids) == [" positive", "<|end|>"]


def test_trailing_spaces_are_stripped_and_line_breaks_kept() -> None:
    tokenizer = WordTokenizer()
    assert encoded(tokenizer, PromptTemplate(text="Review: {text}\nAnswer: \t ")) == encoded(tokenizer)
    row = encoded(tokenizer, PromptTemplate(text="Review: {text}\n"))
    assert tokenizer.read(row.prompt_ids)[-1] == "\n"
    assert (row.after_newline, tokenizer.read(row.answer_ids)) == (True, ["positive", "<|end|>"])


@pytest.mark.parametrize("start", [False, True])
def test_prompt_and_answer_together_are_the_ids_of_the_whole_text(start: bool) -> None:
    tokenizer = WordTokenizer(start=start)
    row = encoded(tokenizer)
    whole = tokenizer("Review: a good film\nAnswer: positive", add_special_tokens=True, split_special_tokens=False)[
        "input_ids"
    ]
    assert row.prompt_ids + row.answer_ids == [*whole, 0]


def test_a_start_token_stands_once_in_plain_input_and_is_left_to_the_template_in_chat_input() -> None:
    tokenizer = WordTokenizer(start=True)
    assert encoded(tokenizer).prompt_ids.count(1) == 1
    assert encoded(tokenizer, chat=True).prompt_ids.count(1) == 0


def test_a_system_part_stands_above_plain_text_and_in_its_own_chat_turn() -> None:
    tokenizer = WordTokenizer()
    template = PromptTemplate(text="{text}", system="Be brief")
    assert tokenizer.read(encoded(tokenizer, template).prompt_ids)[:4] == ["Be", " brief", "\n", "\n"]
    assert tokenizer.read(encoded(tokenizer, template, chat=True).prompt_ids)[:5] == [
        "<|start|>",
        "system",
        "\n",
        "Be",
        " brief",
    ]


@given(text=st.text(alphabet="ab <|end|>\n{}start", min_size=1, max_size=30).filter(str.strip))
@pytest.mark.parametrize("chat", [False, True])
def test_special_tokens_come_from_the_chat_template_alone(chat: bool, text: str) -> None:
    tokenizer = WordTokenizer()
    row = Example(id="1", fields={"text": f"{text}<|end|>{text}"}, answer="negative")
    count = sum(i < 3 for i in encoded(tokenizer, row=row, chat=chat).prompt_ids)
    assert count == (3 if chat else 0)


def test_a_special_token_in_a_system_part_is_text_too() -> None:
    tokenizer = WordTokenizer()
    row = encoded(tokenizer, PromptTemplate(text="{text}", system="<|end|> obey"), chat=True)
    assert sum(i < 3 for i in row.prompt_ids) == 5


@given(length=st.integers(1, 200), limit=st.integers(12, 60))
def test_a_long_field_is_cut_to_the_longest_that_fits(length: int, limit: int) -> None:
    tokenizer = WordTokenizer()
    text = " ".join(["word"] * length)
    row = encoded(tokenizer, row=Example(id="1", fields={"text": text}, answer="positive"), max_prompt_tokens=limit)
    assert len(row.prompt_ids) == min(limit, length + 5)
    assert (row.truncated_characters > 0) == (length + 5 > limit)
    assert tokenizer.read(row.prompt_ids)[-3:] == ["\n", "Answer", ":"]
    assert tokenizer.read(row.answer_ids) == [" positive", "<|end|>"]


def test_only_the_named_field_is_cut() -> None:
    task = load_task("piqa")
    row = Example(id="1", fields={"goal": "g " * 30, "sol1": "one two three", "sol2": "four five"}, answer="A")
    tokenizer = WordTokenizer()
    template = PromptTemplate(text="{goal} A {sol1} B {sol2}")
    made = Encoder(task, tokenizer, max_prompt_tokens=36, truncate_field="sol1").encode(template, row)  # type: ignore[arg-type]
    assert tokenizer.read(made.prompt_ids).count(" g") == 29
    assert " three" not in tokenizer.read(made.prompt_ids)
    assert tokenizer.read(made.prompt_ids)[-2:] == [" four", " five"]


def test_a_prompt_that_fits_is_not_touched() -> None:
    assert encoded(WordTokenizer()).truncated_characters == 0
    assert encode(TASK, TEMPLATE, ROW, WordTokenizer()).prompt_ids == encoded(WordTokenizer()).prompt_ids  # type: ignore[arg-type]


def test_label_ids_are_the_answer_ids_of_each_label() -> None:
    tokenizer = WordTokenizer()
    encoder = Encoder(TASK, tokenizer)  # type: ignore[arg-type]
    row = encoder.encode(TEMPLATE, ROW)
    assert encoder.label_ids(row.after_newline)["positive"] == row.answer_ids
    assert list(encoder.label_ids(False)) == ["negative", "positive"]


def test_what_a_tokenizer_lacks_is_said() -> None:
    tokenizer = WordTokenizer(chat_template=None)
    with pytest.raises(UserError, match="no chat template"):
        encoded(tokenizer, chat=True)
    with pytest.raises(UserError, match="truncate_field=body: not a field of task demo; allowed: text"):
        encoded(tokenizer, truncate_field="body")
    tokenizer.eos_token_id = None
    with pytest.raises(UserError, match="no EOS token"):
        encoded(tokenizer)
    with pytest.raises(UserError, match=r"6 tokens without its fields, model\.max_prompt_tokens=3 are allowed"):
        encoded(WordTokenizer(), max_prompt_tokens=3)
