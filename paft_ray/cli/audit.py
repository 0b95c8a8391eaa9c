"""`paft audit RUN`: whether every training used each example once per epoch, under the template that was drawn for
it."""

from __future__ import annotations

from paft_ray.echo import echo, echo_table
from paft_ray.stages.audit import audit
from paft_ray.storage.store import Store


def audit_run(folder: str) -> int:
    """Prints a table; 0 where every training's log agrees with the replay, else 1. Raises `UserError` where there is
    nothing to audit."""
    found = audit(Store(folder))
    columns = ("model", "steps", "rows", "epochs", "lost", "repeated", "differing")
    rows = [(name, f.steps, f.rows, f"{f.epochs:g}", f.lost, f.repeated, f.differing) for name, f in found.items()]
    wrong = [number for number, each in enumerate(found.values()) if not each.agrees]
    echo_table(columns, rows, title="pairs used in training, against the replay", red=wrong)
    for name, each in found.items():
        for line in each.told:
            echo(f"{name}: {' '.join(line.split())}")
    return int(not all(each.agrees for each in found.values()))
