"""``cache serve``."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clusterdb.cache import CacheError, InvalidArgument

from .output import print_line
from .target import TOKEN, ConfigFile, Url, own_cache

if TYPE_CHECKING:
    from ..server import ServerSettings

__all__ = ["serve"]

_MOST: Final = 10_000


TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help=f"What requests must carry; else the variable {TOKEN}.",
        show_default=False,
    ),
]


Rate = Annotated[
    float,
    typer.Option(min=0, help="Requests a second of one address, twice as many at once; 0: any."),
]


def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0: any.")] = 8765,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Refuse whatever changes an entry.")
    ] = False,
    token_file: TokenFile = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="The server's certificate.", show_default=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.", show_default=False)] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="Whose certificates clients must show.", show_default=False),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            help="A name by which the server may be asked; may be given several times.",
            show_default=False,
        ),
    ] = None,
    rate: Rate = 200,
    demo: Annotated[
        bool, typer.Option("--demo", help="Serve a cache in memory with something going on.")
    ] = False,
    config: ConfigFile = None,
    url: Url = None,
) -> None:
    """Serve the cache over HTTP, with the admin page, until interrupted.

    Only this machine can reach it, unless --host says otherwise; then it needs a token, or
    --tls-client-ca.
    """
    from ..server import ServerSettings

    settings = ServerSettings(
        host=host,
        port=port,
        read_only=read_only,
        token=_token(token_file),
        certificate=tls_cert,
        key=tls_key,
        client_ca=tls_client_ca,
        hosts=tuple(allow_host or ()),
        rate=rate or None,
    )
    settings.check_reach()
    try:
        with suppress(KeyboardInterrupt):  # how one ends it
            asyncio.run(_serve(config, url, settings, demo=demo))
    except OSError as error:
        if isinstance(error, CacheError):
            raise
        problem = error.strerror or str(error)
        raise InvalidArgument(f"can't serve at {host}, port {port}: {problem}") from error


async def _serve(
    file: Path | None, url: str | None, settings: ServerSettings, *, demo: bool
) -> None:
    from ..server import run
    from ..server.demonstration import demo_cache, keep_busy

    cache = demo_cache() if demo else own_cache(file, url)
    async with aclosing(cache):
        await cache.start()
        busy = asyncio.create_task(keep_busy(cache)) if demo else None
        try:
            await run(cache, settings, started=_say)
        finally:
            await _end(busy)


async def _end(busy: asyncio.Task[Any] | None) -> None:
    if busy is not None:
        busy.cancel()
        await asyncio.wait({busy})


def _say(address: str) -> None:
    print_line(f"serving at {address} (Ctrl-C ends it)")


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} can't be read as a token: {error}") from None
    if not text or len(text) > _MOST:
        raise InvalidArgument(f"{file} holds no token: put one line into it")
    return text
