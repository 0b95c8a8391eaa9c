"""Prompts hold the start token that the model was trained with, never an end token, whatever the tokenizer adds; chat
prompts never a second one."""

import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from paft_ray.errors import UserError
from paft_ray.models.resolve import load_tokenizer, tokenizer_errors
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.template import PromptTemplate
from paft_ray.prompts.tokens import PromptTokens
from paft_ray.tasks.task import Example, load_task

TASK = load_task("demo")
TEMPLATE = PromptTemplate(text="Review: {text}\nAnswer:")
ROW = Example(id="1", fields={"text": "a fine film"}, answer="positive")
WORDS = ["<unk>", "<s>", "</s>", "a", "fine", "film", "Review", ":", "Answer", "positive", "negative", "x", "user"]
CHAT = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %} Answer:"
TEXT = ["Review", ":", "a", "fine", "film", "Answer", ":"]


def adds(front: str, behind: str, *special: str) -> processors.TemplateProcessing:
    single = [*front.split(), "$A", *behind.split()]
    return processors.TemplateProcessing(
        single=single, pair=[*single, "$B"], special_tokens=[(t, WORDS.index(t)) for t in special]
    )


def saved(
    folder: Path, processor: object, *, model_type: str = "llama", bos: str = "<s>", eos: str = "</s>", **config: object
) -> str:
    """A folder with a tokenizer of words and a configuration, no weights."""
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if processor is not None:
        made.post_processor = processor
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=bos, eos_token=eos, unk_token=WORDS[0], chat_template=CHAT
    )
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    if config:
        stated = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**stated, **config}))
    return str(folder)


def words(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    return [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]


KINDS = {
    "neither": (None, {}, []),
    "neither, but a start token is named": (adds("", ""), {}, []),
    "start": (adds("<s>", "", "<s>"), {}, ["<s>"]),
    "end": (adds("", "</s>", "</s>"), {}, []),
    "both": (adds("<s>", "</s>", "<s>", "</s>"), {}, ["<s>"]),
    "two ends": (adds("<s>", "</s> </s>", "<s>", "</s>"), {}, ["<s>"]),
    "an end in front": (adds("</s>", "", "</s>"), {}, []),
    "a start that is the end": (adds("<s>", "<s>", "<s>"), {"eos": "<s>"}, ["<s>"]),
    "after other steps": (
        processors.Sequence([processors.ByteLevel(), adds("<s>", "</s>", "<s>", "</s>")]),
        {},
        ["<s>"],
    ),
    "end, by the setting of many fine-tuned models": (adds("", ""), {"add_eos_token": True}, []),
    "both, by settings": (adds("", ""), {"add_bos_token": True, "add_eos_token": True}, ["<s>"]),
    "neither, of a Gemma": (adds("", ""), {"model_type": "gemma3_text"}, ["<s>"]),
    "start, of a Gemma": (adds("<s>", "", "<s>"), {"model_type": "gemma2"}, ["<s>"]),
    "end, of a Gemma": (adds("", "</s>", "</s>"), {"model_type": "gemma"}, ["<s>"]),
    "start, switched off in a Gemma": (adds("", ""), {"model_type": "gemma3", "add_bos_token": False}, ["<s>"]),
}


@pytest.mark.parametrize(("processor", "settings", "start"), KINDS.values(), ids=KINDS)
def test_a_prompt_begins_with_the_start_token_of_training_and_holds_no_end_token(
    processor, settings, start: list[str], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(saved(tmp_path, processor, **settings))
    encoder = Encoder(TASK, tokenizer)
    row = encoder.encode(TEMPLATE, ROW)
    end = str(tokenizer.eos_token)
    assert words(tokenizer, row.prompt_ids) == [*start, *TEXT]
    assert words(tokenizer, row.answer_ids) == ["positive", end]
    assert [words(tokenizer, ids) for ids in encoder.label_ids(False).values()] == [
        ["negative", end],
        ["positive", end],
    ]
    assert encoder.label_ids(row.after_newline)["positive"] == row.answer_ids
    assert PromptTokens(tokenizer).plain("a fine film") == tokenizer("a fine film")["input_ids"], "what a server reads"


@pytest.mark.parametrize(("processor", "settings", "start"), KINDS.values(), ids=KINDS)
def test_a_chat_prompt_holds_what_the_template_writes_and_nothing_else(
    processor, settings, start: list[str], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(saved(tmp_path, processor, **settings))
    ids = Encoder(TASK, tokenizer, chat=True).encode(TEMPLATE, ROW).prompt_ids
    assert words(tokenizer, ids) == ["<s>", "user", ":", *TEXT, "Answer", ":"]


@pytest.mark.parametrize(("processor", "settings", "start"), KINDS.values(), ids=KINDS)
def test_a_saved_tokenizer_still_adds_the_start_token_alone(
    processor, settings, start: list[str], tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    load_tokenizer(saved(tmp_path / "base", processor, **settings)).save_pretrained(tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text('{"model_type": "llama"}')
    tokenizer = load_tokenizer(str(tmp_path / "out"))
    assert words(tokenizer, tokenizer("a fine film")["input_ids"]) == [*start, "a", "fine", "film"]


def pieces() -> Tokenizer:
    """Letters with a mark for the space before, as SentencePiece models of the Llama family have them."""
    vocab = {
        token: i for i, token in enumerate(["<unk>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyzRA:\n", "▁a"])
    }
    made = Tokenizer(BPE(vocab, [("▁", "a")], unk_token=WORDS[0]))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Replace("▁", " ")
    return made


@pytest.mark.parametrize(("start", "end"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_llama_tokenizer_saved_with_its_settings_is_read_as_it_was_trained(
    start: bool, end: bool, tmp_path: Path
) -> None:
    made = pieces()
    special = [("<s>", 1), ("</s>", 2)]
    made.post_processor = processors.TemplateProcessing(
        single=[*["<s>"] * start, "$A", *["</s>"] * end], pair=["$A", "$B"], special_tokens=special
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=WORDS[1],
        eos_token=WORDS[2],
        unk_token=WORDS[0],
        add_eos_token=end,
        add_bos_token=start,
    )
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    read = load_tokenizer(str(tmp_path))
    row = Encoder(TASK, read).encode(TEMPLATE, ROW)
    assert words(read, row.prompt_ids) == [*["<s>"] * start, *"▁Review:", "▁a", *"▁fine▁film\nAnswer:"]
    assert words(read, row.answer_ids) == [*"▁positive", "</s>"]


def test_a_panic_of_a_tokenizer_writes_nothing_and_what_works_may_write(capfd: pytest.CaptureFixture[str]) -> None:
    def panics() -> None:
        with tokenizer_errors("m"):
            os.write(2, b"pages of frames")
            raise BaseException("out of bounds")

    with pytest.raises(UserError, match=r"model m: no tokenizer that can be read \(out of bounds\)"):
        panics()
    with tokenizer_errors("m"):
        os.write(2, b"a warning")
    assert capfd.readouterr().err == "a warning"


def test_the_end_token_of_a_gpt2_tokenizer_in_front_is_its_start_token(tmp_path: Path) -> None:
    folder = saved(tmp_path, adds("<s>", "", "<s>"), model_type="gpt2", eos="<s>", add_bos_token=True)
    tokenizer = load_tokenizer(folder)
    assert words(tokenizer, Encoder(TASK, tokenizer).encode(TEMPLATE, ROW).prompt_ids) == ["<s>", *TEXT]


@pytest.mark.parametrize("kind", ["end", "both", "two ends", "an end in front", "after other steps"])
def test_an_encoder_takes_no_end_token_from_a_tokenizer_as_it_was_saved(kind: str, tmp_path: Path) -> None:
    processor, _, start = KINDS[kind]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(saved(tmp_path, processor))
    assert "</s>" in words(tokenizer, tokenizer("a")["input_ids"])
    assert words(tokenizer, Encoder(TASK, tokenizer).encode(TEMPLATE, ROW).prompt_ids) == [*start, *TEXT]
    assert words(tokenizer, PromptTokens(tokenizer).plain("a film")) == [*start, "a", "film"]


def test_an_end_token_that_is_a_piece_of_the_vocabulary_is_not_read_from_a_field() -> None:
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((letter, -3.0) for letter in "▁aefilmnopstv:</>")]
    made = Tokenizer(Unigram(pieces, unk_id=0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=WORDS[2], unk_token=WORDS[0])
    row = Example(id="1", fields={"text": "a</s>film</s>"}, answer="positive")
    ids = Encoder(TASK, tokenizer).encode(PromptTemplate(text="{text}:"), row).prompt_ids
    assert "".join(words(tokenizer, ids)) == "a</s>film</s>:"
    assert tokenizer.eos_token_id not in ids
