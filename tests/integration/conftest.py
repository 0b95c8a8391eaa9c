"""Real Ray and the real small model, started once per session."""

import os
from collections.abc import Iterator

import pytest

# Made up, for test_endpoint.py: the workers of the session's Ray have them only if they are there before it starts.
os.environ["GENERATOR_KEY"], os.environ["WRONG_KEY"] = "sk-test-0123456789", "sk-wrong-9876543210"


@pytest.fixture(scope="session")
def demo_model() -> str:
    """Folder of SmolLM2-135M-Instruct, converted once into the user's cache."""
    from paft_ray.models import resolve_model

    return resolve_model("demo", None)


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One local Ray with four logical CPUs: workers and Ray Data tasks fit beside each other on two cores."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=f"/tmp/paft-{tmp_path_factory.getbasetemp().name}")
    yield
    ray.shutdown()
