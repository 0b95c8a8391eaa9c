"""`paft`: the command line. Ray, torch and transformers are imported inside commands, so that `--help` is fast."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from functools import partial
from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from paft_ray.cli import robustness_command
from paft_ray.cli.env_defaults import prepare_environment
from paft_ray.cli.options import AcceptOption, VerboseOption, WaitOption, root_options
from paft_ray.cli.signals import terminable
from paft_ray.cli.stage_command import run_stage
from paft_ray.config import Precision
from paft_ray.echo import echo
from paft_ray.errors import StageError, StorageError, UserError, one_line
from paft_ray.stages.registry import COMMANDS

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    callback=root_options,
)
_HALF_LINE = 600
_UsageError: Any = typer.BadParameter.__mro__[1]  # typer names this class of its own nowhere else
prompts_app = typer.Typer(
    no_args_is_help=True, help="Prompt templates: import through the gate, show those of a run, review them."
)
app.add_typer(prompts_app, name="prompts")

ConfigArg = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of the run, e.g. jobs/configs/demo.yaml")]
RunOrConfigArg = Annotated[str, typer.Argument(metavar="CONFIG|RUN", help="YAML file, or the folder of a finished run")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace finished stages, also those made with other settings.")
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster to join (`auto`, HOST:PORT); default: RAY_ADDRESS, else a local Ray."),
]


def _command(name: str, text: str) -> None:
    def command(
        config: ConfigArg,
        set_: SetOption = None,
        force: ForceOption = False,
        accept: AcceptOption = None,
        dry_run: DryOption = False,
        address: AddressOption = None,
        wait: WaitOption = "0",
        verbose: VerboseOption = None,
    ) -> None:
        run_stage(name, config, set_, force=force, accept=accept or (), dry_run=dry_run, address=address, wait=wait)

    if name == "report":
        command.__annotations__["config"] = RunOrConfigArg
    app.command(name, help=text)(command)


for _name, _text in COMMANDS.items():
    if _name != "evaluate":  # it takes more options
        _command(_name, _text)


@app.command("evaluate", help=COMMANDS["evaluate"])
def evaluate(
    config: RunOrConfigArg,
    templates: Annotated[str | None, typer.Option(help="JSONL rows with `text` (with RUN)")] = None,
    test: Annotated[str | None, typer.Option(help="Rows of the task (with RUN)")] = None,
    out: Annotated[
        str | None, typer.Option(help="New or empty folder for the results, or that of an earlier one (with RUN)")
    ] = None,
    plugins: Annotated[
        list[str] | None, typer.Option(help="File of graders that the run was made with; may be repeated (with RUN)")
    ] = None,
    set_: SetOption = None,
    force: ForceOption = False,
    accept: AcceptOption = None,
    dry_run: DryOption = False,
    address: AddressOption = None,
    wait: WaitOption = "0",
    verbose: VerboseOption = None,
) -> None:
    """Two forms, see the help."""
    config = expanduser(config)
    if not (templates or test or out or plugins or Path(config).is_dir()):
        run_stage(
            "evaluate", config, set_, force=force, accept=accept or (), dry_run=dry_run, address=address, wait=wait
        )
        return
    if set_ or force or accept or dry_run:
        raise UserError(
            "paft evaluate RUN takes --templates, --test, --out, --plugins, --address and --wait-resources only: the "
            "run's settings are those that it was trained with"
        )
    if not (templates and test and out):
        raise UserError("paft evaluate RUN needs --templates FILE, --test FILE and --out DIR")
    from paft_ray.cli.evaluate_run import evaluate_run

    evaluate_run(config, expanduser(templates), expanduser(test), out, address, [*map(expanduser, plugins or ())], wait)


@app.command(
    "submit", help="Run on a cluster as a Ray job that ships this package, the configuration and my/, and follow it."
)
def submit(
    config: ConfigArg,
    stage: Annotated[str, typer.Option(help="run, sweep, one stage, or doctor")] = "run",
    set_: SetOption = None,
    force: ForceOption = False,
    accept: AcceptOption = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Return as soon as the job is submitted.")] = False,
    wait: WaitOption = "0",
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="http://HOST:8265; default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, a Ray on this machine."
        ),
    ] = None,
    verbose: VerboseOption = None,
) -> None:
    """A second submit of a run that is still going attaches to it; the job's exit code is the command's."""
    from paft_ray.cli.submit import submit

    ask = partial(submit, expanduser(config), stage, set_ or [], force=force, accept=accept or ())
    raise typer.Exit(ask(follow=not no_follow, address=address, wait=wait))


@app.command(
    "doctor", help="Would a run start on this cluster (or machine)? One line per finding, exit code 1 where not."
)
def doctor(
    config: Annotated[
        str | None,
        typer.Argument(metavar="[CONFIG]", help="YAML file: its storage, models and resources are looked at too"),
    ] = None,
    set_: SetOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="`auto` or HOST:PORT on a node, http://HOST:8265 from elsewhere; default: RAY_ADDRESS, else a local "
            "Ray.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON")] = False,
    verbose: VerboseOption = None,
) -> None:
    """Starts a local Ray where no cluster is named."""
    from paft_ray.cli.doctor import doctor

    raise typer.Exit(doctor(config, set_ or [], address=address, as_json=as_json))


@app.command("compare", help="Runs side by side, paired where templates and examples agree.")
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="Folders or URIs of evaluated runs")],
    arms: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A:B",
            help="Arm A of the earlier run against arm B of the later one; may be given several times (default: arms "
            "of the same name)",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
    verbose: VerboseOption = None,
) -> None:
    """Figures of every arm, differences between runs, and what their configurations differ in."""
    from paft_ray.cli.compare import compare_runs

    compare_runs(runs, arms or [], as_json=as_json)


@app.command(
    "audit",
    help="Verify what every stage wrote, replay order and draws of every training and compare with what its steps "
    "used; exit code 1 where they differ.",
)
def audit(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder or URI of the run")],
    verbose: VerboseOption = None,
) -> None:
    """Every file as it was written, every example once per epoch, under the template that was drawn for it."""
    from paft_ray.cli.audit import audit_run

    raise typer.Exit(audit_run(run))


@app.command("export", help="Complete weights of a trained model, with its card, and the command that serves them.")
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder or URI of the run")],
    out: Annotated[str, typer.Option(help="New or empty folder for the weights")],
    arm: Annotated[str, typer.Option(help="Trained arm")] = "paft",
    seed: Annotated[int, typer.Option(help="Training seed")] = 0,
    precision: Annotated[
        Precision | None, typer.Option(help="Dtype of the weights; default: that of the evaluation")
    ] = None,
    verbose: VerboseOption = None,
) -> None:
    """Merges the adapter into its base model."""
    from paft_ray.cli.export import export_run

    export_run(run, arm, seed, out, precision)


@app.command("init", help="Write a task, rows, templates and a run file to start from.")
def init(name: Annotated[str, typer.Argument(help="Of the run, and of the new folder")]) -> None:
    """They run as they are."""
    from paft_ray.cli.init import init

    echo(init(name))


app.command("robustness", help=robustness_command.HELP)(robustness_command.robustness)


@prompts_app.command("import", help="Put lists of templates, ours or published ones, through the gate.")
def prompts_import(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE ...",
            help=".jsonl (rows with `text`), .json, .txt, or what lm-evaluation-harness, NeMo Skills, PromptSource "
            "(.yaml) and PromptSuite (.json, .csv) publish",
        ),
    ],
    task: Annotated[str, typer.Option(help="Built-in task or path of a task YAML")],
    out: Annotated[str, typer.Option(help="File to write: .parquet or .jsonl")],
    max_words: Annotated[int, typer.Option(help="Longest template in words")] = 120,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="THEIR=OURS", help="Their name of one of the task's fields; may be repeated"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts and rejected templates as JSON")] = False,
) -> None:
    """Prints what was read, kept, repaired and rejected, and each rejected template with its reason."""
    from paft_ray.cli.prompts_import import import_files

    paths = [*map(expanduser, files)]
    import_files(paths, expanduser(task), expanduser(out), max_words, map_ or [], as_json=as_json)


@prompts_app.command("generate", help="Compose templates for a task without a model.")
def prompts_generate(
    task: Annotated[str, typer.Option(help="Built-in task or path of a task YAML")],
    out: Annotated[str, typer.Option(help="New file to write: .jsonl")],
    kind: Annotated[Literal["grammar"], typer.Option("--type", help="What composes them")] = "grammar",
    num: Annotated[int, typer.Option(min=1, max=10_000, help="Number of templates")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other templates")] = 0,
    max_words: Annotated[int, typer.Option(help="Longest template in words")] = 120,
) -> None:
    """Prints how many templates, frames and clusters of near-copies the file has."""
    from paft_ray.cli.prompts_generate import generate

    echo(generate(expanduser(task), num, expanduser(out), seed=seed, max_words=max_words))


@prompts_app.command(
    "check", help="Would each template of a list be used, and why not? Exit code 1 where one is rejected."
)
def prompts_check(
    file: Annotated[str, typer.Argument(help=".jsonl (rows with `text`), .json or .txt")],
    task: Annotated[str, typer.Option(help="Built-in task or path of a task YAML")],
    max_words: Annotated[int, typer.Option(help="Longest template in words")] = 120,
    judge: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Model that says which templates ask for the task; starts Ray and an engine"),
    ] = None,
    address: AddressOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON")] = False,
) -> None:
    """Gate, rules and, where one is named, a judge; writes nothing."""
    from paft_ray.cli.check_prompts import check_prompts

    code = check_prompts(
        expanduser(file), expanduser(task), max_words=max_words, judge=judge, address=address, as_json=as_json
    )
    raise typer.Exit(code)


@prompts_app.command("review", help="Write a page that shows every template of a run, to accept or reject.")
def prompts_review(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder or URI of the run")],
    out: Annotated[str | None, typer.Option(help="File to write; default: report/review.html in the run")] = None,
) -> None:
    """The page writes the file that `prompts.decisions` of the next run takes."""
    from paft_ray.cli.prompts_review import review

    review(expanduser(run), expanduser(out) if out else None)


@prompts_app.command("show", help="Print the templates of a run.")
def prompts_show(run: Annotated[str, typer.Argument(help="Folder of the run")]) -> None:
    """Split, source and text of each template."""
    from paft_ray.storage.artifacts import PROMPT_SET
    from paft_ray.storage.store import Store

    for entry in PROMPT_SET.read(Store(run)).entries:
        echo(f"[{entry.split}] {entry.template.id} ({entry.provenance.get('source')})\n{entry.template.text}\n")


@terminable()
def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `paft` and, with the arguments of a command, of the scripts in `jobs/`.

    One line and code 2 for what a user can fix, code 1 for a failed stage, 130 when interrupted.
    """
    prepare_environment()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(app(given, prog_name="paft", standalone_mode=False) or 0)
    except _UsageError as error:  # its own box would show what was given, a key in the wrong place too
        _stop(2, error.format_message().rstrip("."), f"; see {error.ctx.command_path if error.ctx else 'paft'} --help")
    except (UserError, StorageError) as error:
        _stop(2, error)
    except StageError as error:
        again = "without --force" if "--force" in given else "again"
        _stop(1, error, f"; finished stages are kept: start the same command {again} to resume")
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # such as --help > /dev/full
            _stop(2, f"no space left for {error.filename or 'the output'}; free some space there")
        from paft_ray.stages.stage_errors import keep_traceback

        _stop(
            1, f"{type(error).__name__}: {one_line(error)[:400]}", f"; traceback: {keep_traceback(None, 'paft', error)}"
        )


def _stop(code: int, reason: object, remedy: str = "") -> NoReturn:
    """Ends with one line on stderr; an error that comes out of a Ray task is reported by its cause, without Ray's
    traceback."""
    line = one_line(getattr(reason, "cause", None) or reason)
    if not line:  # the help of a command without arguments, which is printed
        sys.exit(2)
    if len(line) > 2 * _HALF_LINE:  # a field of a megabyte in it; what was given stands first, what to do last
        line = f"{line[:_HALF_LINE]} ... {line[-_HALF_LINE:]}"
    echo(f"paft: {line}{remedy}", err=True)
    sys.exit(code)
