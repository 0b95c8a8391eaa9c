"""The global training order: position -> (epoch, example), computed, never stored.

Position p in [0, steps x batch): epoch = p // N, example = permutation(seed, epoch)[p mod N]; step s takes positions
[sB, (s+1)B), so batches straddle epochs, are the same at any world size, and a resume starts at any step.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from paft_ray.errors import UserError

_ROUNDS = 6


def num_steps(num_examples: int, num_epochs: float, global_batch: int) -> int:
    """Optimizer steps that use every example once per epoch; only the last batch of a run may be padded."""
    return math.ceil(round(num_examples * num_epochs) / global_batch)


def plan(num_examples: int, *, epochs: float | None, steps: int | None, global_batch: int) -> tuple[int, int]:
    """(optimizer steps, positions that carry loss) of a training; one of `epochs` and `steps` is given. Raises
    `UserError` for a part of an epoch that is less than one row."""
    if steps is not None:
        return steps, steps * global_batch
    assert epochs is not None
    found = num_steps(num_examples, epochs, global_batch)
    if found < 1:
        raise UserError(
            f"train.num_epochs={epochs:g}: of {num_examples} training rows that is less than one row; raise it, or set "
            "train.num_steps and num_epochs=null"
        )
    return found, round(num_examples * epochs)


def rank_slice(rank: int, world_size: int, global_batch: int) -> range:
    """A rank's places in every batch: contiguous, of sizes that differ by at most one."""
    return range(global_batch * rank // world_size, global_batch * (rank + 1) // world_size)


def step_positions(step: int, rank: int, world_size: int, global_batch: int) -> np.ndarray:
    """Positions of one rank in one step, shape [len(rank_slice)]: a slice of [step B, (step+1) B)."""
    own = rank_slice(rank, world_size, global_batch)
    return step * global_batch + np.arange(own.start, own.stop, dtype=np.int64)


def locate(positions: np.ndarray, num_examples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(epoch, index in the epoch's order, example index) of each position, all int64 with the shape of `positions`."""
    epochs, offsets = np.divmod(positions, num_examples)
    examples = np.empty_like(positions)
    for epoch in np.unique(epochs):
        mask = epochs == epoch
        examples[mask] = permute(offsets[mask], num_examples, seed, int(epoch))
    return epochs, offsets, examples


def permute(indices: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """Where a keyed bijection of [0, n) sends each index: random access into an epoch's shuffle with constant memory.

    A balanced Feistel network over the next power of four with cycle walking (Black and Rogaway, 2002); stable across
    versions and machines, unlike library generators.
    """
    half_bits = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half_bits) - 1)
    shift = np.uint64(half_bits)
    keys = np.frombuffer(
        hashlib.blake2b(f"order\0{seed}\0{epoch}".encode(), digest_size=8 * _ROUNDS).digest(), dtype="<u8"
    )
    values = indices.astype(np.uint64)
    pending = np.arange(len(values))
    while len(pending):
        current = values[pending]
        left, right = current >> shift, current & mask
        for key in keys:
            left, right = right, left ^ (_mix(right + key) & mask)
        values[pending] = (left << shift) | right
        pending = pending[values[pending] >= np.uint64(n)]
    return values.astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    """Finalizer of SplitMix64 (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
