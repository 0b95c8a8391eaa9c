"""What compat logs."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The lines of compat; those of the package do not reach the root logger, on which pytest listens."""
    logger = logging.getLogger("paft_ray.compat")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
