"""Any bytes as a configuration, and as one setting: a `Config` that survives its own dump, or a `UserError`."""

from __future__ import annotations

import json

from paft_ray.config import Config, load_config, parse_config
from paft_ray.errors import UserError
from tests.fuzz.files import written

GOOD = written("good.yaml", b"name: a\ntask: demo\n")


def target(data: bytes) -> None:
    """`data`: the file, and the text of a `--set`."""
    for path, settings in ((written("c.yaml", data), []), (GOOD, [data.decode("utf-8", errors="replace")])):
        try:
            config = load_config(path, settings)
        except UserError:
            continue
        _survives(config)


def _survives(config: Config) -> None:
    stored = json.dumps(config.model_dump(mode="json"), sort_keys=True, ensure_ascii=False).encode()
    assert parse_config(json.loads(stored), "dump") == config
