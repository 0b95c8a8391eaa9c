"""What workers say is printed by the driver, in order; without a console it is printed where it is said."""

import pytest

from paft_ray.console import console, say


def test_lines_of_a_worker_come_out_at_the_driver_in_order(
    ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    @ray.remote(num_cpus=0)
    def work() -> None:
        for number in range(5):
            say(f"line {number}")

    with console():
        ray.get(work.remote())
    assert capsys.readouterr().out.splitlines() == [f"line {number}" for number in range(5)]


def test_without_a_console_a_line_is_printed_where_it_is_said(
    ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    say("alone")
    assert capsys.readouterr().out == "alone\n"
