"""What outside text may hide: characters that do not show, written out, and secrets, masked where it is shown."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

from paft_ray.credentials import KNOWN, is_plain, names_secret, variable_is_secret

_BROKEN = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff"
"""Control characters but tab and line feed, line and paragraph separators, half characters, private use."""
_IGNORABLE = r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"  # noqa: E501
"""What Unicode calls default ignorable: zero-width characters, bidirectional marks and overrides, fillers."""
_TAGS = r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
_JOINERS, _VARIANTS = r"\u200c\u200d", r"\ufe00-\ufe0f"
# Persian and Indic words and emoji need joiners between two of their characters, emoji a variant behind one: there, and
# once, they are part of what is seen.
_HIDDEN = re.compile(
    rf"[{_BROKEN}{_IGNORABLE}{_TAGS}]"
    rf"|(?<![^\x00-\x7f{_JOINERS}])[{_JOINERS}]|[{_JOINERS}](?![^\x00-\x7f{_JOINERS}])"
    rf"|(?<![^\s{_JOINERS}{_VARIANTS}])[{_VARIANTS}]"
)
_URI = re.compile(r"\w:/{1,2}")  # one slash: as `Path` writes a URI
_PASSWORD_BEGINS = re.compile(r":(?!(?:\d{2,5})?$)")  # not a port
_PASSWORD_OF_URI = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_SPACE = re.compile(r"(\s+)")
_SCHEME = re.compile(r"\b(bearer|basic)\s+(?=\S*[\d=])[\w.~+/=-]{8,}", re.IGNORECASE)
_OPTION_OF_URI = re.compile(r"([?&;]([\w.-]+)=)[^&;\s\"'<>\\]+")
_NAMED_PART = re.compile(r"([\w-]+)[\"']?\s*[:=]\s*[\"']?([^\"';,\s]+)")
_DECLARED = "PAFT_SECRET_VARIABLES"
_WHOLE_WORD = 12  # shorter values are looked for as whole words only
_SHORTEST_CODE = 10


def holds_hidden(text: str) -> bool:
    """Whether a character in it does not show, or changes how others are shown."""
    return _HIDDEN.search(text) is not None


def visible(text: str) -> str:
    """The text with every hidden character written out (`\\u202e`); tabs and line feeds stay."""
    return _HIDDEN.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def count_as_secret(variable: str) -> None:
    """Makes the value of a variable a secret whatever its name, in this process and in those that it starts."""
    os.environ[_DECLARED] = " ".join(sorted({variable, *os.environ.get(_DECLARED, "").split()}))


def secrets_in(text: str) -> dict[str, str]:
    """The environment's keys and tokens (variable -> value) that stand in the text: plain, escaped, quoted, in
    base64."""
    return {
        name: value
        for name, value, form in _forms(tuple(os.environ.items()))
        if form in text and _found(form).search(text)
    }


def masked(text: str) -> str:
    """The text without secrets: keys and tokens of the environment, or recognized by their form; users in URIs."""
    joined = _joined(text)
    for name, _, form in _forms(tuple(os.environ.items())):
        if form in text:
            text = f"[{name}]".join(_found(form).split(text))
        elif form in joined and len(form) >= _WHOLE_WORD:
            text = f"[{name}]".join(_folded(form).split(text))
    text = KNOWN.sub("***", _SCHEME.sub(r"\1 ***", text))
    text = _OPTION_OF_URI.sub(lambda found: f"{found[1]}***" if names_secret(found[2]) else found[0], text)
    return "".join(_without_user(part) for part in _SPACE.split(text)) if "@" in text else text


def without_key(text: str, key: str) -> str:
    """The text with every form of a key that was sent written as `[key]`, wherever it stands."""
    for form in sorted(_forms_of(key), key=len, reverse=True) if key else ():
        text = text.replace(form, "[key]")
    return text


def _without_user(word: str) -> str:
    """Without the user and password of a URI: what stands before the last `@`, unless all of that is a path. One pass,
    however long the word is."""
    end = word.rfind("@")
    for uri in _URI.finditer(word, 0, end + 1):
        start = uri.end()
        slash = word.find("/", start, end)
        if slash < 0 or "@" in word[start:slash] or _PASSWORD_BEGINS.search(word, start, slash):
            return f"{word[:start]}***{word[end:]}"
    return word


def _joined(text: str) -> str:
    """The text as if its lines had never been broken; empty where it is one line."""
    return "".join(line.strip() for line in text.split("\n")) if "\n" in text else ""


@lru_cache(maxsize=4)
def _forms(environment: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str, str], ...]:
    """(variable, secret, form in which it may stand in a text), longest form first."""
    found = {form: (name, secret) for name, secret in _secrets(dict(environment)) for form in _forms_of(secret)}
    return tuple((name, secret, form) for form, (name, secret) in sorted(found.items(), key=lambda item: -len(item[0])))


def _secrets(environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Whole values, and what is secret within JSON, connection strings and URIs."""
    declared = set(environment.get(_DECLARED, "").split())
    for name, whole in environment.items():
        value = whole.strip()
        parts = _PASSWORD_OF_URI.findall(value)
        secret = name in declared or variable_is_secret(name)
        if secret or value.startswith("{"):
            parts += [part for key, part in _NAMED_PART.findall(value) if names_secret(key)]
        if secret:
            parts += (
                []
                if _is_path(value)
                else [value, *(line.strip() for line in value.splitlines() if len(line.strip()) >= _WHOLE_WORD)]
            )
        yield from ((name, part) for part in parts if not is_plain(part))


def _is_path(value: str) -> bool:
    return value.startswith(("/", "~/", "./")) and os.path.exists(os.path.expanduser(value))


def _forms_of(secret: str) -> set[str]:
    data = os.fsencode(secret)
    forms = {
        secret,
        " ".join(secret.split()),
        html.escape(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret)[1:-1].replace("/", "\\/"),
    }
    forms |= {
        html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
        html.escape(secret).replace("/", "&#x2F;"),
    }
    forms |= {data.hex(), data.hex().upper()} if len(data) * 2 >= _SHORTEST_CODE else set()
    forms |= {repr(secret)[1:-1], ascii(secret)[1:-1], repr(data)[2:-1]}
    forms |= {repr(form + end)[1:-2] for form in forms for end in 'x"'}  # the repr of an error that holds a repr
    quoted = {quote(data, safe=""), quote(data), quote_plus(data), quote(quote(data, safe=""), safe="")}
    forms |= quoted | {re.sub("%..", lambda found: found[0].lower(), form) for form in quoted}
    for before in range(3):  # base64 of a longer text, such as user:secret: what the secret alone decides
        code = base64.b64encode(bytes(before) + data).decode()[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        forms |= {code, code.translate(str.maketrans("+/", "-_"))} if len(code) >= _SHORTEST_CODE else set()
    return forms


@lru_cache(maxsize=256)
def _found(form: str) -> re.Pattern[str]:
    """Where a form stands: anywhere, a short one only between other characters than letters and digits."""
    return re.compile(
        re.escape(form) if len(form) >= _WHOLE_WORD else rf"(?<![A-Za-z0-9]){re.escape(form)}(?![A-Za-z0-9])"
    )


@lru_cache(maxsize=256)
def _folded(form: str) -> re.Pattern[str]:
    """A form that is broken over lines, with an indent or without."""
    return re.compile(r"(?:[ \t\r]*\n\s*)?".join(map(re.escape, form)))
