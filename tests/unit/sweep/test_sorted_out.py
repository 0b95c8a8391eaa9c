"""How the trials of a sweep are sorted by their ends."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from paft_ray.errors import StageError, UserError
from paft_ray.storage.outputs import manifest_path
from paft_ray.storage.store import Store
from paft_ray.sweep.ray_tune import _sorted_out
from paft_ray.sweep.trials import Trial

TRIALS = [Trial(size=1, subset_seed=0), Trial(size=2, subset_seed=0)]


def ended(number: int, error: Exception | None = None) -> SimpleNamespace:
    return SimpleNamespace(config={"trial": number}, error=error)


def test_a_trial_that_failed_is_named_and_the_others_count(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    run.write_json(manifest_path(TRIALS[0].folder), {})
    found = _sorted_out(run, TRIALS, [ended(0), ended(1, StageError("lost"))], set())
    assert (list(found.finished), found.failed) == ([TRIALS[0].name], (TRIALS[1].name,))
    with pytest.raises(StageError, match="no trial of the sweep finished"):
        _sorted_out(run, TRIALS, [ended(1, StageError("lost"))], set())


def test_a_trial_that_was_refused_ends_the_sweep(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    run.write_json(manifest_path(TRIALS[0].folder), {})
    refused = UserError("made with other settings (versions.torch); use another name")
    with pytest.raises(UserError, match="made with other settings"):
        _sorted_out(run, TRIALS, [ended(0), ended(1, refused)], set())
