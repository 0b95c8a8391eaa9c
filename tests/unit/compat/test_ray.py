"""Ray still has what paft_ray/compat/{ray,ray_range}.py rely on."""

import copy
import importlib.util
import inspect
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray._private.node import Node
from ray._private.runtime_env import constants as job_constants
from ray.core.generated import gcs_service_pb2, ray_client_pb2
from ray.data._internal.datasource.range_datasource import RangeDatasource
from ray.data._internal.logging import configure_logging
from ray.job_config import JobConfig
from ray.runtime_context import RuntimeContext
from ray.train import DataConfig
from ray.train.v2._internal import constants as train_constants
from ray.train.v2._internal.callbacks import datasets as train_datasets
from ray.tune.experimental import output

from paft_ray.compat import ray as compat
from paft_ray.compat.ray_range import IndexDatasource
from paft_ray.training.data import ResumableDataConfig


@pytest.mark.parametrize(
    ("call", "services"), [(compat.HEAD_CALL, gcs_service_pb2), (compat.CLIENT_SERVER_CALL, ray_client_pb2)]
)
def test_the_calls_that_tell_a_ray_from_another_server_are_served(call: str, services) -> None:
    service, method = call.removeprefix("/").split("/")
    found = services.DESCRIPTOR.services_by_name[service.rpartition(".")[2]]
    assert found.full_name == service
    assert method in found.methods_by_name


def test_variables_of_ray_train_and_of_jobs_are_those_that_ray_reads() -> None:
    assert compat.TRAIN_PRINT_PATCH == train_constants.ENABLE_PRINT_PATCH_ENV_VAR
    assert compat.TRAIN_GROUP_START_TIMEOUT_S == train_constants.WORKER_GROUP_START_TIMEOUT_S_ENV_VAR
    assert compat.TRAIN_PREEMPTION_WATCHER == train_constants.ENABLE_PREEMPTION_WATCHER_ENV_VAR
    assert compat.TRAIN_HEALTH_CHECK_INTERVAL_S == train_constants.HEALTH_CHECK_INTERVAL_S_ENV_VAR
    assert compat.TUNE_NEW_OUTPUT in inspect.getsource(output)
    assert compat.DATA_LOG_LEVEL in inspect.getsource(inspect.getmodule(configure_logging))


def test_a_submitted_job_is_known_by_rays_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(job_constants.RAY_JOB_CONFIG_JSON_ENV_VAR, raising=False)
    assert not compat.is_submitted_job()
    monkeypatch.setenv(job_constants.RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")
    assert compat.is_submitted_job()


def test_ray_asks_a_jobs_settings_for_the_working_directory() -> None:
    config = compat.job_config(["/there"])
    assert not JobConfig()._runtime_env_has_working_dir()
    assert config._runtime_env_has_working_dir()
    assert config._get_proto_job_config().py_driver_sys_path == ["/there"]
    assert "job_config._runtime_env_has_working_dir()" in inspect.getsource(ray._private.worker.connect)


def test_the_address_of_a_cluster_is_resolved_as_ray_does() -> None:
    assert compat.bootstrap_address("192.0.2.7:6379") == "192.0.2.7:6379"


def test_ray_takes_a_folder_for_its_files() -> None:
    (name,) = compat.folder_arguments("/there")
    assert f'"{name}"' in inspect.getsource(ray.init)


def test_a_session_lies_in_rays_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compat.session_folder() is compat.log_folder() is None
    source = inspect.getsource(Node)
    assert "self._session_dir = os.path.join(self.temp_dir, self._session_name)" in source
    assert 'self._logs_dir = os.path.join(self._session_dir, "logs")' in source
    assert callable(RuntimeContext.get_temp_dir)
    assert callable(RuntimeContext.get_session_name)
    context = SimpleNamespace(get_temp_dir=lambda: "/t", get_session_name=lambda: "session_1")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    assert compat.log_folder() == Path("/t/session_1/logs")
    monkeypatch.setattr(ray, "get_runtime_context", SimpleNamespace)
    assert compat.log_folder() is None, "Ray's client"


def test_a_ray_is_ones_own_where_its_head_was_started_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not compat.is_own()
    assert callable(Node.is_head)
    assert "_global_node = ray._private.node.Node(" in inspect.getsource(ray.init)
    for head in (True, False):
        monkeypatch.setattr(ray._private.worker, "_global_node", SimpleNamespace(is_head=lambda head=head: head))
        assert compat.is_own() == head


def test_the_logger_that_is_quieted_is_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert importlib.util.find_spec(compat._PROGRESS_LOGGER)
    logger = logging.getLogger(compat._PROGRESS_LOGGER)
    monkeypatch.setattr(logger, "level", logger.level)
    compat.quiet_progress()
    assert logger.level == logging.ERROR


@pytest.mark.parametrize(("rows", "blocks"), [(0, 1), (1, 4), (10, 3), (10, 10), (4096, 7)])
def test_indices_come_in_the_blocks_of_rays_own_range(rows: int, blocks: int) -> None:
    ours, theirs = (
        [
            (block, task.metadata.num_rows, task.metadata.size_bytes)
            for task in source.get_read_tasks(blocks)
            for block in task()
        ]
        for source in (IndexDatasource(rows), RangeDatasource(rows, "arrow", column_name="id"))
    )
    assert ours == theirs
    assert IndexDatasource(rows).estimate_inmemory_data_size() == 8 * rows


def test_ray_train_copies_a_data_config_and_asks_it_for_iterators() -> None:
    """A copied ObjectRef would not be counted, so ours is the same object; its rows come from `configure`."""
    config = ResumableDataConfig({})
    assert copy.deepcopy(config) is config
    assert "copy.deepcopy(train_run_context.dataset_config)" in inspect.getsource(train_datasets)
    ours, theirs = (inspect.signature(kind.configure).parameters for kind in (ResumableDataConfig, DataConfig))
    assert list(ours) == list(theirs)
