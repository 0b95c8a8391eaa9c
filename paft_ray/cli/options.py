"""Options that several commands share: what the console shows, and the version."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from paft_ray.echo import echo
from paft_ray.log import show_from


def _set_level(verbose: bool | None) -> None:
    if verbose is not None:
        show_from(logging.DEBUG if verbose else logging.WARNING)


def _show_version(asked: bool) -> None:
    if asked:
        echo(f"paft {package_version()}")
        raise typer.Exit


def package_version() -> str:
    """The version of this package; `(not installed)` where it is not installed, such as in the folder of a job."""
    try:
        return version("paft-ray")
    except PackageNotFoundError:
        return "(not installed)"


VerboseOption = Annotated[
    bool | None,
    typer.Option(
        "--verbose/--quiet", callback=_set_level, help="Show debug lines too, or only warnings and the result."
    ),
]


def root_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Prompt-agnostic fine-tuning (PAFT) on Ray."""


WaitOption = Annotated[
    str,
    typer.Option(
        "--wait-resources",
        metavar="DURATION",
        help="How long to wait for nodes of a cluster that is starting or autoscales (30m, 90s); default: not at all.",
    ),
]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="ENTRY",
        help="Keep finished stages that differ in this entry of their key, such as versions.torch; may be repeated. "
        "Never for task, rows, templates or weights.",
    ),
]
