"""Rules of the unit tests."""

import pytest

from paft_ray.tasks import task


@pytest.fixture(autouse=True)
def no_grader_of_a_test_before() -> None:
    """A process looks once for the grader of an installed package; a test may have installed one that is gone."""
    task._made.cache_clear()
