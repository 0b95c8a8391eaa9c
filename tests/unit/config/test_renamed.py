"""An old key ends in one line that names the new one, wherever it stands."""

from pathlib import Path
from typing import Any

import pytest

from paft_ray.cli.main import main
from paft_ray.config import Config, load_config, parse_config
from paft_ray.config.load import _annotation_at
from paft_ray.config.renamed import RENAMED
from paft_ray.errors import UserError

BASE = "name: a\ntask: demo\n"


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_new_key_exists_and_the_old_one_does_not(old: str, new: str) -> None:
    assert _annotation_at(new.split(".")) is not None
    assert _annotation_at(old.split(".")) is None


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_in_values_names_the_new_one(old: str, new: str) -> None:
    """Of a file, and of a run's config.json."""
    with pytest.raises(UserError) as error:
        parse_config({"name": "a", "task": "demo", **nested(old, 3)}, "RUN/config.json")
    assert str(error.value) == f"config RUN/config.json: {old}: was renamed; write {new}"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_in_an_override_names_the_new_one(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BASE)
    with pytest.raises(UserError) as error:
        load_config(path, [f"{old}=3"])
    assert str(error.value) == f"--set {old}=3: was renamed; write {new}"


def test_a_section_under_its_other_name_has_old_keys_too(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{BASE}evaluation: {{speed_rows: 3}}\n")
    with pytest.raises(UserError, match=r"evaluate\.speed_rows: was renamed; write evaluate\.latency_sample_rows"):
        load_config(path)


@pytest.mark.parametrize("section", [None, 3, [1], "text", {}])
def test_a_section_of_another_kind_has_no_old_keys(section: Any) -> None:
    values = {"name": "a", "task": "demo", "train": section}
    if section == {}:
        assert isinstance(parse_config(values, "x"), Config)
    else:
        with pytest.raises(UserError, match="config x: train: "):
            parse_config(values, "x")


def test_the_command_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{BASE}train: {{draw: every_k}}\n")
    with pytest.raises(SystemExit) as end:
        main(["run", str(path), "--dry-run"])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"paft: config {path}: train.draw: was renamed; write train.sampling.type\n"
