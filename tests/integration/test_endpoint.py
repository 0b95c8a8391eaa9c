"""Generators behind an endpoint: vLLM's own server with the demo model, asked through Ray, with and without its
grammar, and with a wrong key."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paft_ray.config import Config, EndpointConfig, EngineConfig, GeneratorConfig, PromptsConfig
from paft_ray.errors import UserError
from paft_ray.generators.requests import request
from paft_ray.generators.rounds import write_with_model
from paft_ray.inference.answer_cache import AnswerCache
from paft_ray.inference.vllm_args import serve_command
from paft_ray.models.reference import ModelFiles
from paft_ray.stages import synthesize
from paft_ray.storage.quality import QUALITY
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from tests.support.resolved import resolved
from tests.support.vllm_server import serving

pytestmark = pytest.mark.slow  # an engine start of its own

KEY, WRONG = os.environ["GENERATOR_KEY"], os.environ["WRONG_KEY"]  # of conftest.py
TASK = load_task("demo")


@pytest.fixture(scope="module")
def url(demo_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`http://127.0.0.1:PORT/v1` of a server that asks for KEY."""
    engine = EngineConfig(precision="fp32", kv_cache_gib=0.5)
    line = serve_command(demo_model, name="writer", engine=engine, max_model_len=1024)
    with serving(
        line,
        tmp_path_factory.mktemp("vllm") / "server.log",
        VLLM_API_KEY=KEY,
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_NO_USAGE_STATS="1",
    ) as found:
        yield f"{found}/v1"


def generator(url: str, **endpoint: object) -> GeneratorConfig:
    settings = {"api_key_env": "GENERATOR_KEY", **endpoint}
    return GeneratorConfig(
        id="writer",
        temperature=0.8,
        max_tokens=80,
        endpoint=EndpointConfig.model_validate({"base_url": url, **settings}),
    )


def parts(folder: Path) -> AnswerCache:
    return AnswerCache.of(Store.open(str(folder), "run"), "synthesize")


def test_with_the_grammar_every_finished_answer_holds_the_placeholder_once(
    url: str, ray_session: None, tmp_path: Path
) -> None:
    asked = [request(TASK, (), 1, seed=0, number=number) for number in range(6)]
    found, _ = write_with_model(asked, generator(url, grammar=True), EngineConfig(), 1, parts(tmp_path), no_model)
    assert sum(written.finished for written in found) >= 4
    assert all(re.fullmatch(a.regex, written.text) for a, written in zip(asked, found, strict=True) if written.finished)
    assert all(0 < written.tokens <= 80 for written in found)
    again, _ = write_with_model(
        asked, generator(url, grammar=True), EngineConfig(), 1, parts(tmp_path / "again"), no_model
    )
    assert [written.text for written in again] == [written.text for written in found]


def no_model(generator: GeneratorConfig) -> ModelFiles:
    raise AssertionError(f"{generator.label} is an endpoint")


def test_the_stage_says_what_it_got_within_the_token_limit_and_stores_no_key(
    url: str, ray_session: None, tmp_path: Path, capsys
) -> None:
    prompts = PromptsConfig(
        seed_templates="builtin",
        held_out_templates="builtin",
        generators=(generator(url, max_total_tokens=1000),),
        num_candidates=3,
        max_rounds=2,
    )
    run = Store.open(str(tmp_path), "t")
    manifest = synthesize.run(resolved(Config(name="t", task="demo", prompts=prompts), run))
    assert manifest["kept"] + sum(manifest["rejected"].values()) == run.read_bytes("synthesize/raw.jsonl").count(b"\n")
    assert not any(found.may_decide for found in QUALITY.read(run).signals), "135 M weights are no judge"
    assert manifest["kept"] == 0
    (got,) = manifest["generators"]
    assert 0 < got["tokens"] <= 1000
    assert got["kept"] == manifest["kept"] <= got["passed"] <= got["candidates"]
    assert 0 < got["answers"] <= got["requests"]
    assert manifest["engine_starts"] == 0
    said = capsys.readouterr().out
    assert f"asked 3, got {manifest['kept']}" in said
    assert f"{got['source']}: {got['requests']} requests, {got['answers']} answers, {got['tokens']} tokens, " in said
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_wrong_key_is_one_line_and_in_no_log_of_ray(url: str, ray_session: None, tmp_path: Path) -> None:
    import ray

    asked = [request(TASK, (), 1, seed=0, number=0)]
    with pytest.raises(UserError, match=r"refuses the key in WRONG_KEY.*HTTP 401") as caught:
        write_with_model(asked, generator(url, api_key_env="WRONG_KEY"), EngineConfig(), 1, parts(tmp_path), no_model)
    assert "\n" not in str(caught.value)
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    assert not any(
        WRONG.encode() in file.read_bytes() or KEY.encode() in file.read_bytes()
        for file in logs.rglob("*")
        if file.is_file()
    )


def test_a_model_that_is_not_served_costs_only_its_answers(url: str, ray_session: None, tmp_path: Path, capsys) -> None:
    asked = [request(TASK, (), 1, seed=0, number=number) for number in range(2)]
    found, starts = write_with_model(
        asked, generator(url).model_copy(update={"id": "another"}), EngineConfig(), 1, parts(tmp_path), no_model
    )
    assert [(written.text, written.missing) for written in found] == [("", "failed")] * 2
    assert starts == 0


def test_a_server_is_measured_like_the_same_model_here(url: str, tmp_path: Path) -> None:
    """`paft robustness`: what the server says, and what the model says that an engine of this machine asks."""
    there = {"id": "writer", "endpoint": {"base_url": url, "api_key_env": "GENERATOR_KEY"}}
    (tmp_path / "there.yaml").write_text(json.dumps(there))
    command = (sys.executable, "-m", "paft_ray", "robustness", "here=demo:chat", "there=there.yaml", "--task", "demo")
    options = ("--suite", "system", "--rows", "4", "--set", "engine.precision=fp32", "--out", "out")
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    rows = Store(str(tmp_path / "out")).read_table("outcomes.parquet").to_pylist()
    named = {(row["arm"], row["template_id"], row["example_id"]): row["named"] for row in rows}
    cells = {(template, example) for _, template, example in named}
    agreed = sum(named["here", *cell] == named["there", *cell] for cell in cells)
    assert len(cells) == 6 * 6 * 4
    assert agreed >= 0.98 * len(cells), f"{agreed} of {len(cells)}"
    values = Store(str(tmp_path / "out")).read_json("results.json")
    assert "knowledge" in values["arms"]["here"]["measures"]
    assert "knowledge" not in values["arms"]["there"]["measures"]
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
