"""Which model a name stands for."""

from pathlib import Path

import pytest

from paft_ray.config import Config
from paft_ray.errors import UserError
from paft_ray.robustness.models import GivenModel, given_models, keep_adapter, shown
from paft_ray.storage.store import Store
from paft_ray.tasks.task import load_task
from tests.support.finished_run import finished_run
from tests.support.tiny_adapter import write_adapter, write_base

CONFIG = Config(name="robustness", task="demo")


def given(*names: str, base: str | None = None, chat: bool = False, task: str = "demo") -> list[GivenModel]:
    return given_models(names, base=base, chat=chat, config=CONFIG, task=load_task(task))


def test_ids_folders_and_names(tmp_path: Path) -> None:
    write_base(tmp_path / "weights")
    found = given("demo", "owner/model@abc", str(tmp_path / "weights"), "mine=demo:chat")
    assert [model.name for model in found] == ["demo", "model", "weights", "mine"]
    assert [(m.settings.id, m.settings.revision, m.settings.chat) for m in found] == [
        ("demo", None, False),
        ("owner/model", "abc", False),
        (str(tmp_path / "weights"), None, False),
        ("demo", None, True),
    ]
    assert found[2].place == str(tmp_path / "weights")
    assert [str(key) for key in found[0].keys] == ["demo-s-1"]


def test_the_demo_s_model_is_no_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_base(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert [model.place for model in given("demo", "there=./demo")] == ["demo", str(tmp_path / "demo")]


def test_chat_for_one_or_for_all() -> None:
    one, other = given("demo", "demo:chat")
    assert (one.name, other.name, other.settings.chat) == ("demo", "demo-chat", True)
    assert shown(other) == "demo, asked through its chat template"
    assert [model.settings.chat for model in given("demo", "owner/other", chat=True)] == [True, True]


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(UserError, match="model demo: comes twice; give each a name of its own"):
        given("demo", "demo")


def test_an_adapter_names_its_base_or_is_told_it(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base_model_name_or_path=str(base))
    (found,) = given(str(adapter))
    assert (found.settings.id, found.adapter) == (str(base), str(adapter))
    assert given(str(adapter), base="owner/base")[0].settings.id == "owner/base"
    assert shown(found) == f"adapter adapter of {base}"
    bare = write_adapter(tmp_path / "bare")
    with pytest.raises(UserError, match="names no base model; give it with --base MODEL"):
        given(str(bare))
    gone = write_adapter(tmp_path / "gone", base_model_name_or_path="/no/such/folder")
    with pytest.raises(UserError, match="/no/such/folder is no folder of this machine; give --base MODEL"):
        given(str(gone))


def test_an_adapter_is_copied_with_its_digests(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (model,) = given(str(write_adapter(tmp_path / "adapter", base_model_name_or_path=str(base))))
    target = Store.at(str(tmp_path / "out"))
    kept = keep_adapter(model, target, base=str(base))
    (trained,) = kept.trained
    assert trained.model.is_adapter
    assert set(trained.model.files) == {"adapter_config.json", "adapter_model.safetensors"}
    assert target.exists("adapters/adapter/adapter_model.safetensors")
    assert [key.seed for key in kept.keys] == [-1]


def test_an_adapter_that_does_not_fit_its_base_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base_model_name_or_path=str(base), r=4)
    (model,) = given(str(adapter))
    with pytest.raises(UserError, match="another rank"):
        keep_adapter(model, Store.at(str(tmp_path / "out")), base=str(base))


def test_an_arm_of_a_run_has_its_seeds_and_its_model(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    (found,) = given(f"{run.root}:paft")
    assert (found.name, found.settings.id, len(found.trained)) == ("run-paft", str(tmp_path / "base"), 1)
    assert [key.arm for key in found.keys] == ["run-paft"]
    assert shown(found) == f"arm paft of run run, base {tmp_path / 'base'}"
    assert given(f"x={run.root}:base")[0].trained == ()
    with pytest.raises(UserError, match="run run has no arm pft; its arms are base, sft, paft"):
        given(f"{run.root}:pft")


def test_endpoints(tmp_path: Path) -> None:
    one = given("http://127.0.0.1:8000/v1#small")[0]
    assert (one.name, shown(one)) == ("small", "endpoint small at 127.0.0.1:8000")
    assert one.endpoint
    assert (one.endpoint.temperature, one.endpoint.max_tokens) == (0.0, 16)
    file = tmp_path / "there.yaml"
    file.write_text("id: big\nendpoint: {base_url: 'https://example.org/v1', api_key_env: KEY, max_total_tokens: 99}\n")
    other = given(f"theirs={file}")[0]
    assert other.name == "theirs"
    assert other.endpoint
    assert other.endpoint.endpoint
    assert other.endpoint.endpoint.max_total_tokens == 99


@pytest.mark.parametrize(("task", "tokens"), [("demo", 16), ("gsm8k", 256)])
def test_an_endpoint_may_answer_as_long_as_an_engine(task: str, tokens: int) -> None:
    (found,) = given("http://127.0.0.1:8000/v1#small", task=task)
    assert found.endpoint
    assert found.endpoint.max_tokens == tokens


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://example.org/v1", "name it behind the URL of its endpoint, such as https://HOST/v1#NAME"),
        ("https://[::1/v1#m", "a bracket of the URL is wrong"),
        ("http://169.254.169.254/v1#m", "insecure_hosts"),
        ("https://user:pass@example.org/v1#m", "without user, password"),
    ],
)
def test_endpoints_that_may_not_be_asked(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        given(text)
    assert "pass@" not in str(caught.value)


def test_a_model_s_name_at_an_endpoint_may_hold_a_colon() -> None:
    (found,) = given("http://127.0.0.1:11434/v1#llama3:8b")
    assert found.endpoint
    assert found.endpoint.id == "llama3:8b"


@pytest.mark.parametrize("text", ["", ":chat", "x=:chat", "a" * 5000])
def test_what_names_no_model(text: str) -> None:
    with pytest.raises(UserError, match="give an id, a folder, RUN:ARM or an endpoint"):
        given(text)


def test_two_pairs_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two pairs of names read r1-base-r0"):
        given("r1=demo", "r1-base=demo", "base-r0=demo", "r0=demo")


def test_a_base_may_be_pinned(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    (found,) = given(str(adapter), base="owner/base@v2")
    assert (found.settings.id, found.settings.revision) == ("owner/base", "v2")
