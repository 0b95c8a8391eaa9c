"""synthesize/quality.json: what was found of every candidate that a generator wrote, and what the signals are worth
that could have decided on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paft_ray.storage.artifacts import Artifact
from paft_ray.storage.manifests import SYNTHESIZE, Fraction, Part
from paft_ray.storage.store import LARGEST_JSON, json_bytes

_Count = Annotated[int, Field(ge=0)]


class SignalFound(Part):
    """Calibration of one signal on what one generator wrote."""

    generator: str
    signal: str
    may_decide: bool
    reason: str | None
    """Why it may not decide."""
    auc: Fraction | None
    """Mean over kinds of negatives; None: too few texts."""
    low: Fraction | None
    high: Fraction | None
    """90 % interval, over texts."""
    by_kind: dict[str, Fraction]
    """Kind of negatives (other_task, shuffled, forced) -> AUC of the positives against these alone."""
    num_positives: _Count
    num_negatives: _Count
    num_seeds: _Count
    num_sure_seeds: _Count
    """The user's seed templates, and those that it is sure of."""


class CandidateFound(Part):
    """One candidate."""

    id: str
    """Content id of the repaired template; that of the whole answer where no template could be read in it."""
    generator: str
    passed: bool
    """It was fit to be used; one beyond the number that was wanted is not kept for all that."""
    reason: str | None
    """Of its rejection: of gate, rules, similarity or signal."""
    score: float | None
    """Of the signal that decided."""


class Quality(Part):
    """The file."""

    schema_version: Literal[1] = 1
    signals: Annotated[tuple[SignalFound, ...], Field(strict=False)] = ()
    """In the order in which they were tried."""
    candidates: Annotated[tuple[CandidateFound, ...], Field(strict=False)] = ()
    """Every candidate, in the order in which it was written."""


QUALITY: Artifact[Quality] = Artifact(
    stage=SYNTHESIZE,
    path=f"{SYNTHESIZE}/quality.json",
    encode=lambda quality: json_bytes(quality.model_dump(mode="json")),
    decode=Quality.model_validate_json,
    largest=LARGEST_JSON,
)
