"""The commands, put together. To add one: write its file, and add its line here.

Every start of the program imports this module, and with it each command's: what only one command
needs is imported where it runs. User errors become one line on stderr and an exit code here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Final, cast

import typer

from clusterdb.cache import (
    BackendUnavailable,
    CacheError,
    InvalidArgument,
    MissingExtra,
    NotSupported,
)

from ..errors import BackupUnavailable, NoStorage, StorageUnavailable, UnknownBackup
from .advise import advise
from .ahead import behind_command
from .backup import backup
from .change import delete, increment, touch
from .completion import completion
from .config import config
from .demo import demo
from .doctor import doctor
from .events import events
from .get import exists, get
from .health import health
from .installation import version
from .invalidate import clear, invalidate
from .keys import keys
from .maintenance import maintenance
from .metrics import metrics
from .output import ReaderGone, drop_unwritten, fail
from .pending import flush, pending
from .record import record
from .scan import scan
from .serve import serve
from .set import set_value
from .simulate import simulate
from .status import regions, status
from .storage import storage
from .target import ConfigFile, Url
from .top import top
from .warm import warm

__all__ = ["app", "run"]

app = typer.Typer(
    name="cache",
    help="ClusterDB Cache: read and change a cache, see what happens in it, check its files.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
app.command()(get)
app.command("set")(set_value)
app.command()(delete)
app.command()(exists)
app.command()(touch)
app.command()(scan)
app.command()(clear)
app.command()(invalidate)
app.command()(warm)
app.command(context_settings={"ignore_unknown_options": True})(increment)  # by -1
app.command()(status)
app.command()(regions)
app.command()(serve)
app.command()(top)
app.command()(health)
app.add_typer(keys)
app.add_typer(metrics)
app.add_typer(events)
storage.command()(pending)
storage.command()(flush)
app.add_typer(storage)
app.add_typer(maintenance)
app.add_typer(backup)
app.add_typer(config)
app.command()(doctor)
app.command()(record)
app.command()(simulate)
app.command()(advise)
app.command()(demo)
app.command()(completion)

# The base of all usage errors. typer 0.20 takes it from click and later ones have their own, so
# it is reached through a name that all of them export.
_UsageError: Final = cast("type[Exception]", typer.BadParameter.__mro__[1])

_WRONG_USAGE: Final = 2
_UNAVAILABLE: Final = 3
_FAILED: Final = 4
_INTERRUPTED: Final = 130
_READER_GONE: Final = 141
"""What a shell reports of a program that a closed pipe ended."""


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. User errors are one line on stderr."""
    try:
        command = _command()
        words = behind_command(command, argv)
        outcome: Any = command.main(words, prog_name="cache", standalone_mode=False)
    except _UsageError as error:
        return _wrong_usage(error)
    except typer.Abort:  # how older versions of typer report an interrupt
        raise KeyboardInterrupt from None
    except CacheError as error:
        fail(str(error))
        return _code(error)
    except OSError as error:  # of a file to write, or of stdout
        fail(f"can't write: {error}")
        drop_unwritten()
        return _FAILED
    except ReaderGone:
        drop_unwritten()
        return _READER_GONE
    if outcome == _INTERRUPTED:
        raise KeyboardInterrupt
    return outcome if isinstance(outcome, int) else 0


@cache
def _command() -> Any:
    """The program, made once a process: making it takes longer than most commands."""
    return typer.main.get_command(app)


def _code(error: CacheError) -> int:
    if isinstance(error, BackendUnavailable | StorageUnavailable | BackupUnavailable):
        return _UNAVAILABLE
    wrong = InvalidArgument, NotSupported, MissingExtra, NoStorage, UnknownBackup
    return _WRONG_USAGE if isinstance(error, wrong) else _FAILED


def _wrong_usage(error: Any) -> int:
    """Say what is wrong with the arguments, or show the help where there were none."""
    context = error.ctx
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        path = context.command_path if context is not None else "cache"
        fail(f"{error.format_message().rstrip('.')} (see '{path} --help')")
    return _WRONG_USAGE


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
    _config: ConfigFile = None,  # for the help: `behind_command` gives both to the command
    _url: Url = None,
) -> None:
    """ClusterDB Cache: read and change a cache, see what happens in it, check its files."""
