"""`paft audit RUN`: whether every training used each example once per epoch, under the template that was drawn for it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from paft_ray.artifacts import Run
from paft_ray.stages.audit import audit


def audit_run(folder: str) -> int:
    """Prints a table; 0 where every training's log agrees with the replay, else 1. Raises `UserError` where there is nothing to audit."""
    found = audit(Run(folder))
    table = Table("model", "steps", "rows", "epochs", "lost", "repeated", "differing", title="pairs used in training, against the replay")
    for name, each in found.items():
        counts = (each.steps, each.rows, f"{each.epochs:g}", each.lost, each.repeated, each.differing)
        table.add_row(escape(name), *map(str, counts), style=None if each.agrees else "red")
    console = Console()
    console.print(table)
    for name, each in found.items():
        for line in each.told:
            console.print(escape(f"{name}: {line}"), soft_wrap=True)
    return int(not all(each.agrees for each in found.values()))
