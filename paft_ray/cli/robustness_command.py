"""The options of `paft robustness`. What it does is imported when it runs."""

from __future__ import annotations

from os.path import expanduser
from typing import Annotated

import typer

from paft_ray.cli.options import VerboseOption, WaitOption

HELP = (
    "How robust is a model to how a task is worded? Measures models that are there, side by side; trains nothing. Exit "
    "code 3 where --fail-below or --baseline fails."
)
_Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL ...",
        help="[NAME=]MODEL: a Hugging Face id (owner/name@revision), a folder of weights, a PEFT adapter, RUN:ARM, an "
        "endpoint (https://HOST/v1#NAME, or a YAML file), or demo; MODEL:chat asks through the chat template",
    ),
]
_Suite = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|FILE",
        help="templates (default), format, options, noise[=RATE of typos], system, all, or a .jsonl file of templates; "
        "may be repeated",
    ),
]
_Out = Annotated[str, typer.Option(help="New or empty folder or URI, or that of an earlier call, which goes on")]
_Rows = Annotated[int, typer.Option(min=2, help="Rows that are drawn, labels in their proportions")]
_Chat = Annotated[bool, typer.Option("--chat", help="Ask every model but arms of runs through its chat template")]
_Budget = Annotated[
    float | None,
    typer.Option(min=0.01, max=1.0, help="Fraction of the cells that are asked (suite templates); default: all"),
]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="A setting of a run: engine, evaluate, model, report, prompts, plugins, seed",
    ),
]
_FailBelow = Annotated[
    str | None,
    typer.Option(
        metavar="mean=0.8,worst=0.6", help="Least mean, worst, decile or worst_case of every model (behavior)"
    ),
]
_Baseline = Annotated[
    str | None, typer.Option(metavar="OLD.json", help="results.json of an earlier call: fails on a decisive fall")
]
_Submit = Annotated[
    bool, typer.Option("--submit", help="As a Ray job of the cluster at --address http://HOST:8265, which is followed")
]
_Address = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster (`auto`, HOST:PORT); default: RAY_ADDRESS, else a local Ray."),
]


def robustness(
    models: _Models,
    task: Annotated[str, typer.Option(help="Built-in task or path of a task YAML")],
    out: _Out,
    suite: _Suite = None,
    data: Annotated[str | None, typer.Option(help="Rows; default: test rows of the task, or of a run")] = None,
    rows: _Rows = 100,
    base: Annotated[str | None, typer.Option(metavar="ID", help="Base model of the adapters")] = None,
    chat: _Chat = False,
    budget: _Budget = None,
    set_: _Set = None,
    fail_below: _FailBelow = None,
    baseline: _Baseline = None,
    junit: Annotated[str | None, typer.Option(metavar="FILE", help="Write the checks as JUnit XML")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be asked, and stop.")] = False,
    submit: _Submit = False,
    address: _Address = None,
    wait: WaitOption = "0",
    verbose: VerboseOption = None,
) -> None:
    """Measures, reports, and checks what is asked."""
    from paft_ray.cli.robustness import Request, robustness

    request = Request(
        models=tuple(models),
        task=expanduser(task),
        suite=tuple(map(expanduser, suite or ())),
        out=expanduser(out),
        data=expanduser(data) if data else None,
        num_rows=rows,
        base=expanduser(base) if base else None,
        chat=chat,
        overrides=(*(set_ or ()), *([] if budget is None else [f"evaluate.budget={budget:g}"])),
        fail_below=fail_below,
        baseline=expanduser(baseline) if baseline else None,
        junit=expanduser(junit) if junit else None,
    )
    if submit and not dry_run:
        from paft_ray.cli.robustness_job import submit_robustness

        raise typer.Exit(submit_robustness(request, address=address, wait=wait))
    raise typer.Exit(robustness(request, dry_run=dry_run, address=address, wait=wait))
