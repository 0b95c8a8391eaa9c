"""Answers of attempts that did not end: whatever of them is there, the next attempt asks exactly the others."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paft_ray.inference import answer_cache
from paft_ray.inference.answer_cache import SAVE_ROWS, AnswerCache, BufferedWriter, identity
from paft_ray.storage.stage_cache import PARTIAL, cached
from paft_ray.storage.store import Store

SCHEMA = pa.schema([("request", pa.string()), ("token_ids", pa.list_(pa.int32())), ("error", pa.string())])


def rows(numbers: list[int], error: str = "") -> pa.Table:
    return pa.Table.from_pylist(
        [{"request": identity(str(n), [n], "{}"), "token_ids": [n], "error": error} for n in numbers], schema=SCHEMA
    )


def parts(folder: Path) -> AnswerCache:
    return AnswerCache.of(Store.open(str(folder), "run"), "score").keyed({"model": "a"})


@given(st.lists(st.lists(st.integers(0, 19), unique=True, min_size=1), max_size=6), st.data())
def test_any_parts_and_a_resume_are_the_whole_with_no_row_twice(
    tmp_path_factory: pytest.TempPathFactory, stored: list[list[int]], data: st.DataObject
) -> None:
    place = parts(tmp_path_factory.mktemp("run"))
    for numbers in stored:
        place.add(rows(numbers))
    files = sorted(Path(place.run.path(place.folder)).glob("*.parquet"))
    kept = data.draw(st.sets(st.sampled_from(files))) if files else set()
    for file in files:
        if file not in kept:
            file.unlink()
    answered = place.read(SCHEMA)
    known = set(answered["request"].to_pylist())
    assert len(known) == answered.num_rows
    asked = [n for n in range(20) if identity(str(n), [n], "{}") not in known]
    if asked:
        place.add(rows(asked))
    whole = place.read(SCHEMA)
    assert sorted(row["token_ids"][0] for row in whole.to_pylist()) == list(range(20))
    assert sorted(answered["token_ids"].combine_chunks().flatten().to_pylist() + asked) == list(range(20)), (
        "no row was asked that was there"
    )


def test_torn_foreign_and_half_written_files_are_skipped_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = parts(tmp_path)
    place.add(rows([1, 2]))
    place.add(rows([3]))
    place.add(pa.table({"request": ["x"], "error": [""]}))
    folder = Path(place.run.path(place.folder))
    torn = next(file for file in folder.glob("*.parquet") if pq.read_metadata(file).num_rows == 2)
    torn.write_bytes(torn.read_bytes()[:-9])
    (folder / "part-0123456789abcdef.parquet.77.part").write_bytes(b"PAR1")
    (folder / "part-fedcba9876543210.parquet").write_bytes((folder / torn.name).read_bytes())
    assert place.read(SCHEMA)["token_ids"].to_pylist() == [[3]]
    assert capsys.readouterr().out.count("skipping damaged answer file") == 4


def test_a_row_that_was_answered_at_last_did_not_fail(tmp_path: Path) -> None:
    place = parts(tmp_path)
    place.add(rows([1], error="boom"))
    place.add(rows([1]))
    place.add(rows([2], error="boom"))
    assert sorted(place.read(SCHEMA)["error"].to_pylist()) == ["", "boom"]


def test_parts_of_another_model_or_request_are_not_taken(tmp_path: Path) -> None:
    place = parts(tmp_path)
    place.add(rows([1]))
    assert AnswerCache.of(place.run, "score").keyed({"model": "b"}).read(SCHEMA).num_rows == 0
    assert (
        len(
            {
                identity(*request)
                for request in [
                    ("1", [1], "{}"),
                    ("1", [2], "{}"),
                    ("2", [1], "{}"),
                    ("1", [1], '{"seed": 1}'),
                    ("1", "1", "{}"),
                ]
            }
        )
        == 5
    )


def test_two_attempts_never_write_over_each_other(tmp_path: Path) -> None:
    first, second = parts(tmp_path), parts(tmp_path)
    first.add(rows([1]))
    second.add(rows([2]))
    second.add(rows([1]))
    assert len(list(Path(first.run.path(first.folder)).iterdir())) == 2
    assert first.read(SCHEMA).num_rows == 2


def test_rows_are_stored_by_count_by_time_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, now = parts(tmp_path), [0.0]
    monkeypatch.setattr("paft_ray.inference.answer_cache.time.monotonic", lambda: now[0])
    saver = BufferedWriter(place)
    saver.add(rows([1]))
    assert place.read(SCHEMA).num_rows == 0
    now[0] = 9.9
    saver.save_due()
    assert place.read(SCHEMA).num_rows == 0
    now[0] = 10.0
    saver.save_due()
    assert place.read(SCHEMA).num_rows == 1
    saver.add(rows(list(range(2, 2 + SAVE_ROWS))))
    assert place.read(SCHEMA).num_rows == 1 + SAVE_ROWS
    saver.add(rows([0]))
    saver.save()
    assert place.read(SCHEMA).num_rows == 2 + SAVE_ROWS


def test_the_parts_go_with_the_manifest_and_with_force(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "run")
    place = AnswerCache.of(run, "score")

    def broken() -> dict[str, int]:
        place.add(rows([1]))
        raise RuntimeError

    def whole() -> dict[str, int]:
        return {"kept": place.read(SCHEMA).num_rows}

    for force, kept in ((False, 1), (True, 0)):
        with pytest.raises(RuntimeError):
            cached(run, "score", {}, broken, announce=lambda _: None, force=force)
        run.delete("score/manifest.json")
        assert cached(run, "score", {}, whole, announce=lambda _: None, force=force)["kept"] == kept
        assert not run.exists(f"score/{PARTIAL}")
        run.delete("score/manifest.json")


def test_answers_that_cost_money_outlive_a_finished_stage_and_force(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path), "run")
    paid, local = AnswerCache.of(run, "synthesize").lasting, AnswerCache.of(run, "synthesize")
    for cache in (paid, local):
        cache.keyed({"model": "a"}).add(rows([1]))
    for force in (False, True):
        cached(run, "synthesize", {}, dict, announce=lambda _: None, force=force)
    assert [cache.keyed({"model": "a"}).read(SCHEMA).num_rows for cache in (paid, local)] == [1, 0]


def test_a_library_decides_nothing_that_an_endpoint_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = AnswerCache.of(Store.open(str(tmp_path), "run"), "synthesize")
    before = [each.keyed({"model": "a"}).folder for each in (cache.lasting, cache)]
    monkeypatch.setattr(answer_cache, "deciding_versions", lambda stage: {"vllm": "99"})
    paid, local = (each.keyed({"model": "a"}).folder for each in (cache.lasting, cache))
    assert paid == before[0]
    assert local != before[1]
