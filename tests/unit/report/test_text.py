"""Names that only a changed outcomes.parquet can hold, in the report and its pictures; and licenses that a card could
not say."""

import base64
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from paft_ray.config import parse_config
from paft_ray.models.resolve import model_license
from paft_ray.report.inputs import Measured
from paft_ray.report.model_card import Origins, render_card
from paft_ray.report.render import write_report
from paft_ray.sanitize import holds_hidden
from paft_ray.stages.registry import REPORTED
from paft_ray.storage.artifacts import OUTCOMES
from paft_ray.storage.manifests import trained_models
from tests.support.made_stage import evaluated
from tests.support.page_run import config, hostile_run
from tests.unit.cli.test_export import measure, trained_run

ARMS = ["pa\x1b[31m_ft", "\u202ea_b", "<script>x</script>_`c` | $\\bad$ -->", "# heading\n\n<img src=x>", "\x00_\x85"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("arm", ARMS)
def test_the_name_of_an_arm_is_text_in_page_markdown_and_pictures(arm: str, tmp_path: Path) -> None:
    run = hostile_run(tmp_path, sweep=False)
    table = OUTCOMES.read(run)
    names = [arm if name == "paft" else name for name in table["arm"].to_pylist()]
    number = table.column_names.index("arm")
    evaluated(run, table.set_column(number, "arm", [names]))
    write_report(run, config=config(), stages=REPORTED)
    page, text = (run.read_bytes(f"report/{name}").decode() for name in ("report.html", "report.md"))
    assert not holds_hidden(text)
    assert not holds_hidden(page)
    assert "<script>x" not in page + text
    assert "\n# heading" not in text
    assert "<img src=x>" not in page + text
    pictures = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", page)
    assert pictures
    for picture in pictures:
        ElementTree.fromstring(base64.b64decode(picture))  # noqa: S314 (our own file)


LICENSES = [
    "mit\x85x",
    "a\u2028b",
    "a\x0cb",
    "x\r\ny",
    "\u202emit",
    "\x00",
    "---",
    "a: b # c",
    "null",
    "\ufeffmit",
    "1e3",
    "'\"\\",
    "\ufffe",
    " ",
    "é 日本 😀",
    "~",
    "\ud83d",
]


@pytest.mark.parametrize("license", LICENSES)
def test_a_license_of_any_text_stands_in_the_card(license: str, tmp_path: Path) -> None:
    run = trained_run(tmp_path)
    measure(run)
    given = Origins(
        base_id=f"o/{license}",
        base_license=license,
        data_license=license,
        datasets=(license,),
        generators={license: license},
    )
    model = trained_models(run)[0]
    settings = parse_config({"name": "run", "task": "demo"}, "test")
    card = render_card(model, settings, given, Measured.of(run), engine=settings.engine, adapter=False)
    assert isinstance(ModelCard(card).data.license, str)
    assert not holds_hidden(card)


def test_a_license_that_a_base_model_states_with_a_control_character_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text('---\nlicense: "mit\\Nx"\n---\n')
    (tmp_path / "config.json").write_text("{}")
    assert model_license(str(tmp_path), None) == "mit\x85x"
