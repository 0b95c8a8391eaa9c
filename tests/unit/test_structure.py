"""The shape of the package: imports form no cycle, files and functions stay small."""

import ast
import graphlib
from pathlib import Path

import grimp

PACKAGE = Path(__file__).parents[2] / "paft_ray"
LONGEST_FILE, LONGEST_FUNCTION = 350, 50


def test_no_module_imports_itself_over_others_not_even_for_types() -> None:
    graph = grimp.build_graph("paft_ray", exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(list(graphlib.TopologicalSorter(imports).static_order())) == len(imports) > 150


def test_files_and_functions_are_small() -> None:
    too_long = []
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > LONGEST_FILE:
            too_long.append(f"{file.name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                too_long += [f"{file.name}: {node.name}: {lines} lines"] if lines > LONGEST_FUNCTION else []
    assert too_long == []


def test_no_module_is_called_after_nothing() -> None:
    assert [file for file in PACKAGE.rglob("*.py") if file.stem in ("utils", "util", "helpers", "common", "misc")] == []


def test_one_module_makes_the_encoder_of_a_model() -> None:
    makers = [file.name for file in PACKAGE.rglob("*.py") if "Encoder.of(" in file.read_text(encoding="utf-8")]
    assert makers == ["encoder.py"]
