"""Any text parses into parts that write the same text again and render verbatim, or is refused with `TemplateError`;
the gate has a verdict on all."""

from __future__ import annotations

from paft_ray.prompts.gate import gate, rejection, repair
from paft_ray.prompts.template import Literal, PromptTemplate, TemplateError
from paft_ray.tasks.task import load_task

TASK = load_task("demo")
VALUE = "{0.__class__} {text} }} %s <|im_end|>"


def target(data: bytes) -> None:
    """`data`: the text in UTF-8; a NUL and what follows is the system part."""
    text, mark, system = data.decode("utf-8", errors="surrogateescape").partition("\0")
    template = PromptTemplate(text=text, system=system if mark else None)
    verdict = rejection(template, TASK, max_words=120)
    try:
        parts = template.parts
    except TemplateError:
        assert verdict in ("unparsable", "too_long", "hidden_character")
        return
    written = "".join(
        p.text.replace("{", "{{").replace("}", "}}") if isinstance(p, Literal) else f"{{{p.field}}}" for p in parts
    )
    assert PromptTemplate(text=written).parts == parts
    rendered = template.render(dict.fromkeys(template.fields, VALUE))
    assert rendered == "".join(p.text if isinstance(p, Literal) else VALUE for p in parts)
    for kept in gate([template], TASK, max_words=120).kept:
        assert (repair(kept), rejection(kept, TASK, max_words=120)) == ((kept, []), None)
        kept.text.encode()
