"""Sentences below the tables of the prompt set: what judged its candidates, how different its templates are, how
training drew them, and how sure the best-scored one is."""

from __future__ import annotations

from collections.abc import Mapping

from paft_ray.report.format import percent
from paft_ray.report.quality import num_accepted, quality_sentences
from paft_ray.storage.manifests import SCORE, SYNTHESIZE, TRAIN
from paft_ray.storage.quality import Quality
from paft_ray.storage.stage_cache import Manifest

_DRAWN = {
    "cluster": "Training drew a cluster of near-copies first, each as likely as the others, then one of its templates.",
    "source": "Training drew a source first (the user's templates, one generator), each as likely as the others, then "
    "one of its templates.",
}


def prompt_notes(manifests: Mapping[str, Manifest], quality: Quality | None = None) -> list[str]:
    """The sentences that the manifests of a run have figures for. `manifests`: stage -> manifest, checked; `quality`:
    what was found of the candidates, None where no model wrote any."""
    synthesized = manifests.get(SYNTHESIZE, {})
    return [
        *quality_sentences(quality, num_accepted=num_accepted(synthesized)),
        *_coverage(synthesized),
        *_draw(manifests.get(TRAIN, {})),
        *_best(manifests.get(SCORE, {})),
    ]


def _coverage(manifest: Manifest) -> list[str]:
    found = manifest.get("coverage")
    if not found:
        return []
    text = f"{found['num_templates']} training templates in {found['num_clusters']} clusters of near-copies"
    if found["mean_nearest"] is not None and found["min_nearest"] is not None:
        text += (
            f"; the nearest other one is {found['mean_nearest']:.2f} away on average and at least "
            f"{found['min_nearest']:.2f} (distance: 1 − similarity of the words)"
        )
    if found["radius"] is not None:
        text += f"; candidates that were fit and not chosen are at most {found['radius']:.2f} from a chosen one"
    return [f"{text}."]


def _draw(manifest: Manifest) -> list[str]:
    sampling = manifest.get("key", {}).get("train", {}).get("sampling")
    over = sampling.get("over") if isinstance(sampling, Mapping) else None
    return [_DRAWN[over]] if over in _DRAWN else []


def _best(manifest: Manifest) -> list[str]:
    if any(manifest.get(name) is None for name in ("best_probability", "num_templates", "num_examples", "num_tied")):
        return []  # an earlier version's
    text = (
        f"The best-scored of {manifest['num_templates']} templates on {manifest['num_examples']} validation rows, "
        f"{manifest['best']}, is the best one with a probability of {percent(manifest['best_probability'])} % "
        "(bootstrap over rows)"
    )
    if manifest["num_tied"]:
        text += f"; {manifest['num_tied']} others have its accuracy, told apart by log-probability, then by id"
    return [f"{text}."]
