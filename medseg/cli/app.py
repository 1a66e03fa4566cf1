"""`medseg`: the commands by name, and the one place that turns an error into a message and an exit code.

Exit codes: 0 all done, 1 a bug, 2 wrong usage, 3 no case could be done, 4 bundle refused or without weights,
5 out of memory, 6 some cases failed (the rest are done), 7 output folder in use, 8 not as recorded (verify, rerun), 130 interrupted,
143 asked to end (SIGTERM).
"""

from __future__ import annotations

import logging
import traceback
import warnings
from typing import TYPE_CHECKING, Annotated

import typer

import medseg
from medseg.cli import (
    bundle,
    bundles,
    demo,
    doctor,
    evaluate,
    export,
    federate,
    inspect,
    plan,
    predict,
    rank,
    rerun,
    train,
    verify,
    view,
)
from medseg.cli.console import show_crash, show_error, stderr
from medseg.errors import MedsegError
from medseg.stop import stoppable, stopped_by

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130

app = typer.Typer(
    name="medseg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(doctor.doctor)
app.command()(demo.demo)
app.command()(bundles.bundles)
app.command()(inspect.inspect)
app.command()(predict.predict)
app.command()(view.view)
app.command()(evaluate.evaluate)
app.command()(plan.plan)
app.command()(train.train)
app.command()(rank.rank)
app.command()(verify.verify)
app.command()(rerun.rerun)
bundle.app.command()(export.export)
app.add_typer(bundle.app, name="bundle")
app.add_typer(federate.app, name="federate")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medseg {medseg.__version__}")
        raise typer.Exit


@app.callback()
def medseg_(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show Python's traceback and every warning. May stand anywhere.")
    ] = False,
) -> None:
    """Segment medical volumes in 3D: folders of NIfTI or DICOM in, label maps you can trust out.

    Start with [bold]medseg demo[/bold]. For research use only.
    """


def run(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name); returns the exit code and never raises."""
    debug = "--debug" in argv
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    elif isinstance(logging.lastResort, logging.Handler):
        logging.lastResort.setLevel(logging.ERROR)  # without --debug no library's log reaches the terminal
    with stoppable(), warnings.catch_warnings():
        if not debug:  # libraries warn about each other; what concerns the user is a Decision or an error
            warnings.simplefilter("ignore")
        return _run([word for word in argv if word != "--debug"], debug=debug)


def _run(argv: list[str], *, debug: bool) -> int:
    try:
        app(args=argv, prog_name="medseg")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            return _told_of_stop()
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except MedsegError as error:
        if debug:
            traceback.print_exc()
        show_error(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  the last stop: whatever comes here is a bug of ours
        if debug:
            traceback.print_exc()
        show_crash(error)
        return MedsegError.exit_code
    return 0


def _told_of_stop() -> int:
    by = stopped_by()
    if by is None or by.exit_code == INTERRUPTED:
        stderr().print("interrupted")
        return INTERRUPTED
    stderr().print(f"stopped by {by.signal.name}")
    return by.exit_code
