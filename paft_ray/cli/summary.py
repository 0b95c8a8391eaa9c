"""What a finished run prints: the arms, and the verdict in one sentence."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from paft_ray.artifacts import Run
from paft_ray.report.format import percent
from paft_ray.report.tables import arm_rank


def print_summary(run: Run) -> None:
    """Accuracy of every arm over held-out templates, in percent, from report/results.json."""
    results = run.read_json("report/results.json")
    columns = ("mean", "std", "worst", "best")
    table = Table("arm", *columns, title="accuracy on held-out templates, %")
    for arm, figures in sorted(results["arms"].items(), key=lambda item: arm_rank(item[0])):
        table.add_row(arm, *(percent(figures[column]) for column in columns))
    console = Console()
    console.print(table)
    console.print(results["verdict"])
