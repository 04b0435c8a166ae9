"""The commands, put together. To add one: write its file, and add its line here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, cast

import typer

from .config import config
from .demo import demo
from .doctor import doctor
from .installation import version
from .output import fail

__all__ = ["app", "run"]

app = typer.Typer(
    name="cache",
    help="ClusterDB Cache: a tour on real data, and checks of files and of the installation.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
app.command()(demo)
app.add_typer(config)
app.command()(doctor)

# The base of all usage errors. typer 0.20 takes it from click and later ones have their own, so
# it is reached through a name that all of them export.
_UsageError: Final = cast("type[Exception]", typer.BadParameter.__mro__[1])
_INTERRUPTED: Final = 130


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. User errors are one line on stderr."""
    command = typer.main.get_command(app)
    try:
        outcome: Any = command.main(list(argv), prog_name="cache", standalone_mode=False)
    except _UsageError as error:
        return _wrong_usage(error)
    except typer.Abort:  # how older versions of typer report an interrupt
        raise KeyboardInterrupt from None
    if outcome == _INTERRUPTED:
        raise KeyboardInterrupt
    return outcome if isinstance(outcome, int) else 0


def _wrong_usage(error: Any) -> int:
    """Say what is wrong with the arguments, or show the help where there were none."""
    context = error.ctx
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        path = context.command_path if context is not None else "cache"
        fail(f"{error.format_message().rstrip('.')} (see '{path} --help')")
    return 2


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clusterdb-cache {version()}")
        raise typer.Exit


@app.callback()
def _cache(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """ClusterDB Cache: a tour on real data, and checks of files and of the installation."""
