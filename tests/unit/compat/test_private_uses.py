"""Private parts of Ray, vLLM, DeepSpeed, PEFT, transformers and torch, and patches of them, are in paft_ray/compat
only; tests that need one are listed here."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LIBRARIES = {"ray", "vllm", "deepspeed", "peft", "transformers", "torch"}
UNDOCUMENTED = re.compile(
    r"(ray\.llm|ray\.core|vllm\.v1|vllm\.model_executor|peft\.tuners|transformers\.integrations)\b"
    r"(?!\.HfDeepSpeedConfig)"
)
"""Modules without an underscore that are no documented interface either, but for the one class that is."""
NAMES = {
    "__compatible_ops__", "cast_input_dtype_enabled", "collective_rpc", "fn_constructor_kwargs", "get_mp_context",
    "lora_variant", "map_batches_kwargs", "optimizer.optimizer",
}  # fmt: skip
"""Attributes without an underscore that are no documented interface either."""
TEXTS = re.compile(
    r"\._(internal|private)\b|__inference_error__|RAY_TRAIN_[A-Z]|RAY_JOB_CONFIG_JSON|RAY_AIR_NEW_OUTPUT"
)
PUBLIC = re.compile(r"os\._exit|torch\.backends\.")
"""Attributes that only look private, and settings that are documented to be assigned."""
IN_TESTS = {
    "test_endpoint.py": "the logs of a session that has just ended",
    "test_failures.py": "the folder that a message must name",
    "test_inference_faults.py": "the process of an engine's actor, to kill it",
    "test_object_storage.py": "Ray Train's and Tune's own paths on a storage",
    "killing.py": "the processes of this Ray's workers, to kill them",
    "test_cluster.py": "Ray's check of cluster files",
    "test_kubernetes.py": "the variable that says how long Ray drains a node",
    "test_connectivity.py": "the addresses of clusters on this machine, of which there are none",
    "test_submit.py": "what Ray packs of a working directory",
    "test_session_path.py": "what Ray is given to import from",
    "test_fused_lora.py": "PEFT's own forward, to compare with",
}
"""Name of a test file -> the private thing that it needs."""


def private_uses(source: str) -> list[str]:
    """What a Python file does that only compat may: `LINE: WHAT`."""
    tree = ast.parse(source)
    imported = _imported(tree)
    own = _own_names(tree)
    return sorted({f"{node.lineno}: {what}" for node in ast.walk(tree) for what in _found(node, imported, own)})


def _imported(tree: ast.AST) -> set[str]:
    """Names in a file that stand for a module of the libraries, or for something in one."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                (a.asname or a.name).partition(".")[0] for a in node.names if a.name.partition(".")[0] in LIBRARIES
            }
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES:
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def _own_names(tree: ast.AST) -> set[str]:
    """Functions, methods and attributes that the file itself makes."""
    made = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    return made | {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }


def _found(node: ast.AST, imported: set[str], own: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from _imports(node)
    elif isinstance(node, ast.Attribute):
        text = ast.unparse(node)
        private = node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in own
        if PUBLIC.match(text):
            return
        if private or node.attr in NAMES or text.endswith("optimizer.optimizer"):
            yield text
        elif isinstance(node.ctx, ast.Store | ast.Del) and text.partition(".")[0] in imported and "(" not in text:
            yield f"patch of {text}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
        if TEXTS.search(node.value):
            yield repr(node.value)
    elif isinstance(node, ast.Call):
        yield from _calls(node, imported)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        yield from ["patch of sys.modules"] * (ast.unparse(node.value) == "sys.modules")


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    paths = (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import)
        else [f"{node.module}.{alias.name}" for alias in node.names]
    )
    for path in paths:
        parts = path.split(".")
        if parts[0] in LIBRARIES and (any(part.startswith("_") for part in parts) or UNDOCUMENTED.match(path)):
            yield f"import of {path}"


def _calls(node: ast.Call, imported: set[str]) -> Iterator[str]:
    function, first = ast.unparse(node.func), node.args[0] if node.args else None
    name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else None
    private = isinstance(name, str) and (name in NAMES or (name.startswith("_") and not name.startswith("__")))
    if function in ("getattr", "hasattr", "setattr", "delattr") and private:
        yield f"{function} of {name}"
    if function in ("setattr", "delattr") and first is not None and ast.unparse(first).partition(".")[0] in imported:
        yield f"patch of {ast.unparse(first)}"
    if function in ("sys.modules.update", "sys.modules.pop", "sys.modules.setdefault"):
        yield "patch of sys.modules"


def tracked(folder: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", f"{folder}/*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return [ROOT / name for name in names if (ROOT / name).exists()]


def test_only_compat_holds_private_uses_and_patches() -> None:
    files = [file for file in tracked("paft_ray") if file.relative_to(ROOT).parts[1] != "compat"]
    assert len(files) > 100
    found = {str(file.relative_to(ROOT)): uses for file in files if (uses := private_uses(file.read_text()))}
    assert found == {}


def test_tests_that_use_private_parts_of_libraries_are_listed() -> None:
    found = set()
    for file in tracked("tests"):
        name = str(file.relative_to(ROOT))
        uses = [use for use in private_uses(file.read_text()) if _of_a_library(use)]
        if uses and not name.startswith("tests/unit/compat/"):
            found.add(Path(name).name)
    assert found == IN_TESTS.keys()


def _of_a_library(use: str) -> bool:
    """Tests may reach into the package that they test."""
    return bool(re.search(r"import of|\bray\._|patch of (ray|vllm|torch|peft|deepspeed)|lora_variant|working_dir", use))


@pytest.mark.parametrize(
    "line",
    [
        "from ray._private.state import actors",
        "import ray.data._internal.planner as planner",
        "from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF",
        "from vllm.v1.engine.exceptions import EngineDeadError",
        "import ray\nray._private.worker._global_node",
        "import torch\ntorch.cuda.is_available = lambda: False",
        "import vllm.utils\nsetattr(vllm.utils, 'cuda', None)",
        "import sys\nsys.modules['vllm'] = None",
        "import sys\nsys.modules.update(vllm=None)",
        "layer.lora_variant = {}",
        "getattr(model.config, '_attn_implementation', None)",
        "model.config._attn_implementation",
        "engine.optimizer.optimizer.state",
        "name = 'RAY_TRAIN_ENABLE_PRINT_PATCH'",
        "name = '__inference_error__'",
    ],
)
def test_each_kind_of_private_use_is_found(line: str) -> None:
    assert private_uses(line)


@pytest.mark.parametrize(
    "line",
    [
        "import ray\nray.get_runtime_context().get_node_id()",
        "from peft import LoraConfig",
        "import os\nos._exit(1)",
        "class A:\n    def _b(self):\n        return self._c\n\na._b()",
        "import sys\n'ray' in sys.modules",
    ],
)
def test_public_uses_are_not(line: str) -> None:
    assert private_uses(line) == []
