"""What is done to a run, and when: a list of faults that follows from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KINDS: dict[str, tuple[str, ...]] = {
    "prepare": ("sigkill_driver", "sigkill_worker", "sigterm_driver"),
    "synthesize": ("sigkill_driver", "sigterm_driver"),
    "score": ("sigkill_worker", "sigkill_driver", "sigterm_driver"),
    "train": ("sigkill_worker", "sigkill_driver", "sigkill_raylet", "sigterm_driver", "node_loss"),
    "evaluate": ("sigkill_worker", "sigkill_driver", "sigterm_driver"),
    "report": ("sigkill_driver", "sigterm_driver"),
}
"""Stage, in the order of a run -> kinds of faults. Synthesis has a worker only where a generator writes; `node_loss`
strikes one node of several."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kill point."""

    number: int
    """Place in the plan, from 1."""
    stage: str
    kind: str
    moment: float
    """Share of the stage's span in the uninterrupted run, in [0, 1)."""
    among_steps: bool = False
    """`moment` is instead the share of the training's steps that are done, by its checkpoints."""


def fault_plan(seed: int, counts: Mapping[str, int], kinds: Mapping[str, Sequence[str]] = KINDS) -> list[Fault]:
    """`counts[stage]` faults per stage. Kinds take turns; the moments of each kind are spread over the whole span, at
    random within their part.

    Two of three in `train` fall among its steps, which are a small part of its span.
    """
    random = np.random.default_rng(seed)
    faults: list[Fault] = []
    for stage, count in counts.items():
        for place, kind in enumerate(kinds[stage]):
            share = len(range(place, count, len(kinds[stage])))
            moments = random.permutation((np.arange(share) + random.random(share)) / max(1, share))
            for n, moment in enumerate(moments):
                faults.append(
                    Fault(
                        number=len(faults) + 1,
                        stage=stage,
                        kind=kind,
                        moment=float(moment),
                        among_steps=stage == "train" and n % 3 != 2,
                    )
                )
    return faults
