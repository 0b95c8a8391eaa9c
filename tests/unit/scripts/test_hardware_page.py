"""The table of tested hardware: what the files in docs/hardware say, no more."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hardware_page", "scripts/hardware_page.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = script()
TEXT = f"before\n{PAGE.BEGIN}\nold\n{PAGE.END}\nafter\n"


def row(name: str, status: str, value: float | None = None, note: str = "") -> dict[str, Any]:
    return {"name": name, "status": status, "value": value, "unit": "ratio", "tolerance": 0.5, "note": note}


def result(**values: Any) -> dict[str, Any]:
    given = {
        "device": "cuda",
        "name": "NVIDIA T",
        "memory_gib": 80.0,
        "cores": 8,
        "load": 0.5,
        "driver": "1.2",
        "cuda": "13.0",
        "date": "2026-11-29",
        "commit": "abc",
        "versions": {"torch": "2.13.0"},
        "num_weights": 1_100_000_000,
        "rows": [row("a: loss", "pass", 0.1)],
    }
    return {**given, **values}


def test_the_page_is_that_of_the_result_files() -> None:
    text = Path("docs/hardware.md").read_text(encoding="utf-8")
    assert text == PAGE.page(text, PAGE.read_results()), "run python scripts/hardware_page.py"


def test_a_table_takes_the_place_of_the_one_before_and_of_nothing_else() -> None:
    page = PAGE.page(TEXT, [result()])
    assert page.startswith(f"before\n{PAGE.BEGIN}\n")
    assert page.endswith(f"{PAGE.END}\nafter\n")
    assert "old" not in page
    assert page == PAGE.page(page, [result()])


def test_rows_that_failed_or_were_not_run_are_named_and_never_counted_as_passed() -> None:
    rows = [
        row("a: loss", "pass", 0.1),
        row("b: loss", "fail", 0.7),
        row("c: loss", "not run", None, "time ended"),
        row("d", "measured", 3.0),
    ]
    rows.append({**row("e: speed", "not run", None, "time ended"), "tolerance": None})
    page = PAGE.page(TEXT, [result(rows=rows)])
    assert "| 1 | 1 | 2 |" in page
    assert (
        "- fail: b: loss, 0.7 ratio where at most 0.5 passes\n- not run: c: loss (time ended)\n- not run: e: "
        "speed (time" in page
    )


def test_a_result_of_a_cpu_says_so() -> None:
    page = PAGE.page(TEXT, [result(device="cpu", name="Some CPU")])
    assert "| CPU only: Some CPU, 8 cores, 0.5 other processes on them |" in page
    assert "CUDA" not in page
