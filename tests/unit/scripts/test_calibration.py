"""The files that `benchmarks.calibration` writes are what `paft evaluate RUN` reads, and what it shows."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.calibration import show, write_files
from paft_ray.prompts.prompt_set import read_templates
from paft_ray.storage.artifacts import OUTCOMES, PROMPT_SET
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import Source, load_task
from tests.support.finished_run import NUM_ROWS, finished_run


def test_the_validation_rows_and_templates_of_a_run_are_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = finished_run(tmp_path), tmp_path / "out"
    write_files(run, out)
    examples = list(read_examples(load_task("demo"), Source(path=str(out / "validation.jsonl"))))
    assert [(e.id, e.fields["text"], e.answer) for e in examples] == [
        (f"e{n}", f"film {n}", "positive") for n in range(NUM_ROWS)
    ]
    held_out = PROMPT_SET.read(run).split("held_out").templates
    assert {t.id for t in read_templates(out / "templates.jsonl")} == {t.id for t in held_out}
    pq.write_table(OUTCOMES.read(run), out / "outcomes.parquet")
    show(run, str(out))
    shown = capsys.readouterr().out
    assert shown.count("paft+cal") == 2
    assert "calibrated over validation rows" in shown
