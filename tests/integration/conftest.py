"""Real Ray and the real small model, started once per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from paft_ray.cli.resources import vllm_build
from tests.support.resolved import resolved

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from paft_ray.config import Config
    from paft_ray.storage.store import Store


@pytest.fixture(scope="session", autouse=True)
def _build_for_cpus() -> None:
    if vllm_build() == "GPU":
        pytest.exit("the tests start engines on CPUs; use make test VENV=.venv-cpu BUILD=cpu", returncode=2)


_SMALL = (
    "name=tiny",
    "data.num_train=40",
    "data.num_validation=10",
    "data.num_test=3",
    "prompts.generators=[]",
    "score.enabled=false",
    "train.arms=[sft,paft]",
    "train.num_steps=3",
    "train.global_batch=8",
    "train.micro_batch=4",
    "train.checkpoint_every=2",
    "evaluate.latency_sample_rows=2",
    "engine.timeout_s=300",
    "engine.precision=fp32",
)
# Made up, for test_endpoint.py: the workers of the session's Ray have them only if they are there before it starts.
os.environ["GENERATOR_KEY"], os.environ["WRONG_KEY"] = "sk-test-0123456789", "sk-wrong-9876543210"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of a page."""
    from tests.support.chromium import started_browser

    yield from started_browser()


@pytest.fixture(scope="session")
def demo_model() -> str:
    """Folder of SmolLM2-135M-Instruct, converted once into the user's cache."""
    from paft_ray.models.resolve import resolve_model

    return resolve_model("demo", None)


@pytest.fixture(scope="session")
def tiny_model(demo_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random model that is far smaller, with the same tokenizer."""
    from tests.support.killing import make_tiny_model

    return make_tiny_model(demo_model, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One local Ray with four logical CPUs: workers and Ray Data tasks fit beside each other on two cores."""
    import ray

    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=f"/tmp/paft-{tmp_path_factory.getbasetemp().name}",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Config, Store]:
    """A small run with every stage done: arms base, sft and paft, 24 held-out templates x 3 test rows, fp32."""
    from paft_ray.config import load_config
    from paft_ray.stages.pipeline import run_all
    from paft_ray.storage.store import Store

    config = load_config("jobs/configs/demo.yaml", [*_SMALL, f"storage={tmp_path_factory.mktemp('runs')}"])
    run = Store.open(config.storage, config.name)
    given = resolved(config, run)
    given.write()
    run_all(given)
    return config, run
