"""``cache metrics show``."""

from __future__ import annotations

import msgspec
import typer

from clusterdb.cache import Cache
from clusterdb.monitoring import Metric

from .figures import describe, metrics_of
from .output import make_console, plain_table, print_json
from .target import AsJson, ConfigFile, Url, on_cache

__all__ = ["metrics"]

metrics = typer.Typer(name="metrics", help="The figures as samples.", no_args_is_help=True)


@metrics.callback()
def _metrics() -> None:
    """The figures as samples."""


@metrics.command()
def show(config: ConfigFile = None, url: Url = None, json: AsJson = False) -> None:
    """Show what was counted by all processes, by the names a metrics system knows."""

    async def work(cache: Cache) -> list[Metric]:
        return metrics_of(cache, await describe(cache))

    found = on_cache(config, url, work)
    if json:
        print_json({"metrics": msgspec.to_builtins(found)})
        return
    table = plain_table("metric", "region", "value", texts=2)
    for metric in found:
        table.add_row(metric.name, metric.labels["region"], f"{metric.value:,.0f}")
    make_console().print(table)
