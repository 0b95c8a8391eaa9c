"""Rows of Hugging Face data sets, and the commit that they are read at: a branch moves, a commit does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol, TypeGuard

from paft_ray.errors import UserError, one_line
from paft_ray.tasks.task import Source

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 10.0


class HubClient(Protocol):
    """The part of `huggingface_hub.HfApi` that is used here."""

    def dataset_info(self, repo_id: str, *, revision: str | None, timeout: float | None) -> Any:
        """An object whose `sha` is the commit of a data set at a revision."""
        ...


def is_commit(revision: object) -> TypeGuard[str]:
    """Whether a revision is a commit's full hash, which stands for the same rows at any time."""
    return isinstance(revision, str) and _COMMIT.fullmatch(revision) is not None


def resolved_commit(source: Source, client: HubClient | None = None) -> str | None:
    """The commit that a data set's revision (default: its main branch) stands for now, None where the hub does not say:
    offline, no such data set, no access.

    `client`: what asks the hub; None: huggingface_hub's own. A revision that is a commit is not asked for.
    """
    if source.dataset is None:
        return None
    if is_commit(source.revision):
        return source.revision
    if client is None:
        from huggingface_hub import HfApi

        client = HfApi()
    try:
        found = client.dataset_info(source.dataset, revision=source.revision, timeout=_TIMEOUT_S).sha
    except Exception:  # whatever the hub's client raises; reading the rows says what is wrong
        return None
    return found if is_commit(found) else None


def dataset_rows(source: Source) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of a Hugging Face data set with their place, streamed; code shipped with a data set is never run.

    Raises `UserError` where it cannot be fetched or holds no rows.
    """
    from datasets import load_dataset

    name = f"data set {source.dataset} ({source.split})"
    if source.split is None:
        raise UserError(f"data set {source.dataset}: name its split in the task's sources, e.g. split: train")
    number = 0
    try:
        for row in load_dataset(
            source.dataset, source.config, split=source.split, revision=source.revision, streaming=True
        ):
            number += 1
            yield row, f"{name}: row {number}"
    except Exception as error:  # whatever the hub, its cache or a decoder of the data set raises
        reason = one_line(error)[:200]
        raise UserError(
            f"{name}: cannot be fetched ({reason}); check id, config, split, HF_TOKEN and the network, or give "
            "files with data.train=FILE"
        ) from None
    if not number:
        raise UserError(f"{name}: no rows; check the split")
