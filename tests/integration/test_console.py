"""What workers log is shown by the driver, in order; without a console it is shown where it is logged."""

import pytest

from paft_ray.console import console
from paft_ray.log import get_logger

_log = get_logger("paft_ray.tests")


def test_lines_of_a_worker_come_out_at_the_driver_in_order(
    ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    @ray.remote(num_cpus=0)
    def work() -> None:
        for number in range(5):
            get_logger("paft_ray.tests").info(f"line {number}")

    for _ in range(5):  # the command may end before the process that takes the lines has started
        with console():
            ray.get(work.remote())
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(" ")[2] for line in lines] == [f"line {number}" for number in range(5)]


def test_without_a_console_a_line_is_shown_where_it_is_logged(
    ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    _log.info("alone")
    assert capsys.readouterr().out.endswith(" alone\n")
