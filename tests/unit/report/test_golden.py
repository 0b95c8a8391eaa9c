"""The Markdown file of a small made-up run, word by word. Where it is meant to change, write it anew:
`python -m tests.unit.report.test_golden`."""

import tempfile
from pathlib import Path

from paft_ray.config import parse_config
from paft_ray.report.inputs import Measured
from paft_ray.report.render import write_report
from paft_ray.stages.registry import REPORTED
from tests.support.silent_run import LABELS, silent_run

GOLDEN = Path(__file__).with_name("golden_report.md")
CONFIG = parse_config({"name": "small", "task": "demo", "report": {"num_bootstrap": 100}}, source="test")
ARMS = {"base": (0.5, 1.0), "sft": (0.7, 0.5), "paft": (0.9, 0.0)}


def markdown(folder: Path) -> str:
    run = silent_run(folder / "small", num_examples=20, seeds=(0, 1, 2), arms=ARMS)
    write_report(run, config=CONFIG, stages=REPORTED, measured=Measured.of(run, LABELS))
    return run.read_bytes("report/report.md").decode()


def test_a_small_report_says_the_same_word_by_word(tmp_path: Path) -> None:
    assert markdown(tmp_path) == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(markdown(Path(folder)), encoding="utf-8")
