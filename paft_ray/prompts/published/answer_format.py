"""Whether the answer that a template asks for is one that the task's grader reads."""

from __future__ import annotations

import re

from paft_ray.prompts.template import PromptTemplate
from paft_ray.tasks.task import Task

_FORMS = {
    r"\\boxed\b": r"\boxed{%s}",
    r"[\"'“‘]\s*the\s+(?:\w+\s+)?answer(?:\s+is\b|\s*[:：])|\banswer\s+is\s*:?\s*[\[(<]": "The answer is %s",
    r"\bformat\b[^.]{0,20}?\banswer\s*:": "Answer: %s",
    r"<answer>": "<answer>%s</answer>",
    r"\bjson\b": '{"answer": "%s"}',
    r"####": "#### %s",
}
"""How a form is named in a template -> an answer in this form."""
_REASONING = re.compile(
    r"\bstep[- ]by[- ]step\b|\bchain[- ]of[- ]thought\b|\breason\s+and\s+give\b"
    r"|\bexplain(?:ing)?\s+(?:your|the)\b|\b(?:show(?:ing)?|giv(?:e|ing)|provid(?:e|ing))\s+your\s+(?:reasoning|work)\b",
    re.IGNORECASE,
)

_ORDERS = re.compile(
    r"\b(?:write|create|generate|compose)\s+(?:a|an|another|one)\s+(?:[\w-]+\s+){0,3}?(?:problem|question|article|goal|"
    r"story|sentence|text|review)\b",
    re.IGNORECASE,
)
"""An order to write what a task gives."""
_RATING = re.compile(r"\bscale\s+(?:of|from)\b", re.IGNORECASE)
_CHOICE = re.compile(r"\bmultiple[- ]choice\b", re.IGNORECASE)


def other_form(template: PromptTemplate, task: Task) -> str | None:
    """The reason why an answer as the template asks for it could not be judged; None where it could.

    `other_task`: it asks for another text like those of the rows, for a rating and no label, or for a choice where
    there are no labels; `other_answer_format`: a form that the grader does not read; `asks_for_reasoning`: words before
    a label.
    """
    text = f"{template.system or ''}\n{template.text}"
    if _ORDERS.search(text) or (_RATING if task.label_texts else _CHOICE).search(text):
        return "other_task"
    answer = task.label_texts[0] if task.label_texts else "42"
    for form, example in _FORMS.items():
        if re.search(form, text, re.IGNORECASE) and task.grader.parse(example % answer) is None:
            return "other_answer_format"
    return "asks_for_reasoning" if task.label_texts and _REASONING.search(text) else None
