"""Digests of large files: the same as without the cache, whatever has happened to file or cache."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from paft_ray.models import digests
from paft_ray.models.digests import file_digest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, which also remembers files that were just written."""
    monkeypatch.setenv("PAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_SETTLED_S", -1.0)
    return tmp_path / "cache" / "digests"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(3_000_000))
    return file


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def entry(cache: Path) -> Path:
    (found,) = cache.glob("*.json")
    return found


def forged(cache: Path, weights: Path, digest: str) -> None:
    """Puts another digest into the cache, so that a test sees whether the cache or the file answered."""
    path = weights.resolve()
    digests._remember(entry(cache), digests._state(path, path.stat()), digest)


def test_a_file_is_read_once(weights: Path, cache: Path) -> None:
    assert file_digest(weights) == sha256(weights)
    forged(cache, weights, "0" * 64)
    assert file_digest(weights) == "0" * 64


def test_a_link_is_the_file_that_it_leads_to(weights: Path, cache: Path) -> None:
    link = weights.with_name("link")
    link.symlink_to(weights)
    assert file_digest(link) == file_digest(weights) == sha256(weights)
    assert entry(cache)


def test_a_change_in_place_is_seen_though_size_and_time_are_restored(weights: Path) -> None:
    before, status = file_digest(weights), weights.stat()
    with weights.open("r+b") as stream:
        stream.seek(1_500_001)
        stream.write(b"\1")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digest(weights) == sha256(weights) != before


def test_another_file_in_its_place_is_seen(weights: Path) -> None:
    before, status = file_digest(weights), weights.stat()
    other = weights.with_name("other")
    other.write_bytes(bytes([1]) * 3_000_000)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, weights)
    assert file_digest(weights) == sha256(weights) != before


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b'{"sha256": 1}', b"[" * 10**5, b"\xff\xfe"])
def test_a_damaged_cache_costs_a_read(weights: Path, cache: Path, content: bytes) -> None:
    file_digest(weights)
    entry(cache).write_bytes(content)
    assert file_digest(weights) == sha256(weights)
    assert json.loads(entry(cache).read_text())["sha256"] == sha256(weights), "and is written anew"


def test_no_single_bit_of_the_cache_changes_a_digest(weights: Path, cache: Path) -> None:
    file_digest(weights)
    good = entry(cache).read_bytes()
    weights.write_bytes(b"small")
    file_digest(weights)
    good = entry(cache).read_bytes()
    for bit in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        entry(cache).write_bytes(flipped)
        assert file_digest(weights) == sha256(weights)


def test_a_cache_that_cannot_be_written_costs_a_read(weights: Path, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file in the place of the folder")
    assert file_digest(weights) == sha256(weights)


def test_a_pipe_in_the_cache_is_not_waited_for(weights: Path, cache: Path) -> None:
    file_digest(weights)
    place = entry(cache)
    place.unlink()
    os.mkfifo(place)
    assert file_digest(weights) == sha256(weights)


def test_many_writers_leave_one_intact_entry(weights: Path, cache: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(file_digest, [weights] * 64))
    assert found == {sha256(weights)}
    assert [file.name for file in cache.iterdir()] == [entry(cache).name], "no .part is left"


def test_a_file_that_was_just_written_is_not_remembered(
    weights: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_SETTLED_S", 60.0)
    assert file_digest(weights) == sha256(weights)
    assert not cache.exists()
