"""Texts as SQuAD compares them."""

from __future__ import annotations

import re
import string
import unicodedata

from paft_ray.tasks.pattern import LONGEST_TEXT
from paft_ray.tasks.values import nfc

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalized(text: str) -> str:
    """The text without case, punctuation, articles and superfluous white space, as the official script of SQuAD
    (Rajpurkar et al. 2016, evaluate-v1.1.py: `normalize_answer`); beyond ASCII all punctuation of Unicode goes too, in
    one Unicode form.

    A text of which nothing is left (`the`, `?`) without case alone: it would equal every other one. Only the first
    `LONGEST_TEXT` characters count.
    """
    lower = nfc(text[:LONGEST_TEXT]).lower()
    words = "".join(character for character in lower if not _is_punctuation(character))
    return " ".join(_ARTICLES.sub(" ", words).split()) or " ".join(lower.split())


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")
