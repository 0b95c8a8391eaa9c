"""What must not be in a folder that users share: anything that runs code when it is loaded."""

import json
import pickletools
import struct
from pathlib import Path

_SUFFIXES = {".bin", ".ckpt", ".dill", ".joblib", ".mar", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth", ".zip"}


def pickles(folder: Path) -> list[str]:
    """Files that are or may hold a pickle, by name or content (a pickle of any protocol, or a zip, which `torch.save`
    writes); paths below the folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        str(path.relative_to(folder))
        for path in files
        if path.suffix in _SUFFIXES or (not _is_plain(path) and _holds_one(path))
    ]


def not_plain(folder: Path) -> list[str]:
    """Files that are neither safetensors nor JSON, by name and content; paths below the folder."""
    return [
        str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file() and not _is_plain(path)
    ]


def _holds_one(path: Path) -> bool:
    data = path.read_bytes()
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06") or (data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05"):
        return True
    try:
        *_, (_, _, end) = pickletools.genops(data)  # protocols 0 and 1 have no mark of their own
        return end == len(data) - 1
    except Exception:
        return False


def _is_plain(path: Path) -> bool:
    try:
        return _is_safetensors(path) or _is_json(path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _is_safetensors(path: Path) -> bool:
    """A header of JSON as long as it says, and no byte that belongs to no tensor."""
    data = path.read_bytes()
    if path.suffix != ".safetensors" or len(data) < 8:
        return False
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return bool(8 + length + max(ends, default=0) == len(data))


def _is_json(path: Path) -> bool:
    if path.suffix not in (".json", ".jsonl"):
        return False
    for text in path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]:
        json.loads(text)
    return True
