"""Bad input ends in one clear line and exit code 2, before Ray starts."""

from pathlib import Path

import pytest

from paft_ray.cli import main as cli
from paft_ray.errors import UserError
from paft_ray.tasks.readers import read_examples
from paft_ray.tasks.task import Source, load_task


def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["paft", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0), capsys.readouterr().err


def write(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


CASES = {
    "unknown key": (["train.num_step=3"], "did you mean train.num_steps"),
    "unknown section": (["trian.x=3"], "did you mean train"),
    "wrong type": (["train.global_batch=many"], "train.global_batch"),
    "out of range": (["train.learning_rate=-1"], "train.learning_rate"),
    "steps and epochs": (["train.num_epochs=2"], "exactly one of"),
    "batch does not divide": (["train.micro_batch=5"], "not a multiple"),
    "batch does not divide at every number of workers": (
        ["train.min_workers=1", "train.num_workers=3", "train.micro_batch=1"],
        "global_batch=8 is not a multiple of 6, as micro_batch=1 with any number of workers from 1 to 3 needs; or raise min_workers",
    ),
    "fewest workers above the most": (["train.min_workers=3"], "train.min_workers=3 is above train.num_workers=2"),
    "offload without its stage": (["train.offload=optimizer_and_weights"], "needs train.zero_stage=3"),
    "a seed below zero": (["seed=-5"], "seed: Input should be greater than or equal to 0"),
    "an endless learning rate": (["train.learning_rate=.inf"], "train.learning_rate: Input should be a finite number"),
    "first row of another task": (["data.train={dir}/other.jsonl"], "other.jsonl:1: no column"),
    "more test rows than there are": (["data.num_test=1000000", "--dry-run"], "data.num_test=1000000: only 160 rows are there"),
    "wrong row in a test file": (["data.test={dir}/second.jsonl", "--dry-run"], "second.jsonl:2: unknown label"),
    "target modules that the model lacks": (["train.lora.target_modules=[nope]"], "target_modules: nope are not in the model"),
    "no target modules": (["train.lora.target_modules=[]"], "train.lora.target_modules"),
    "prompts shorter than the templates": (["model.max_prompt_tokens=5"], "tokens without its fields, model.max_prompt_tokens=5 are allowed"),
    "prompts longer than the model reads": (["model.max_prompt_tokens=99999"], "the model reads 8192 tokens"),
    "nothing left to hold out": (["prompts.held_out_templates=null"], "10 distinct templates and no generators, at least 13 are needed"),
    "a path that looks like a URI": (["storage=s3:/bucket"], "neither a folder nor a URI"),
    "a bucket without a name": (["storage=s3://"], "neither a folder nor a URI"),
    "a seed twice": (["train.seeds=[0, 0]"], "train.seeds: at least one is needed, and each once"),
    "a size twice": (["sweep.sizes=[1, 2, 2]"], "sweep.sizes: at least one is needed"),
    "half precision on a CPU": (["train.precision=fp16"], "fp16 needs a GPU"),
    "arm without scores": (["score.enabled=false"], "needs score.enabled"),
    "override without a value": (["train"], "write section.key=value"),
    "name with a slash": (["name=a/b"], "name"),
    "unknown task": (["task=sentiments"], "no such task; built in: demo"),
    "missing data file": (["data.train=nowhere.jsonl"], "no such file"),
    "unknown kind of data file": (["data.train=rows.xml"], "unknown kind of file"),
    "broken row": (["data.train={dir}/broken.jsonl"], "broken.jsonl:1: not JSON"),
    "empty file": (["data.train={dir}/empty.jsonl"], "holds no rows"),
    "wrong encoding": (["data.train={dir}/latin.jsonl"], "not UTF-8"),
    "folder as data file": (["data.test={dir}"], "unknown kind of file"),
    "templates that are no JSON": (["prompts.seed_templates={dir}/broken.jsonl"], "broken.jsonl:1: not JSON"),
    "templates without text": (["prompts.seed_templates={dir}/notext.jsonl"], "notext.jsonl:1: an object with the text"),
    "missing templates": (["prompts.seed_templates=nowhere.jsonl"], "cannot be read"),
    "template without the field": (["prompts.seed_templates={dir}/nofield.jsonl"], "template 1: template"),
    "template with a stray brace": (["prompts.seed_templates={dir}/stray.jsonl"], "stray '{'"),
    "template with an open slot": (["prompts.seed_templates={dir}/slot.jsonl"], "template 1 is refused: unfilled_slot"),
    "too few held-out templates": (["prompts.held_out_templates={dir}/few.jsonl"], "at least 12 are needed"),
    "no templates at all": (["prompts.seed_templates=null", "prompts.generators=[]"], "neither seed_templates nor generators"),
    "missing model": (["model.id=./nowhere"], "no such folder"),
    "folder that is no model": (["model.id={dir}"], "holds no config.json"),
    "missing generator": (["prompts.generators=[{id: ./nowhere}]"], "no such folder"),
    "a secret in the configuration": (["engine.engine_kwargs={hf_token: abc}"], "secrets come from the environment"),
    "a secret in a URI": (["storage=s3://me:secret@bucket"], "the URI holds credentials"),
    "unknown cut field": (["model.cut_field=body"], "not a field of task demo"),
    "too many CPUs": (["train.num_workers=512", "train.micro_batch=1", "train.global_batch=512"], "asks for 512 CPUs"),
    "engines that do not fit": (["engine.replicas=512"], "engine.replicas x tensor_parallel x num_cpus asks for 512 CPUs"),
    "more GPUs than there are": (["engine.num_gpus=512"], "asks for 512 GPUs"),
    "storage cannot be written": (["storage=/proc/none"], "cannot be written"),
    "unknown storage": (["storage=zz://bucket"], "storage zz://bucket"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_line_and_exit_code_2(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    overrides, message = CASES[case]
    write(tmp_path, "broken.jsonl", "{")
    write(tmp_path, "empty.jsonl", "")
    write(tmp_path, "latin.jsonl", '{"text": "caf\xe9", "label": "positive"}\n'.encode("latin-1"))
    write(tmp_path, "notext.jsonl", '{"prompt": "Good or bad? {text}"}\n')
    write(tmp_path, "nofield.jsonl", '{"text": "Is it good?"}\n')
    write(tmp_path, "stray.jsonl", '{"text": "Is it good? {text"}\n')
    write(tmp_path, "slot.jsonl", '{"text": "[describe the task] {text}"}\n')
    write(tmp_path, "other.jsonl", '{"sentence_pair": "fine film", "label": "positive"}\n')
    write(tmp_path, "second.jsonl", '{"text": "fine film", "label": "positive"}\n{"text": "so so", "label": "neutral"}\n')
    write(tmp_path, "few.jsonl", '{"text": "Good or bad? {text}"}\n')
    changes = ["prompts.generators=[]", f"storage={tmp_path}/runs", *(o.replace("{dir}", str(tmp_path)) for o in overrides)]
    settings = [part for change in changes for part in (("--set", change) if "=" in change or change == "train" else (change,))]
    arguments = ["run", "jobs/configs/demo.yaml", *settings]
    code, error = run_cli(monkeypatch, capsys, arguments)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert "Traceback" not in error


def test_a_missing_config_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run_cli(monkeypatch, capsys, ["run", "nowhere.yaml"])
    assert (code, "cannot be read" in error) == (2, True)


def test_broken_yaml_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run_cli(monkeypatch, capsys, ["run", write(tmp_path, "a.yaml", "name: [")])
    assert (code, "not valid YAML" in error, len(error.strip().splitlines())) == (2, True, 1)


def test_a_key_that_comes_twice_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run_cli(monkeypatch, capsys, ["run", write(tmp_path, "a.yaml", "name: a\ntask: demo\ntrain: {k: 1}\ntrain: {k: 2}\n")])
    assert (code, "the key 'train' comes twice" in error, len(error.strip().splitlines())) == (2, True, 1)


@pytest.mark.parametrize(
    ("stage", "missing"), [("score", "data/manifest"), ("train", "data/manifest"), ("evaluate", "data/manifest"), ("report", "evaluate/manifest")]
)
def test_a_stage_without_its_inputs_names_the_stage_before_it(
    stage: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = run_cli(monkeypatch, capsys, [stage, "jobs/configs/demo.yaml", "--set", f"storage={tmp_path}"])
    assert (code, missing in error, "run stage" in error, len(error.strip().splitlines())) == (2, True, True, 1)


def test_an_evaluation_of_a_run_takes_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(tmp_path), "--templates", "t.jsonl", "--test", "x.jsonl", "--out", "o", "--set", "engine.replicas=2"]
    code, error = run_cli(monkeypatch, capsys, arguments)
    assert (code, "takes --templates, --test, --out and --address only" in error) == (2, True)


ROWS = {
    "missing field": ('{"label": "positive"}\n', ":2: "),
    "unknown label": ('{"text": "so so", "label": "neutral"}\n', ":2: "),
    "broken JSON": ('{"text": "so so", \n', ":2: not JSON"),
    "repeated id": ('{"id": "a", "text": "so so", "label": "positive"}\n', ":2: id 'a' stands already at"),
    "a number too long to read": ('{"text": ' + "1" * 5000 + ', "label": "positive"}\n', ":2: not JSON"),
    "a missing number": ('{"text": NaN, "label": "positive"}\n', ":2: text is a missing value"),
    "no object": ("[1]\n", ":2: an object is needed"),
    "half a character": ('{"text": "so \\ud83d", "label": "positive"}\n', ":2: text holds half a character"),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_bad_row_anywhere_is_named_with_file_and_line(case: str, tmp_path: Path) -> None:
    row, message = ROWS[case]
    path = write(tmp_path, "rows.jsonl", '{"id": "a", "text": "fine film", "label": "positive"}\n' + row)
    with pytest.raises(UserError) as refused:
        list(read_examples(load_task("demo"), Source(path=path)))
    assert message in str(refused.value)
    assert "rows.jsonl" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
