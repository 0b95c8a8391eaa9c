"""Every file of a run that one stage writes and others read: its path, its type, and how it is written, read and
verified. Nothing else names these paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import pyarrow as pa
from pydantic import Field, TypeAdapter, ValidationError

from paft_ray.errors import UserError, first_fault, one_line
from paft_ray.files import parquet
from paft_ray.prompts.prompt_set import PromptSet
from paft_ray.storage.manifests import (
    EVALUATE,
    PREPARE,
    REPORT,
    SCORE,
    STAGE_MANIFESTS,
    SWEEP,
    SYNTHESIZE,
    TRAIN,
    Fraction,
    ModelKey,
    Part,
)
from paft_ray.storage.outputs import (
    StageManifest,
    digest,
    manifest_path,
    parse_manifest,
    read_raw_manifest,
    read_verified,
    stage_of,
    verified_digest,
)
from paft_ray.storage.schemas import ANSWERS, EVALUATED, SCORES
from paft_ray.storage.store import LARGEST_JSON, Store, json_bytes, table_bytes
from paft_ray.storage.table_checks import check_answers, check_outcomes, check_scores
from paft_ray.tasks.readers import holds_examples

T = TypeVar("T")
_Amount = Annotated[float, Field(ge=0)]
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Artifact(Generic[T]):
    """One output of a stage."""

    stage: str
    """Folder whose manifest names the output."""
    path: str
    """Relative to the run."""
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]
    """Raises `ValueError`, pyarrow's errors and `UserError` for bytes that are no such value."""
    largest: int | None = None
    """Most bytes of the file."""

    def write(self, run: Store, value: T) -> dict[str, str]:
        """Path -> SHA-256 of what was written, for the manifest of the stage."""
        data = self.encode(value)
        run.write_bytes(self.path, data)
        return {self.path: digest(data)}

    def read(self, run: Store) -> T:
        """The value. Raises `UserError` as `outputs.read_verified`, and for a file that is intact but holds something
        else."""
        data = read_verified(run, self.stage, self.path, largest=self.largest)
        try:
            return self.decode(data)
        except (pa.ArrowException, ValueError, OverflowError, RecursionError, KeyError, TypeError) as error:
            reason = _reason(error)
        except UserError as error:
            reason = one_line(error)
        raise UserError(
            f"run {run.root}: {self.path} is not what stage {stage_of(self.stage)} writes ({reason[:300]}); delete it "
            f"and run stage {stage_of(self.stage)} again"
        )

    def key(self, run: Store) -> str:
        """Hash of the content, 16 hex digits, for the key of a stage that reads it. Raises as `read`."""
        return verified_digest(run, self.stage, self.path)

    def is_made(self, run: Store) -> bool:
        """Whether the stage that writes it is finished."""
        return run.exists(manifest_path(self.stage))


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return first_fault(error)
    return one_line(error)


def _table(
    matches: Callable[[pa.Schema], bool], check: Callable[[pa.Table], None] = lambda _: None
) -> Callable[[bytes], pa.Table]:
    def decode(data: bytes) -> pa.Table:
        table = parquet.read_table(pa.BufferReader(data), matches=matches)
        check(table)
        return table

    return decode


def json_lines(rows: Any) -> bytes:
    """A JSON Lines file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _typed(kind: Any) -> Callable[[bytes], Any]:
    adapter = TypeAdapter(kind)
    return lambda data: adapter.validate_python(json.loads(data))


def outcome_bytes(table: pa.Table) -> bytes:
    """Outcomes as a Parquet file: texts as dictionaries, numbers as they are, for few log-probabilities repeat."""
    return table_bytes(table, [field.name for field in table.schema if pa.types.is_string(field.type)])


def _rows(split: SplitName) -> Artifact[pa.Table]:
    return Artifact(stage=PREPARE, path=f"{PREPARE}/{split}.parquet", encode=table_bytes, decode=_table(holds_examples))


ROWS: Mapping[SplitName, Artifact[pa.Table]] = {
    "train": _rows("train"),
    "validation": _rows("validation"),
    "test": _rows("test"),
}
"""Split -> its examples, with columns id, fields, answer."""
PROMPT_SET: Artifact[PromptSet] = Artifact(
    stage=SYNTHESIZE,
    path=f"{SYNTHESIZE}/prompt_set.parquet",
    encode=lambda prompts: table_bytes(prompts.to_table()),
    decode=lambda data: PromptSet.from_table(_table(parquet.holds_plain)(data)),
)
RAW_ANSWERS: Artifact[Any] = Artifact(
    stage=SYNTHESIZE,
    path=f"{SYNTHESIZE}/raw.jsonl",
    encode=json_lines,
    decode=lambda data: [json.loads(line) for line in data.splitlines()],
)
"""What the generators answered."""
DECISIONS: Artifact[Any] = Artifact(
    stage=SYNTHESIZE, path=f"{SYNTHESIZE}/decisions.jsonl", encode=json_lines, decode=RAW_ANSWERS.decode
)
"""What people decided about templates; a run without decisions has no such file."""
LEAKAGE_REPORT: Artifact[Any] = Artifact(
    stage=SYNTHESIZE, path=f"{SYNTHESIZE}/split.json", encode=json_bytes, decode=json.loads, largest=LARGEST_JSON
)
"""The proof that no held-out template is close to a training one."""
SCORE_TABLE: Artifact[pa.Table] = Artifact(
    stage=SCORE,
    path=f"{SCORE}/scores.parquet",
    encode=table_bytes,
    decode=_table(
        parquet.holds(pa.schema([SCORES.field("template_id"), SCORES.field("accuracy")])), check=check_scores
    ),
)
OUTCOMES: Artifact[pa.Table] = Artifact(
    stage=EVALUATE,
    path=f"{EVALUATE}/outcomes.parquet",
    encode=outcome_bytes,
    decode=_table(parquet.holds(EVALUATED), check=check_outcomes),
)
GENERATED: Artifact[pa.Table] = Artifact(
    stage=EVALUATE,
    path=f"{EVALUATE}/answers.parquet",
    encode=table_bytes,
    decode=_table(parquet.holds(ANSWERS), check=check_answers),
)
"""What was generated for a task without labels; other tasks have no such file."""


class SpeedRow(Part):
    """What right unconstrained answers of one model took (`metrics.answer_cost`)."""

    tokens_per_answer: _Amount | None = None
    tokens_low: _Amount | None = None
    tokens_high: _Amount | None = None
    seconds_per_answer: _Amount | None = None
    seconds_low: _Amount | None = None
    seconds_high: _Amount | None = None
    num_rows: int | None = None
    num_asked: int | None = None
    behavior_misjudged: int | None = None
    strict_misjudged: int | None = None
    reason: str | None = None


Speed = Mapping[ModelKey, Mapping[str, Any]]


def _read_speed(data: bytes) -> Speed:
    rows = _typed(dict[str, SpeedRow])(data)
    return {ModelKey.parse(name): row.model_dump() for name, row in rows.items()}


SPEED: Artifact[Speed] = Artifact(
    stage=EVALUATE,
    path=f"{EVALUATE}/speed.json",
    encode=lambda speed: json_bytes({str(key): row for key, row in speed.items()}),
    decode=_read_speed,
    largest=LARGEST_JSON,
)
"""Key of a model -> tokens_per_answer, seconds_per_answer, their intervals, over how many answers, and how many of
these would have another score, had a token that is a label ended them as it ends those that are not timed."""


class _MeasureFigures(Part):
    mean: Fraction


class _ArmFigures(Part):
    mean: Fraction
    std: float | None
    decile: Fraction | None
    worst: Fraction | None
    best: Fraction | None
    named_rate: Fraction | None
    measures: Annotated[dict[str, _MeasureFigures], Field(min_length=1)]


class _Results(Part):
    schema_version: Literal[2]
    headline: str
    arms: Annotated[dict[str, _ArmFigures], Field(min_length=1)]
    verdict: str
    findings: list[str]


def _checked_json(kind: type[Part]) -> Callable[[bytes], dict[str, Any]]:
    """Decodes JSON whose known entries have their types; gives all entries."""

    def decode(data: bytes) -> dict[str, Any]:
        found = json.loads(data)
        kind.model_validate(found)
        return dict(found)

    return decode


RESULTS: Artifact[dict[str, Any]] = Artifact(
    stage=REPORT,
    path=f"{REPORT}/results.json",
    encode=json_bytes,
    decode=_checked_json(_Results),
    largest=LARGEST_JSON,
)
REPORT_PAGE: Artifact[str] = Artifact(
    stage=REPORT, path=f"{REPORT}/report.html", encode=str.encode, decode=lambda data: data.decode()
)


class _SweepRow(Part):
    size: Annotated[int, Field(gt=0)]
    mean: Fraction
    std: float | None
    worst: Fraction | None


class _SweepResult(Part):
    sizes: list[_SweepRow]
    curve: list[_SweepRow]
    recommended_size: Annotated[int, Field(gt=0)]
    reason: str
    fit: dict[str, Any]
    trials: dict[str, Annotated[int, Field(ge=0)]]


SWEEP_RESULT: Artifact[dict[str, Any]] = Artifact(
    stage=SWEEP,
    path=f"{REPORT}/sweep.json",
    encode=json_bytes,
    decode=_checked_json(_SweepResult),
    largest=LARGEST_JSON,
)
SWEEP_OUTCOMES: Artifact[pa.Table] = Artifact(
    stage=SWEEP, path=f"{SWEEP}/outcomes.parquet", encode=outcome_bytes, decode=OUTCOMES.decode
)


def trial_outcomes(folder: str) -> Artifact[pa.Table]:
    """What the trial in this folder answered."""
    return Artifact(
        stage=f"{folder}/evaluate", path=f"{folder}/outcomes.parquet", encode=outcome_bytes, decode=OUTCOMES.decode
    )


class MetricsRow(Part):
    """Metrics of one optimizer step; what else stands there is not read."""

    step: Annotated[int, Field(ge=0)] | None = None
    loss: float | None = None
    tokens: Annotated[float, Field(ge=0, le=2**63)] = 0
    validation_loss: float | None = None
    validation_accuracy: Fraction | None = None


def metrics_path(folder: str) -> str:
    """Path of the metrics of a training in this folder."""
    return f"{folder}/metrics.jsonl"


def training_metrics(key: ModelKey) -> Artifact[list[MetricsRow]]:
    """Metrics of one training of stage train, by optimizer step, the last row of a step that comes twice."""

    def decode(data: bytes) -> list[MetricsRow]:
        rows = [MetricsRow.model_validate(json.loads(line)) for line in data.decode().splitlines() if line.strip()]
        return [row for _, row in sorted({row.step: row for row in rows if row.step is not None}.items())]

    folder = f"{TRAIN}/{key}"
    return Artifact(stage=TRAIN, path=metrics_path(folder), encode=json_lines, decode=decode)


class _Result(Part):
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
    """Names the folders of the checkpoints and of the audit log of a training."""


def training_result(folder: str) -> Artifact[dict[str, Any]]:
    """What a training of stage train, or a trial, in this folder says of itself."""
    return Artifact(
        stage=folder,
        path=f"{folder}/result.json",
        encode=json_bytes,
        decode=_checked_json(_Result),
        largest=LARGEST_JSON,
    )


def stage_manifest(run: Store, folder: str) -> dict[str, Any]:
    """The manifest of a stage, all entries, the known ones checked; empty where the stage is not finished. Raises
    `UserError` for one that is no manifest."""
    if not run.exists(manifest_path(folder)):
        return {}
    found = read_raw_manifest(run, folder)
    parse_manifest(run, folder, found, STAGE_MANIFESTS.get(folder, StageManifest))
    return dict(found)
