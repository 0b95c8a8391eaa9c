"""What a measurement must reach: limits, and no decisive fall against an earlier one. For CI: one line each, JUnit
XML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from paft_ray.cli.out_file import written_to
from paft_ray.echo import echo
from paft_ray.errors import UserError
from paft_ray.files.uris import split_uri
from paft_ray.metrics.robustness import MIN_TEMPLATES, MIN_TEMPLATES_INTERVAL
from paft_ray.report.check import Check
from paft_ray.report.format import percent, points, probability, span
from paft_ray.sanitize import visible
from paft_ray.storage.store import Store

if TYPE_CHECKING:
    from paft_ray.metrics import Difference, Measure

LIMITS = ("mean", "worst", "decile", "worst_case")
"""Figures that may be limited: of results.json, and the lowest accuracy of any column of the suite."""
_OF_MANY = ("worst", "decile")
"""Those that a few templates do not have."""
OUTCOMES_FILE, ROWS_FILE = "outcomes.parquet", "rows.json"


def parse_limits(text: str | None) -> dict[str, float]:
    """Figure -> least value, of `mean=0.8,worst=0.6`. Raises `UserError`."""
    limits: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, value = part.strip().partition("=")
        try:
            limits[name] = float(value)
        except ValueError:
            limits[name] = math.nan
        if name not in LIMITS or not 0 <= limits[name] <= 1:
            raise UserError(
                f"--fail-below {part.strip()[:40]}: write FIGURE=FRACTION, such as worst=0.7; figures: "
                f"{', '.join(LIMITS)}"
            )
    return limits


def check_limits(limits: Mapping[str, float], *, num_templates: int | None, budget: float) -> None:
    """Raises `UserError` for a figure that the measurement will not have, with so many plain templates (None: it is not
    known how many)."""
    for name in limits:
        if budget < 1 and name != "mean":
            raise UserError(f"--fail-below {name}: with --budget only the mean is estimated; limit that, or ask all")
        if num_templates is not None and num_templates < MIN_TEMPLATES and name in _OF_MANY:
            raise UserError(
                f"--fail-below {name}: {num_templates} plain templates, at least {MIN_TEMPLATES} are needed; limit "
                "worst_case, the lowest accuracy under any template"
            )


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """An earlier measurement."""

    path: str
    outcomes: Any
    """Its outcomes.parquet."""
    rows: Mapping[str, str]
    """Id of a row -> hash of its content."""


def read_baseline(path: str | None) -> Baseline | None:
    """The measurement whose results.json a path names, read at once: the new one may take its place. Raises `UserError`
    where there is none."""
    if path is None:
        return None
    place, options = split_uri(path)
    folder, slash, name = place.rpartition("/")
    store = Store((folder or slash or ".") + options)
    if not all(store.is_file(each) for each in (name, OUTCOMES_FILE, ROWS_FILE)):
        raise UserError(
            f"--baseline {path}: give the results.json of an earlier `paft robustness`, with {OUTCOMES_FILE} and "
            f"{ROWS_FILE} beside it"
        )
    from paft_ray.storage.schemas import EVALUATED

    rows, outcomes = store.read_json(ROWS_FILE), store.read_table(OUTCOMES_FILE)
    if not {EVALUATED.field(name) for name in ("arm", "template_id", "example_id")} <= {*outcomes.schema}:
        raise UserError(f"--baseline {path}: the {OUTCOMES_FILE} beside it is not that of a `paft robustness`")
    known = {name: digest for name, digest in rows.items() if isinstance(digest, str)} if isinstance(rows, dict) else {}
    return Baseline(path=path, outcomes=outcomes, rows=known)


def beside(path: str) -> list[str]:
    """The files of the measurement whose results.json a path of this machine names."""
    return [path, *(str(Path(path).with_name(name)) for name in (OUTCOMES_FILE, ROWS_FILE))]


def check_comparable(
    baseline: Baseline, *, models: Sequence[str], templates: Sequence[str], rows: Mapping[str, str]
) -> None:
    """Raises `UserError` where an earlier measurement has no model or row, or too few templates (ids), in common with
    what is about to be measured. `rows`: id -> hash of its content; none where they are not known yet."""
    has = {name: set(baseline.outcomes[name].unique().to_pylist()) for name in ("arm", "template_id")}
    if not has["arm"] & {*models}:
        reason = f"it has no model of these names, but {', '.join(sorted(has['arm']))}; name yours alike (NAME=MODEL)"
    elif (num := len(has["template_id"] & {*templates})) < MIN_TEMPLATES_INTERVAL:
        reason = (
            f"{num or 'none'} of its templates {'are' if num > 1 else 'is'} in this suite, at least "
            f"{MIN_TEMPLATES_INTERVAL} are needed; measure both under the same --suite FILE"
        )
    elif rows and not rows.items() & baseline.rows.items():
        reason = "it has none of these rows; measure both with the same --data, --rows and seed"
    else:
        return
    raise UserError(f"--baseline {baseline.path}: cannot be compared: {reason}")


def checked(
    values: Mapping[str, Any], limits: Mapping[str, float], baseline: Baseline | None, now: Baseline
) -> list[Check]:
    """Every limit of every model, then every model against the earlier measurement. `values`: the content of
    results.json; `now`: this measurement. Raises `UserError` for a baseline that cannot be compared."""
    lowest = _lowest(now, values["headline"]) if "worst_case" in limits else {}
    found = [
        _limited(arm, name, lowest[arm] if name == "worst_case" else values["arms"][arm][name], least)
        for arm in values["arms"]
        for name, least in limits.items()
    ]
    return found + (_against(baseline, now, values["confidence"]) if baseline else [])


def _lowest(now: Baseline, headline: Measure) -> dict[str, float]:
    """Model -> its lowest accuracy of any column; one without answers is none."""
    from paft_ray.metrics.outcomes import arms_from_table, known_mean, mean_over_seeds

    return {
        arm: float(np.nanmin(known_mean(mean_over_seeds(outcomes.correct), axis=1)))
        for arm, outcomes in arms_from_table(now.outcomes, headline).items()
    }


def _limited(arm: str, name: str, value: float | None, least: float) -> Check:
    said = f"{name} {percent(value)} %, at least {percent(least)} % wanted"
    return Check(model=arm, what=f"{name} >= {least:g}", passed=value is not None and value >= least, said=said)


def _against(baseline: Baseline, now: Baseline, confidence: float) -> list[Check]:
    """Each model of both measurements: no decisive fall, over the cells that both asked of rows that are the same,
    p-values corrected for all models (Holm)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from paft_ray.metrics import corrected, difference
    from paft_ray.report.arm_figures import common_cells
    from paft_ray.report.inputs import arms_by_measure

    same = pa.array([row for row, digest in now.rows.items() if baseline.rows.get(row) == digest], pa.string())
    then, here = (
        arms_by_measure(table.filter(pc.is_in(table["example_id"], same))) if len(same) else {}
        for table in (baseline.outcomes, now.outcomes)
    )
    measure = next((name for name in here if name in then), None)
    gaps = {}
    arms = [arm for arm in here[measure] if arm in then[measure]] if measure else []
    for arm in arms:
        assert measure is not None
        one, other = common_cells(here[measure][arm], then[measure][arm])
        if one.template_ids:
            gaps[f"{arm} now"] = difference(one, other, confidence=confidence, names=(arm, "before"))
    if not gaps:
        raise UserError(
            f"--baseline {baseline.path}: has no answer of these models to these templates and rows; measure both in "
            "the same way"
        )
    return [_compared(gap) for gap in corrected(gaps).values()]


def _compared(gap: Difference) -> Check:
    said = f"{points(gap.mean)} points against the baseline ({span(gap.low, gap.high, points)}; p "
    said += f"{probability(gap.p_adjusted)})"
    if gap.insufficient_data_reason:
        said += f"; no interval: {gap.insufficient_data_reason}"
    is_sure = gap.decisive or gap.is_constant
    return Check(model=gap.first, what="no decisive fall", passed=not (is_sure and gap.mean < 0), said=said)


def print_checks(checks: Sequence[Check]) -> None:
    """One line for each, then one that counts them."""
    for check in checks:
        echo(f"{'ok' if check.passed else 'FAILED'}: {check.model}: {check.said}")
    if checks:
        failed = sum(not check.passed for check in checks)
        echo(f"robustness: {len(checks) - failed} of {len(checks)} checks passed")


def check_junit(path: str | None) -> None:
    """Raises `UserError` for a URI: what reads the file is on this machine."""
    if path and "://" in path:
        raise UserError(f"--junit {path}: is written to this machine; give a path")


def junit_xml(path: str, checks: Sequence[Check]) -> None:
    """Writes the checks as one test suite. Raises `UserError` where the file cannot be written."""
    failed = sum(not check.passed for check in checks)
    suite = ElementTree.Element("testsuite", name="paft robustness", tests=str(len(checks)), failures=str(failed))
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname=visible(check.model), name=check.what)
        if not check.passed:
            ElementTree.SubElement(case, "failure", message=visible(check.said))
    with written_to(path, option="--junit"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
