"""Answers are kept in the order in which they came, however many tables there are."""

import pyarrow as pa
import pytest

from paft_ray.inference import arrived
from paft_ray.inference.arrived import Arrived


@pytest.mark.parametrize("num_tables", [0, 1, 3, 4, 9])
def test_rows_stay_as_they_came_and_small_tables_become_few(monkeypatch: pytest.MonkeyPatch, num_tables: int) -> None:
    monkeypatch.setattr(arrived, "_MOST_PARTS", 3)
    kept = Arrived(pa.table({"n": [-2, -1]}))
    for number in range(num_tables):
        kept.add(pa.table({"n": [2 * number, 2 * number + 1]}))
    assert kept.table["n"].to_pylist() == list(range(-2, 2 * num_tables))
    assert kept.num_rows == kept.table.num_rows
    assert kept.table["n"].num_chunks == 1 + num_tables // 3 + num_tables % 3
