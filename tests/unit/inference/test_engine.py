"""What arrives from the engine, without an engine."""

import pyarrow as pa

from paft_ray.inference.engine import ANSWERS, ARRIVING, take_nodes
from paft_ray.inference.engine_actor import EngineActor
from tests.chaos.processes import WORKERS


def test_each_replica_that_answered_is_on_one_node_and_answers_keep_their_schema() -> None:
    rows = pa.Table.from_pylist(
        [
            {"key": "0", "error": "", "replica": "a", "node": "10.0.0.1"},
            {"key": "1", "error": "", "replica": "b", "node": "10.0.0.1"},
            {"key": "2", "error": "", "replica": "a", "node": "10.0.0.1"},
            {"key": "3", "error": "no text"},  # never reached an engine
        ],
        schema=ARRIVING,
    )
    answers, nodes = take_nodes(rows)
    assert answers.schema == ANSWERS
    assert answers["key"].to_pylist() == ["0", "1", "2", "3"]
    assert nodes == {"a": "10.0.0.1", "b": "10.0.0.1"}


def test_chaos_finds_the_engines_by_the_name_of_their_class() -> None:
    assert WORKERS["score"] == EngineActor.__name__
