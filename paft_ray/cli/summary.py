"""What a finished run prints: the arms, and the verdict in one sentence."""

from __future__ import annotations

from paft_ray.echo import echo, echo_table
from paft_ray.report.arm_order import arm_rank
from paft_ray.report.format import percent
from paft_ray.storage.artifacts import RESULTS
from paft_ray.storage.store import Store


def print_summary(run: Store) -> None:
    """Accuracy of every arm over held-out templates, in percent, from report/results.json, and what it says."""
    results = RESULTS.read(run)
    arms = sorted(results["arms"].items(), key=lambda item: arm_rank(item[0]))
    measures, spread = list(arms[0][1]["measures"]), ("std", "decile", "worst")
    rows = [
        (
            arm,
            *(percent(row["measures"][measure]["mean"]) for measure in measures),
            percent(row["named_rate"]),
            *(percent(row[column]) for column in spread),
        )
        for arm, row in arms
    ]
    title = f"accuracy on held-out templates, %; std, lowest decile and worst are of {results['headline']}"
    echo_table(("arm", *measures, "named", *spread), rows, title=title)
    echo("\n".join([results["verdict"], *results["findings"]]))
