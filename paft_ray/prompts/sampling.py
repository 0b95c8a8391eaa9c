"""The draw: which template an example meets, a pure function of its key (paper, Algorithm 1).

The key holds nothing of workers, batches or restarts, so neither can change a draw. BLAKE2b makes it the same on every
machine and version.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from paft_ray.config import SamplingConfig

Groups = tuple[tuple[int, ...], ...]
"""Indices of templates by group: each template in exactly one, no group empty."""


@dataclass(frozen=True, kw_only=True)
class PerExample:
    """A fresh draw for each example and epoch; key (seed, epoch, example id)."""

    seed: int

    def key(self, *, epoch: int, example_id: str, index_in_epoch: int) -> str:
        """All that decides the draw."""
        return f"example\0{self.seed}\0{epoch}\0{example_id}"

    def index(self, *, epoch: int, example_id: str, index_in_epoch: int, num_templates: int) -> int:
        """Template index in [0, num_templates)."""
        return _uniform(self.key(epoch=epoch, example_id=example_id, index_in_epoch=index_in_epoch), num_templates)


@dataclass(frozen=True, kw_only=True)
class EveryK:
    """One draw for K examples in a row; key (seed, epoch, window of the epoch's order)."""

    seed: int
    k: int

    def key(self, *, epoch: int, example_id: str, index_in_epoch: int) -> str:
        """All that decides the draw."""
        return f"window\0{self.seed}\0{epoch}\0{index_in_epoch // self.k}"

    def index(self, *, epoch: int, example_id: str, index_in_epoch: int, num_templates: int) -> int:
        """Template index in [0, num_templates)."""
        return _uniform(self.key(epoch=epoch, example_id=example_id, index_in_epoch=index_in_epoch), num_templates)


@dataclass(frozen=True, kw_only=True)
class OfGroups:
    """A group is drawn first, each as likely as the others, then one of its templates: two hashes of the same key."""

    by: PerExample | EveryK
    groups: Groups

    def index(self, *, epoch: int, example_id: str, index_in_epoch: int, num_templates: int) -> int:
        """Template index in [0, num_templates), which the groups divide among them."""
        key = self.by.key(epoch=epoch, example_id=example_id, index_in_epoch=index_in_epoch)
        group = self.groups[_uniform(key, len(self.groups))]
        return group[_uniform(f"within\0{key}", len(group))]


Draw = PerExample | EveryK | OfGroups


def make_draw(sampling: SamplingConfig, *, seed: int, groups: Groups) -> Draw:
    """The draw that section `train.sampling` stands for. `groups`: of the templates, by what is drawn first."""
    draw = EveryK(seed=seed, k=sampling.k) if sampling.type == "every_k" else PerExample(seed=seed)
    return draw if sampling.over in (None, "template") else OfGroups(by=draw, groups=groups)


def _uniform(key: str, n: int) -> int:
    """Uniform in [0, n): the high half of a 64-bit hash times n (bias below n / 2**64)."""
    return (int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") * n) >> 64


def keyed_order(keys: list[str], seed: int, purpose: str) -> np.ndarray:
    """Indices that sort `keys` into a random order fixed by (purpose, seed) and each key alone, so subsets are nested.
    Shape [len(keys)]."""
    digests = [hashlib.blake2b(f"{purpose}\0{seed}\0{key}".encode(), digest_size=16).digest() for key in keys]
    return np.array(sorted(range(len(keys)), key=digests.__getitem__), dtype=np.int64)
