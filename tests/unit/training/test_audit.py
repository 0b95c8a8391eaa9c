"""The audit: a log agrees with the replay only if nothing was lost, repeated or swapped. Invariants 1, 2."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.errors import UserError
from paft_ray.prompts.sampling import Draw, EveryK, Groups, OfGroups, PerExample
from paft_ray.storage.store import Store
from paft_ray.training.audit import Findings, Training, check
from paft_ray.training.audit_log import SCHEMA, AuditLog, read_log
from paft_ray.training.data_order import locate, plan, step_positions
from paft_ray.training.example_builder import Row


def _thirds(templates: int) -> Groups:
    """Three groups, or fewer, one after another."""
    return tuple(tuple(range(first, templates, 3)) for first in range(min(3, templates)))


DRAWS: dict[str, Callable[[int, int], Draw]] = {
    "per_example": lambda seed, _: PerExample(seed=seed),
    "every_k": lambda seed, _: EveryK(seed=seed, k=3),
    "per_example over groups": lambda seed, n: OfGroups(by=PerExample(seed=seed), groups=_thirds(n)),
    "every_k over groups": lambda seed, n: OfGroups(by=EveryK(seed=seed, k=3), groups=_thirds(n)),
}


def training(
    *, n: int = 10, epochs: float = 2.5, batch: int = 4, templates: int = 5, seed: int = 3, draw: str = "per_example"
) -> Training:
    steps, positions = plan(n, epochs=epochs, steps=None, global_batch=batch)
    return Training(
        example_ids=[f"e{i}" for i in range(n)],
        templates=[f"t{i}" for i in range(templates)],
        draw=DRAWS[draw](seed, templates),
        seed=seed,
        global_batch=batch,
        num_steps=steps,
        num_positions=positions,
    )


def used(of: Training) -> list[dict[str, object]]:
    """The log of a training in which nothing went wrong, made row by row."""
    rows = []
    epochs, offsets, examples = locate(np.arange(of.num_steps * of.global_batch), len(of.example_ids), of.seed)
    for position, (epoch, offset, index) in enumerate(zip(epochs, offsets, examples, strict=True)):
        example = of.example_ids[index]
        drawn = of.draw.index(
            epoch=int(epoch), example_id=example, index_in_epoch=int(offset), num_templates=len(of.templates)
        )
        rows.append(
            {
                "step": position // of.global_batch,
                "position": position,
                "epoch": int(epoch),
                "example_id": example,
                "template": of.templates[drawn],
                "weight": float(position < of.num_positions),
            }
        )
    return rows


def found(of: Training, rows: Sequence[dict[str, object]]) -> Findings:
    return check(of, [pa.Table.from_pylist(rows[i : i + 7], schema=SCHEMA) for i in range(0, len(rows), 7)])


trainings = st.builds(
    training,
    n=st.integers(2, 30),
    epochs=st.floats(0.5, 4),
    batch=st.sampled_from([1, 2, 4, 8]),
    templates=st.integers(2, 9),
    seed=st.integers(0, 99),
    draw=st.sampled_from(list(DRAWS)),
)


@given(of=trainings, data=st.data())
def test_a_log_without_fault_agrees_in_any_order(of: Training, data: st.DataObject) -> None:
    rows = used(of)
    seen = found(of, data.draw(st.permutations(rows)))
    assert seen.agrees
    assert (seen.rows, seen.steps, seen.reported) == (len(rows), of.num_steps, ())


@given(of=trainings, data=st.data())
def test_a_lost_row_is_found(of: Training, data: st.DataObject) -> None:
    rows = used(of)
    rows.pop(data.draw(st.integers(0, len(rows) - 1)))
    assert (found(of, rows).lost, found(of, rows).repeated, found(of, rows).differing) == (1, 0, 0)


@given(of=trainings, data=st.data())
def test_a_repeated_row_is_found(of: Training, data: st.DataObject) -> None:
    rows = used(of)
    rows.append(data.draw(st.sampled_from(rows)))
    assert (found(of, rows).lost, found(of, rows).repeated, found(of, rows).differing) == (0, 1, 0)


@given(of=trainings, data=st.data())
def test_two_rows_that_changed_places_are_found(of: Training, data: st.DataObject) -> None:
    rows = used(of)
    one, other = (
        data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=2, max_size=2, unique=True))
        if len(rows) > 1
        else (0, 0)
    )
    rows[one], rows[other] = (
        {**rows[one], "position": rows[other]["position"]},
        {**rows[other], "position": rows[one]["position"]},
    )
    assert found(of, rows).differing == (2 if one != other else 0)


@given(of=trainings, data=st.data())
def test_an_example_in_place_of_another_is_one_lost_and_one_repeated(of: Training, data: st.DataObject) -> None:
    rows = used(of)
    first = [row for row in rows if row["epoch"] == 0]
    one, other = data.draw(st.sampled_from(first)), data.draw(st.sampled_from(first))
    rows[rows.index(one)] = {**one, "example_id": other["example_id"]}
    seen = found(of, rows)
    assert (seen.lost, seen.repeated, seen.differing) == ((0, 0, 0) if one is other else (1, 1, 1))


@given(of=trainings, data=st.data())
def test_another_template_than_the_drawn_one_is_found_and_told(of: Training, data: st.DataObject) -> None:
    rows = used(of)
    row = data.draw(st.sampled_from(rows))
    other = data.draw(st.sampled_from([t for t in of.templates if t != row["template"]]))
    rows[rows.index(row)] = {**row, "template": other}
    seen = found(of, rows)
    assert (seen.lost, seen.repeated, seen.differing) == (0, 0, 1)
    assert f"{row['example_id']} under {other}" in seen.reported[0]
    assert f"{row['example_id']} under {row['template']}" in seen.reported[0]


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"step": 9}, 0), ({"position": 99}, 0), ({"position": -1}, 0), ({"epoch": 1}, 1), ({"epoch": 99}, 1), ({"example_id": "stranger"}, 1),  # noqa: E501
        ({"template": "stranger"}, 0), ({"weight": 0.0}, 0),
    ],
)  # fmt: skip
def test_every_column_counts(change: dict[str, object], lost: int) -> None:
    rows = used(training())
    rows[2] = {**rows[2], **change}
    seen = found(training(), rows)
    assert (seen.lost, seen.differing, len(seen.reported)) == (lost, 1, 1)


def test_a_row_that_only_fills_the_last_batch_must_have_weight_0() -> None:
    of = training()
    rows = used(of)
    assert [row["weight"] for row in rows[of.num_positions :]] == [0.0] * 3
    rows[-1] = {**rows[-1], "weight": 1.0}
    assert found(of, rows).differing == 1


def _write(store: Store, of: Training, steps: range, world_size: int, saves: Sequence[int]) -> None:
    """Trains `steps`, saving after those in `saves`; the rest is lost with the workers."""
    made = used(of)
    rows = [Row(**{name: row[name] for name in SCHEMA.names if name != "step"}) for row in made]  # type: ignore[typeddict-item]
    parts: list[object] = []
    logs = [
        AuditLog(
            store,
            rank=rank,
            start_step=steps.start,
            gather=lambda value, rank=rank: parts if rank == 0 else parts.append(value),
        )
        for rank in range(world_size)
    ]
    for step in steps:
        for rank, log in enumerate(logs):
            log.add(step, [rows[p] for p in step_positions(step, rank, world_size, of.global_batch)])
        if step + 1 in saves:
            parts.clear()
            for log in logs[1:]:
                log.save(step + 1)
            parts.append(logs[0]._rows)
            logs[0].save(step + 1)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("seed", range(6))
def test_what_a_restart_repeats_is_dropped_at_any_world_size(seed: int, draw: str, tmp_path: Path) -> None:
    random, of, store = Random(seed), training(batch=8, epochs=9, draw=draw), Store(str(tmp_path))
    start, saves = 0, [0]
    while start < of.num_steps:
        end, every = random.randint(start + 1, of.num_steps), random.randint(1, 5)
        written = [step for step in range(start + 1, end + 1) if step % every == 0 or step == of.num_steps]
        _write(store, of, range(start, end), random.choice([1, 2, 4, 8]), written)
        saves = [step for step in saves if step <= start] + written
        start = random.choice(saves[-2:]) if end < of.num_steps else end
    seen = check(of, read_log(store))
    assert seen.agrees
    assert seen.rows == of.num_steps * of.global_batch


def test_a_file_that_is_half_written_is_removed_at_the_next_start(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("steps-00000000-00000004.parquet.77.part", b"PAR1")
    AuditLog(store, rank=0, start_step=0, gather=lambda value: [value])
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_table("steps-00000000-00000004.parquet", pa.table({"a": [1]}))
    with pytest.raises(UserError, match="not the table that belongs there"):
        list(read_log(store))
