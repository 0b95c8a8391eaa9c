"""Chat templates are outside code: rendered in a child with limits, on the same day every day, as transformers renders
them."""

from datetime import datetime
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from paft_ray.errors import UserError
from paft_ray.prompts import chat, chat_child
from paft_ray.prompts.chat import open_thinking, render
from paft_ray.prompts.encode import Encoder
from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Example, load_task
from tests.unit.prompts.test_encode import CHATML, WordTokenizer

TASK = load_task("demo")
USER = [{"role": "user", "content": "hello"}]
TEMPLATE = PromptTemplate(text="Review: {text}\nAnswer:")
TURNS = "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
SWITCH = TURNS + "<|start|>assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"


def encoder(chat_template: str, **variables: Any) -> Encoder:
    return Encoder(TASK, WordTokenizer(chat_template=chat_template), chat=True, chat_template_kwargs=variables)  # type: ignore[arg-type]


def written(chat_template: str, **variables: Any) -> str:
    return render(WordTokenizer(chat_template=chat_template), USER, variables).text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        "{{ bos_token }}{% generation %}\n  {{ messages[0].content | tojson(indent=2) }}{% endgeneration %}!",
        "{%- for m in messages %}\n    {%- if m.role == 'system' %}{% continue %}{% endif %}\n{{ m['content'] | "
        "trim }}\n{% endfor %}",
        "{% if tools is none and documents is none %}{{ date_string }}{% endif %}{{ missing }}{{ "
        "add_generation_prompt }}",
        "{% macro turn(m) %}{{ m.role }}: {{ m.content }}{% endmacro %}{% set ns = namespace(n=0) %}{{ "
        "turn(messages[0]) }}{{ ns.n }}",
    ],
)
def test_the_child_writes_what_transformers_writes(template: str) -> None:
    names = {**WordTokenizer().special_tokens_map, "date_string": "26 Jul 2024"}
    rendered, _ = chat_template_utils.render_jinja_template(
        [USER], chat_template=template, add_generation_prompt=True, **names
    )
    assert written(template) == rendered[0]


@pytest.mark.parametrize(
    "clock",
    [
        "strftime_now('%d %B %Y')",
        "strftime_now('%Y-%m-%d %H:%M:%S.%f')",
        "date_string",
        "range(10**5) | random",
        "lipsum()",
    ],
)
def test_a_prompt_is_the_same_on_two_days(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = []
    for day in (28, 29):

        class Clock(datetime):
            today_is = day

            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime(2026, 11, cls.today_is)

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)
        tokenizer = WordTokenizer(chat_template=f"Today: {{{{ {clock} }}}}\n{TURNS}<|start|>assistant\n")
        made = Encoder(TASK, tokenizer, chat=True)  # type: ignore[arg-type]
        ids = made.encode(TEMPLATE, Example(id="1", fields={"text": "a fine film"}, answer="positive")).prompt_ids
        prompts.append(tokenizer.read(ids))
        chat._rendered.cache_clear()
    assert prompts[0] == prompts[1]


def test_the_two_ways_to_a_date_give_the_same_one() -> None:
    assert written("{{ date_string }}") == written("{{ strftime_now('%d %b %Y') }}") == "26 Jul 2024"


@pytest.mark.parametrize(
    "prompt",
    [
        "<|im_start|>assistant\n<think>\n",
        "<Assistant><thinking>",
        "[/INST][THINK]",
        "<reasoning>\n",
        "<thought>",
        "<|start|>assistant<|channel|>analysis<|message|>",
        "<|START_THINKING|>",
        "<seed:think>",
        "◁think▷",
        "<|begin_of_thought|>",
        "<think></think><think>",
        "<scratchpad>",
        "<|inner_prefix|>",
        "<|channel>thought\n",
        "<｜Assistant｜><think>\n",
        '<think budget="low">\n',
        "< think >",
        "<|im_start|>think\n",
        "<|start_header_id|>reasoning<|end_header_id|>\n\n",
        "<|thinking_start|>\n",
    ],
)
def test_an_open_block_of_thinking_is_found(prompt: str) -> None:
    assert open_thinking(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "<|im_start|>assistant\n",
        "<think>\n\n</think>\n\n",
        "<｜Assistant｜></think>",
        "[THINK][/THINK]",
        "◁think▷◁/think▷",
        "<|START_THINKING|><|END_THINKING|>",
        "<|begin_of_thought|>\n<|end_of_thought|>",
        "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>",
        "/no_think\n<assistant>",
        "<|channel>thought\n<channel|>",
        "<start_of_turn>model\n",
        "<no_think>",
        "I think <b>",
        "<|inner_prefix|><|inner_suffix|>",
        "<think/>",
        "<think />",
        "< think ></ think >",
        "<|thinking_start|>\n<|thinking_end|>",
        "<|thought-begin|><|thought-end|>\n",
        "<|im_start|>think\n<|im_end|>\n<|im_start|>assistant\n",
        "a < think b > c",
        "[thinking mode off]",
    ],
)
def test_a_prompt_without_an_open_block_passes(prompt: str) -> None:
    assert open_thinking(prompt) is None


def test_an_open_block_is_refused_with_the_setting_that_closes_it() -> None:
    with pytest.raises(
        UserError,
        match=r"\(<think>\) .* set model\.chat_template_kwargs=\{enable_thinking: false\}, or model\.chat=false",
    ):
        encoder(SWITCH).check(TEMPLATE)
    encoder(SWITCH, enable_thinking=False).check(TEMPLATE)
    with pytest.raises(
        UserError, match=r"no variable of the template \(model\.chat_template_kwargs\) closes it; set model\.chat=false"
    ):
        encoder(TURNS + "<|start|>assistant\n<think>\n").check(TEMPLATE)
    with pytest.raises(UserError, match="leaves it open"):
        encoder(SWITCH, enable_thinking=True).check(TEMPLATE)
    with pytest.raises(UserError, match="does not read think; it reads enable_thinking, messages"):
        encoder(SWITCH, think=False).check(TEMPLATE)


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ 'a' * 10**10 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor "
        "%}{% endfor %}",
        "{% set ns = namespace(t='ab') %}{% for i in range(60) %}{% set ns.t = ns.t.replace('a', 'aa') ~ ns.t "
        "%}{% endfor %}{{ ns.t }}",
        "{% for i in range(99999) %}{{ '%099999d' % i }}{% endfor %}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 'x' * 2000000 }}",
    ],
)
def test_a_template_that_takes_too_much_is_ended(bomb: str) -> None:
    with pytest.raises(UserError, match="takes too long or too much memory"):
        written(bomb + CHATML)


@pytest.mark.parametrize(
    "fault",
    [
        "{{ 1 / 0 }}",
        "{{ 1 + 'a' }}",
        "{{ missing.name }}",
        "{{ raise_exception('no system') }}",
        "{% for %}",
        "{{ messages.__class__.__mro__ }}",
        "{% include 'x' %}",
        "{{ [][1].x }}",
        "{{ strftime_now(3) }}",
        "{{ '\ud83d' }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ range(10**9) }}",
    ],
)
def test_whatever_a_template_does_wrong_is_one_line(fault: str) -> None:
    with pytest.raises(UserError, match="chat template refuses user") as error:
        written(fault + CHATML)
    assert "\n" not in str(error.value)


def test_a_template_is_rendered_once_for_each_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = CHATML + "once"
    first = written(text)
    monkeypatch.setattr(chat_child, "__file__", "/nowhere")
    assert written(text) == first


def test_the_environment_does_not_reach_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    assert written("{{ messages[0].content }} here") == "hello here"


@pytest.mark.parametrize("template", ["{{ joiner() }}", "{{ (cycler('a') | string)[-8:-1] }}", "{{ '%s' % lipsum }}"])
def test_what_differs_from_process_to_process_is_refused(template: str) -> None:
    with pytest.raises(UserError, match=r"writes another text each time; fix it, or set model\.chat=false"):
        written(template)
