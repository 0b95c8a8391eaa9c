"""What the report says of the candidates' quality: which signal decided, what it is worth, and where nothing that a
model wrote is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paft_ray.storage.quality import Quality, SignalFound

_KINDS = {
    "other_task": "the same for other tasks",
    "shuffled": "with their words in another order",
    "forced": "what the generator writes for other tasks",
}


def num_accepted(manifest: Mapping[str, Any]) -> int:
    """Templates that models wrote and that are used as a person accepted them, by the manifest of stage synthesize."""
    return int(manifest.get("decisions", {}).get("of_models", 0))


def quality_sentences(quality: Quality | None, *, num_accepted: int = 0) -> list[str]:
    """One sentence per signal that was tried, and one per generator of which no candidate was fit to be used. None: no
    model wrote any. `num_accepted`: templates of theirs that are used as a person accepted them."""
    if quality is None:
        return []
    generators = list(dict.fromkeys(found.generator for found in quality.candidates))
    passed = {found.generator for found in quality.candidates if found.passed}
    unused = [f"no template that {name} wrote ({_why(quality, name)})" for name in generators if name not in passed]
    sentences = [_signal(found) for found in quality.signals]
    if unused and num_accepted:
        sentences.append(f"By itself {', '.join(unused)} was fit; of what a person accepted, {num_accepted} are used.")
    elif generators and not passed:
        sentences.append(f"Model-written synthesis was not used: {', '.join(unused)} was fit.")
    elif unused:
        sentences.append(f"Not used: {', '.join(unused)} was fit.")
    return sentences


def _why(quality: Quality, generator: str) -> str:
    """Why nothing that this generator wrote is used."""
    tried = [found for found in quality.signals if found.generator == generator]
    if not tried:
        return "gate, rules and similarity rejected all"
    trusted = next((found.signal for found in tried if found.may_decide), None)
    return "no signal tells reliably which ask for the task" if trusted is None else f"{trusted} is sure of none"


def _signal(found: SignalFound) -> str:
    what = f"{found.signal}, on what {found.generator} wrote"
    outcome = "it decides which candidates are used" if found.may_decide else f"it may not decide: {found.reason}"
    if found.auc is None or found.low is None or found.high is None:
        return f"{what}: {outcome}."
    kinds = ", ".join(f"{_KINDS.get(kind, kind)} {value:.2f}" for kind, value in found.by_kind.items())
    return (
        f"{what}: AUC {found.auc:.2f} ({found.low:.2f} to {found.high:.2f}, 90 % interval) between "
        f"{found.num_positives} hand-written templates for their own task and {found.num_negatives} negatives "
        f"({kinds}); it is sure of {found.num_sure_seeds} of {found.num_seeds} seed templates; {outcome}."
    )
