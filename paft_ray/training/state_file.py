"""A file of fp32 tensors in the safetensors format, written and read piece by piece: a process holds the tensors once,
where `safetensors.torch.save` and `load` hold them twice. Any storage will do, and no local disk.

The format (huggingface.co/docs/safetensors): the length of the header in 8 bytes, little-endian; the header as JSON,
padded with spaces to a multiple of 8; the tensors' bytes one after another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping

import torch

_ALIGNED = 8
_LONGEST_HEADER = 100_000_000  # as safetensors has it
_DTYPE = "F32"


def pieces(tensors: Mapping[str, torch.Tensor]) -> Iterator[memoryview]:
    """The file, equal to that of `safetensors.torch.save`. `tensors`: fp32, on the CPU. No piece is a copy of a
    contiguous tensor."""
    header, start = {}, 0
    for name in sorted(tensors):
        end = start + tensors[name].nbytes
        header[name] = {"dtype": _DTYPE, "shape": list(tensors[name].shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    yield memoryview(len(text).to_bytes(8, "little"))
    yield memoryview(text)
    for name in sorted(tensors):
        yield _bytes(tensors[name].contiguous())


def read(chunks: Iterable[bytes]) -> dict[str, torch.Tensor]:
    """The tensors of a file. Raises `ValueError` where it is none that `pieces` gives."""
    source = _Source(chunks)
    length = bytearray(8)
    source.fill(memoryview(length))
    if (num := int.from_bytes(length, "little")) > _LONGEST_HEADER:
        raise ValueError(f"a header of {num} bytes")
    text = bytearray(num)
    source.fill(memoryview(text))
    tensors, start = {}, 0
    for name, entry in json.loads(text).items():
        end = start + 4 * math.prod(entry["shape"])
        if entry["dtype"] != _DTYPE or entry["data_offsets"] != [start, end]:
            raise ValueError(f"{name}: {entry}")
        start = end
        tensors[name] = torch.empty(entry["shape"], dtype=torch.float32)
        source.fill(_bytes(tensors[name]))
    if source.num_left():
        raise ValueError("the file goes on behind its tensors")
    return tensors


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


class _Source:
    """Chunks of any size, as a stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._chunk = iter(chunks), memoryview(b"")

    def fill(self, target: memoryview) -> None:
        """Copies the next bytes. Raises `ValueError` where there are too few."""
        done = 0
        while done < len(target):
            if not self._chunk:
                self._chunk = memoryview(next(self._chunks, b""))
                if not self._chunk:
                    raise ValueError("the file ends before its tensors")
            num = min(len(self._chunk), len(target) - done)
            target[done : done + num] = self._chunk[:num]
            self._chunk, done = self._chunk[num:], done + num

    def num_left(self) -> int:
        """Bytes that nobody has asked for."""
        return len(self._chunk) + sum(map(len, self._chunks))
