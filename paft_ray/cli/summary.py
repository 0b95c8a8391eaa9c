"""What a finished run prints: the arms, and the verdict in one sentence."""

from __future__ import annotations

from paft_ray.echo import echo, echo_table
from paft_ray.report.format import percent
from paft_ray.report.tables import arm_rank
from paft_ray.storage.artifacts import RESULTS
from paft_ray.storage.store import Store


def print_summary(run: Store) -> None:
    """Accuracy of every arm over held-out templates, in percent, from report/results.json."""
    results = RESULTS.read(run)
    columns = ("mean", "std", "worst", "best")
    arms = sorted(results["arms"].items(), key=lambda item: arm_rank(item[0]))
    rows = [(arm, *(percent(figures[column]) for column in columns)) for arm, figures in arms]
    echo_table(("arm", *columns), rows, title="accuracy on held-out templates, %")
    echo(results["verdict"])
