"""`paft prompts review RUN`: the page on which a person accepts or rejects templates."""

from __future__ import annotations

from pathlib import Path

from paft_ray.cli.out_file import written_to
from paft_ray.echo import echo
from paft_ray.report.review import PAGE, review_page
from paft_ray.stages.resolved_run import stored_config
from paft_ray.storage.store import Store


def review(folder: str, out: str | None) -> None:
    """Writes the page, into the run where `out` names no file, and prints where it is. Raises `UserError` where the run
    has no templates yet."""
    run = Store(folder)
    page = review_page(run, stored_config(run)).encode()
    if out is None:
        run.write_bytes(PAGE, page)
        echo(run.uri(PAGE))
        return
    with written_to(out):
        Path(out).write_bytes(page)
    echo(out)
