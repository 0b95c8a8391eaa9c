"""The file is what safetensors writes and reads, without a second copy of a tensor."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.training import state_file

TENSORS = {
    "weight/b": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "exp_avg/a": torch.tensor(2.5),
    "weight/\u00e4": torch.zeros(0, 4),
    "weight/turned": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
}


def file_of(tensors: dict[str, torch.Tensor]) -> bytes:
    return b"".join(state_file.pieces(tensors))


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def test_the_file_is_that_of_safetensors() -> None:
    plain = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    data = file_of(TENSORS)
    assert data == safetensors.torch.save(plain)
    found = safetensors.torch.load(data)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


@given(
    shapes=st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, 4), max_size=3), max_size=4),
    size=st.integers(1, 50),
)
def test_what_is_written_is_read_whatever_the_chunks(shapes: dict[str, list[int]], size: int) -> None:
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    found = state_file.read(cut(file_of(tensors), size))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_no_tensor_is_copied_to_write_it() -> None:
    tensors = {"a": torch.ones(1000), "b": torch.ones(7, 3)}
    *_, first, second = state_file.pieces(tensors)
    places = [np.frombuffer(piece, np.uint8).ctypes.data for piece in (first, second)]
    assert places == [tensor.data_ptr() for tensor in tensors.values()]


def _with_header(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"123",
        (100).to_bytes(8, "little") + b"{}",
        file_of(TENSORS)[:-1],
        file_of(TENSORS) + b"x",
        _with_header({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"ab"),
        _with_header({"a": {"dtype": "F32", "shape": [2**50], "data_offsets": [0, 4]}}, b"abcd"),
        _with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"abcdefgh"),
        (2**40).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"nope",
    ],
)
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        state_file.read(cut(data, 16))
