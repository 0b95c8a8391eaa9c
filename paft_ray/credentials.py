"""What a secret looks like: by the name of its variable or setting, and by its own letters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

REMEDY = "secrets come from the environment only"
_FREE_TEXT = re.compile(r"header|query", re.IGNORECASE)  # sections of endpoint.request
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_OWNERS = (
    r"(?:access|account|admin|anthropic|api|app|auth|aws|azure|bearer|client|consumer|deploy|encryption|functions"
    r"|gateway|google|hf|hub|license|master|openai|private|rapidapi|refresh|secret|security|service|session|shared"
    r"|signing|ssh|storage|subscription|x)"
)
_ALWAYS = (
    r"[a-z]*(?:secret|password|passwd|passphrase)s?|pwd|jwt|cookies?|bearer|credentials?|authorization"
    rf"|connection-?string|conn-?str|dsn|{_OWNERS}key|[a-z]+token"
)
_OPTION = re.compile(
    rf"(?:^|-)(?:{_ALWAYS})(?:-|$)|(?:^|-){_OWNERS}-keys?(?:-(?:id|value))?$|^(?:pass|token)$"
    r"|(?:^|-)(?:auth|sas|sig|signature|pat)$|-amz-credential$"
    r"|(?:^|-)(?!(?:post|pre|forward|backward|single|first|last|second|by|per|num)-)[a-z]+-pass$"
)
_TOKEN_OPTION = re.compile(r"(?:^|-)([a-z]+)-token$")
_TOKEN_OF_TEXT = re.compile(
    r"bos|eos|pad|unk|sep|cls|mask|image|audio|video|vision|speech|special|extra|stop|start|begin|end|first|last"
    r"|next|prev|new|per|max|min|num|prompt|decoder|forced|separator|row|column|line|tool|think|thinking"
    r"|reasoning|response|user|system|assistant|placeholder|fake|default|any|each|every|one|context|sequence"
    r"|draft|language|task|padding|unknown|suppress"
)
_VARIABLE = re.compile(
    rf"(?:^|-)(?:{_ALWAYS}|tokens?|keys?|pat|auth|sas|signature|webhook|creds|passcode|headers"
    r"|(?:admin|db|ftp|ldap|mail|my|pg|proxy|redis|root|smtp|ssh|user)?pass)(?:-|$)"
)
_SAYS_ELSE = re.compile(
    r"^(?:old)?pwd$|^(?!.*webhook).*-(?:url|uri|endpoint)$"
    r"|-(?:path|paths|file|dir|directory|folder|home|mode|sock|socket|host|port|type|method|provider|backend|plugin"
    r"|algorithm|names?|variables|user|username|limit|count|size|length|timeout|ttl|seconds|enabled|disabled"
    r"|parallelism|version|region|issuer|audience|scopes?|prompt|budget)$"
    r"|(?:^|-)(?:sort|primary|foreign|partition|cache|group|index|public)-keys?$|(?:^|-)(?:max|min|num)-(?:[a-z]+-)*tokens$"
)
_PLAIN = re.compile(
    r"required|optional|default|enabled|disabled|password|secret|bearer|oauth2|basic-auth|public|private"
    r"|anonymous|production|development|staging|localhost|example|changeme|training|validation|evaluate|positive"
    r"|negative"
    r"|\d{1,7}|.{0,5}"
)
KNOWN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk-|gh[oprsu]_|github_pat_|glpat-|xox[a-z]-|ya29\.)"
    r"[\w-]{0,80}?(?:(?=[A-Za-z]{0,80}\d)[A-Za-z0-9]{10,}|[A-Za-z0-9]{20,})[\w-]*"
    # names begin so, too, and are shorter
    r"|(?:hf_|gsk_|xai-|pplx-|r8_|npm_)[A-Za-z0-9]{24,}|(?:nvapi|pypi)-[\w-]{40,}"
    r"|(?:AKIA|ASIA)(?=[A-Z]*\d)[0-9A-Z]{16}(?![0-9A-Za-z])|AIza[\w-]{20,}|eyJ[\w-]{10,}(?:\.[\w-]*){0,2})|-{5}BEGIN "
    r"[A-Z ]*PRIVATE KEY-{5}"
    r"(?:[\s\S]{0,16384}?-{5}END [A-Z ]*PRIVATE KEY-{5})?"
)
"""Keys and tokens that say by their first letters whose they are, and private keys."""
_IDENTITY = re.compile(
    r"(?<![A-Za-z0-9])(?:[0-9A-F]{16}|[0-9A-F]{40}|[0-9A-F]{64}|[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"
    r"|\d{8}T?\d{4,}Z?|(?<=/accounts/)[0-9A-F]{32})(?![A-Za-z0-9])",
    re.IGNORECASE,
)
"""Git and SHA hashes, UUIDs, times; `/accounts/ID` in an address is nobody's key."""
_RANDOM_LETTERS = 20
_PART = re.compile(r"[A-Za-z0-9+_=-]+")
_KEY_OF_40 = re.compile(r"(?<![\w+/])[A-Za-z0-9+/]{40}(?![\w+/=])")  # such as AWS hands out: `/` is one of its letters
_RUN = re.compile(r"[A-Za-z0-9]{6,}")
# fmt: off
_PAIRS = {
    "a": "bcdgilmnprstu", "b": "aelu", "c": "aehklort", "d": "aeios", "e": "acdeflmnprstvx", "f": "aio", "g": "ei",
    "h": "aeio", "i": "acdeglmnorst", "k": "e", "l": "aeilosuy", "m": "aeiop", "n": "acdegiost", "o": "cdlmnoprstuw",
    "p": "aeloprt", "q": "u", "r": "adeimostuy", "s": "acehiopstu", "t": "aehiorstuy", "u": "elmnrst", "v": "aei",
    "w": "e", "x": "p",
}
# fmt: on
"""The 150 most frequent pairs of letters in technical English, by the first: 85 in 100 there, 12 in a random key."""
_FEWEST_PAIRS = 0.4


def names_secret(name: str) -> bool:
    """Whether a setting of this name holds a key, token or password (`eos_token`, `max_tokens` and `key` do not)."""
    words = _words(name)
    token = _TOKEN_OPTION.search(words)
    return _OPTION.search(words) is not None or (token is not None and _TOKEN_OF_TEXT.fullmatch(token[1]) is None)


@cache
def variable_is_secret(name: str) -> bool:
    """Whether a variable of this name holds a key, token or password (`API_KEY_2` does, `RAY_AUTH_MODE` does not)."""
    words = _words(name)
    return _VARIABLE.search(words) is not None and _SAYS_ELSE.search(words) is None


def is_plain(value: str) -> bool:
    """Whether a variable's value is too short or too common to be looked for in texts: `true`, `1`, `token`."""
    return _PLAIN.fullmatch(value.lower()) is not None


def looks_secret(text: str) -> bool:
    """Whether a free text holds a known kind of key, or 20 letters and digits that no one would write.

    Hashes of 16, 40 or 64 hex digits, UUIDs, times, words, names of models and paths do not. Of 10,000 random keys of
    32 letters and digits about one is missed.
    """
    return KNOWN.search(text) is not None or any(_is_random(part) for part in _parts(_IDENTITY.sub(" ", text)))


def holds_credentials(uri: str) -> bool:
    """Whether a URI carries a user, password or key, in its place, its path or its options."""
    if "://" not in uri:
        return False
    try:
        parts = urlsplit(uri)
    except ValueError:  # such as a bracket that is not closed: no filesystem takes it either
        return "@" in uri
    options = [
        *parse_qsl(parts.query.replace(";", "&"), keep_blank_values=True),
        *parse_qsl(parts.fragment, keep_blank_values=True),
    ]
    named = any(name.lower() == "key" or names_secret(name) or "@" in value for name, value in options)
    return (
        "@" in parts.netloc
        or named
        or any(looks_secret(unquote(text)) for text in (parts.path, parts.query, parts.fragment))
    )


def _words(name: str) -> str:
    """`AWSAccessKeyId` and `AWS_ACCESS_KEY_ID` -> `aws-access-key-id`; numbers at the end say which one of several."""
    found = [word.lower() for word in _WORD.findall(name)]
    while len(found) > 1 and found[-1].isdigit():
        found.pop()
    return "-".join(found)


def _parts(text: str) -> list[str]:
    return [*_PART.findall(text), *_KEY_OF_40.findall(text)]


def _is_random(part: str) -> bool:
    runs = [run for run in _RUN.findall(part) if not run.isdigit()]
    if sum(map(len, runs)) < _RANDOM_LETTERS:
        return False
    pairs = [run[i : i + 2] for run in runs for i in range(len(run) - 1)]
    usual = sum(
        second.lower() in _PAIRS.get(first.lower(), "") and not (first.islower() and second.isupper())
        for first, second in pairs
    )
    return usual < _FEWEST_PAIRS * len(pairs)


def check_options(options: Any, place: str, *, free: bool) -> None:
    """Raises `ValueError`, naming the place and never the value, for a secret in nested options that a library gets.

    `free`: no library reads identities there, so that random letters can only be a key; else only under headers and
    queries.
    """
    for where, name, text in texts(options, place):
        if name and names_secret(name):
            raise ValueError(f"{place}.{name}: {REMEDY}; set HF_TOKEN, or the variable that endpoint.api_key_env names")
        if KNOWN.search(text) or ((free or _FREE_TEXT.search(where)) and looks_secret(text)):
            raise ValueError(f"{where}: holds what looks like a key or token; {REMEDY}, remove it")


def texts(value: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """(place, key of an option that holds something else "", text) of every key and text below, keys first."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            below = f"{place}.{key}" if place else key
            yield place, "", key
            if inner is not None and not isinstance(inner, bool):
                yield below, key, ""
            yield from texts(inner, below)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, place)
    elif isinstance(value, str):
        yield place, "", value
