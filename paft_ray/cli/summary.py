"""What a finished run prints: the arms, and the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paft_ray.echo import echo, echo_table
from paft_ray.report.arm_order import arm_rank
from paft_ray.report.format import percent
from paft_ray.storage.artifacts import RESULTS
from paft_ray.storage.store import Store


def print_summary(run: Store) -> None:
    """Accuracy of every arm over held-out templates, in percent, from report/results.json, and what it says."""
    print_results(RESULTS.read(run), where="held-out templates")


def print_results(results: Mapping[str, Any], *, where: str) -> None:
    """Likewise of the content of results.json. `where`: the templates, in words."""
    arms = sorted(results["arms"].items(), key=lambda item: arm_rank(item[0]))
    measures, spread = dict.fromkeys(name for _, row in arms for name in row["measures"]), ("std", "decile", "worst")
    rows = [
        (
            arm,
            *(percent(row["measures"].get(measure, {}).get("mean")) for measure in measures),
            percent(row["named_rate"]),
            *(percent(row[column]) for column in spread),
        )
        for arm, row in arms
    ]
    title = f"accuracy on {where}, %; std, lowest decile and worst are of {results['headline']}"
    echo_table(("arm", *measures, "named", *spread), rows, title=title)
    echo("\n".join([results["verdict"], *results["findings"]]))
