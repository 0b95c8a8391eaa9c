"""Random numbers that a key decides, the same on every machine and version of Python."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count

_BYTES = 8


def uniforms(*key: object) -> Callable[[], float]:
    """A stream of numbers in [0, 1), fixed by the key: BLAKE2b of the key and a running number."""
    start = hashlib.blake2b("\0".join(map(str, key)).encode("utf-8", "surrogatepass"), digest_size=32).digest()
    numbers = count()

    def draw() -> float:
        word = hashlib.blake2b(start + next(numbers).to_bytes(8, "big"), digest_size=_BYTES).digest()
        return (int.from_bytes(word, "big") >> 11) / 2**53

    return draw
