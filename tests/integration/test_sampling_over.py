"""A training that draws a cluster first: settled once, named in its key, and every draw found again by the audit."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from paft_ray.cli.audit import audit
from paft_ray.config import load_config
from paft_ray.errors import UserError
from paft_ray.stages import prepare, synthesize, train
from paft_ray.storage.artifacts import PROMPT_SET, training_result
from paft_ray.storage.manifests import TRAIN
from paft_ray.storage.outputs import read_raw_manifest
from paft_ray.storage.store import Store
from paft_ray.training.audit_log import audit_store, read_log
from tests.support.resolved import resolved

DEMO, FOLDER = "jobs/configs/demo.yaml", "train/paft-s0"
COPIES = [f"Read this review and say whether it is positive or negative{end} {{text}}" for end in (".", "!", "?", ":")]
ALONE = [
    "{text} Good or bad? Answer positive or negative.",
    "Sentiment of the sentence below, negative or positive:\n{text}",
    "A customer wrote: {text}\nWas the customer happy? Reply with positive or negative.",
    "Label the following with one of positive, negative.\n\n{text}\n\nLabel:",
    "{text}\n\nIs the tone of these words positive, or is it negative?",
    "As a film critic, judge {text} as positive or negative.",
    "What feeling does the writer express in {text}? Choose positive or negative.",
    "positive/negative? {text}",
    "You are given a comment. {text} Decide: negative or positive.",
    "Tell me the mood: {text} (positive or negative)",
]
SETTINGS = (
    "data.num_train=48",
    "data.num_validation=4",
    "data.num_test=4",
    "prompts.generators=[]",
    "score.enabled=false",
    "train.arms=[paft]",
    "train.num_steps=12",
    "train.num_epochs=null",
    "train.global_batch=16",
    "train.micro_batch=4",
    "train.precision=fp32",
    "train.num_workers=2",
    "train.threads_per_worker=1",
    "train.checkpoint_every=5",
)


def test_clusters_are_drawn_first_and_the_audit_derives_every_draw_again(
    ray_session: None, tiny_model: str, tmp_path: Path
) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(json.dumps({"text": text}) + "\n" for text in COPIES + ALONE))
    settings = [*SETTINGS, f"model.id={tiny_model}", f"storage={tmp_path}", f"prompts.seed_templates={seeds}"]
    over_clusters = load_config(DEMO, [*settings, "train.sampling.over=cluster"])
    run = Store.open(over_clusters.storage, over_clusters.name)
    run.write_json("config.json", over_clusters.model_dump(mode="json"))
    for stage in (prepare, synthesize, train):
        stage.run(resolved(over_clusters, run))
    key = read_raw_manifest(run, FOLDER)["key"]
    assert key["train"]["sampling"] == {"type": "per_example", "over": "cluster"}
    assert read_raw_manifest(run, TRAIN)["key"]["draw_groups"] == {"paft": key["draw_groups"]}

    (found,) = audit(run).values()
    assert found.agrees, found.reported
    log = pa.concat_tables(read_log(audit_store(run.below(FOLDER), training_result(FOLDER).read(run)["fingerprint"])))
    entries = PROMPT_SET.read(run).split("train").entries
    copies = [entry.template.id for entry in entries if entry.template.text in COPIES]
    assert len({entry.cluster for entry in entries if entry.template.id in copies}) == 1
    used = Counter(log["template"].to_pylist())
    assert 0 < sum(used[template] for template in copies) < 192 * 2.5 / (len(entries) - len(copies) + 1)

    with pytest.raises(UserError, match=r'train.sampling.over: "cluster" -> null'):
        train.run(resolved(load_config(DEMO, settings), run))
