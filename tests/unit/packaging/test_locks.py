"""Locked installs: locks/ hold what pyproject.toml asks for, by version and hash, and nothing names another index."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted(Path("locks").glob("*.txt"))
PYTORCH = "https://download.pytorch.org/whl/cpu"
MACHINES = [
    {"python_version": python, "sys_platform": "linux", "platform_machine": machine}
    for python in ("3.11", "3.12")
    for machine in ("x86_64", "aarch64")
]

URL = r"(?:https?|ftp|file)://[^\s\"'`<>\])]+"
ADDRESSES = [
    rf"--?(?:extra-index-url|index-url|default-index|find-links|index|i|f)[\s=\"',]+({URL})",  # options of pip and uv
    rf"(?i)\b(?:extra-index-url|index-url|default-index|find-links)[\"']?\s*[=:]\s*\[?[\"']?({URL})",  # their settings
    rf"\b(?:PIP|UV)_(?:EXTRA_INDEX_URL|INDEX_URL|DEFAULT_INDEX|INDEX|FIND_LINKS)[\"']?\]?\s*[=:,]\s*[\"']?({URL})",
    rf"\[\[(?:tool\.uv\.)?index\]\][^\[]*?\burl\s*=\s*[\"']({URL})",  # uv.toml, pyproject.toml
    rf"(?m)^\s*[\w.\[\],-]+ @ ({URL})",  # a package by its address
    r"\b(https?://[^\s\"'`<>]*/simple)\b",  # an index as PEP 503 lays it out
    r"\b(https?://[^\s\"'`<>]*\.(?:whl|tar\.gz)\b)",  # a package file
]
"""Where a file can name the place that packages come from."""


def addresses(text: str) -> set[str]:
    """Addresses of indexes and packages in a text, PyTorch's public index left out."""
    named = {match for pattern in ADDRESSES for match in re.findall(pattern, text)}
    return {address for address in named if address.rstrip("/") not in (PYTORCH, f"{PYTORCH}/torch")}


def entries(lock: Path) -> dict[str, tuple[Requirement, int]]:
    """Requirement and number of hashes of each package in a lock."""
    text = "".join(line for line in lock.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#"))
    blocks = re.split(r"\n(?=\S)", text.strip())
    parsed = [
        (Requirement(block.split("\\\n")[0]), len(re.findall(r"--hash=sha256:[0-9a-f]{64}", block))) for block in blocks
    ]
    return {canonicalize_name(requirement.name): (requirement, hashes) for requirement, hashes in parsed}


def test_every_package_is_locked_by_version_and_hash_without_an_address() -> None:
    assert [lock.stem for lock in LOCKS] == ["build", "cpu", "dev", "gpu"]
    for lock in LOCKS:
        for requirement, hashes in entries(lock).values():
            assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
            assert hashes > 0, requirement
            assert requirement.url is None
        assert "://" not in lock.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("cpu", PROJECT["project"]["dependencies"]),
        ("cpu", PROJECT["project"]["optional-dependencies"]["cpu"]),
        ("cpu", PROJECT["project"]["optional-dependencies"]["demo"]),
        ("gpu", PROJECT["project"]["dependencies"]),
        ("gpu", PROJECT["project"]["optional-dependencies"]["gpu"]),
        ("gpu", PROJECT["project"]["optional-dependencies"]["demo"]),
        ("dev", PROJECT["dependency-groups"]["dev"]),
        ("dev", PROJECT["dependency-groups"]["fuzz"]),
        ("dev", PROJECT["project"]["optional-dependencies"]["tracking"]),
        ("build", PROJECT["dependency-groups"]["build"]),
        ("build", PROJECT["build-system"]["requires"]),
    ],
)
def test_the_locks_hold_what_the_project_asks_for(lock: str, wanted: list[str]) -> None:
    locked = entries(Path(f"locks/{lock}.txt"))
    for requirement in map(Requirement, wanted):
        found, _ = locked[canonicalize_name(requirement.name)]
        version = str(found.specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), f"make locks: {requirement} is {version}"
        for machine in MACHINES:
            if requirement.marker is None or requirement.marker.evaluate(dict(machine)):
                assert found.marker is None or found.marker.evaluate(dict(machine)), (requirement, machine)


def test_locks_that_are_installed_together_agree() -> None:
    locked = {lock.stem: entries(lock) for lock in LOCKS}
    for build in ("cpu", "gpu"):
        for other in ("dev", "build"):
            for name in locked[build].keys() & locked[other].keys():
                assert locked[build][name][0].specifier == locked[other][name][0].specifier, name


def test_torch_of_the_cpu_build_has_a_hash_for_each_python_and_machine() -> None:
    requirement, hashes = entries(Path("locks/cpu.txt"))["torch"]
    assert str(requirement.specifier).endswith("+cpu")
    assert hashes >= len(MACHINES)


def test_no_tracked_file_names_another_index() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")
    named = {
        name: found
        for name in filter(None, files)
        if Path(name).is_file() and not name.endswith("packaging/test_locks.py")
        if (found := addresses(Path(name).read_text(encoding="utf-8", errors="replace")))
    }
    assert named == {}


@pytest.mark.parametrize(
    "text",
    [
        "uv pip install --index-url https://mirror.example/pypi numpy",
        'command = ["--extra-index-url", "https://mirror.example/pypi"]',
        "pip install -i https://mirror.example/pypi numpy",
        "--find-links=https://mirror.example/wheels",
        "[global]\nindex-url = https://mirror.example/pypi\n",
        'extra-index-url = ["https://mirror.example/pypi"]',
        "ENV UV_INDEX_URL=https://mirror.example/pypi",
        'os.environ["PIP_FIND_LINKS"] = "https://mirror.example/wheels"',
        '[[tool.uv.index]]\nname = "mirror"\nurl = "https://mirror.example/pypi"\n',
        "numpy @ https://mirror.example/numpy-2.zip",
        'source = { registry = "https://mirror.example/simple" }',
        '{ url = "https://mirror.example/packages/numpy-2.0-py3-none-any.whl" }',
    ],
)
def test_an_index_is_found_wherever_it_can_be_named(text: str) -> None:
    (address,) = addresses(text)
    assert address.startswith("https://mirror.example")


def test_only_torch_comes_from_pytorchs_index() -> None:
    (index,) = PROJECT["tool"]["uv"]["index"]
    assert index == {"name": "pytorch-cpu", "url": PYTORCH, "explicit": True}
    assert PROJECT["tool"]["uv"]["sources"] == {"torch": {"index": "pytorch-cpu", "extra": "cpu"}}
    unsafe = "unsafe" + "-best-match"
    grep = subprocess.run(
        ["git", "grep", "-l", unsafe, "--", ":!EXPERIMENTS.md"], capture_output=True, text=True, check=False
    )
    assert grep.stdout == ""


def test_set_up_installs_the_locks_and_checks_their_hashes() -> None:
    script = Path("scripts/setup.sh").read_text(encoding="utf-8")
    installs = re.findall(r"(?:pip install|pip sync)(?:.*\\\n)*.*", script)
    assert len(installs) == 3
    bootstrap, sync, package = installs
    assert "--require-hashes" in bootstrap
    assert "--require-hashes" in sync
    assert "--build-constraints locks/build.txt" in sync
    assert all(option in package for option in ("--no-deps", "--no-build-isolation", "--editable ."))
