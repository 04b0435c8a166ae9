"""``cache metrics``: the figures as samples, and what shows them elsewhere."""

from __future__ import annotations

import asyncio
import math
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from clusterdb.cache import InvalidArgument
from clusterdb.monitoring import Metric
from clusterdb.monitoring.timings import quantile

from .output import is_terminal, make_console, plain_table, print_json, print_line, safe
from .target import AsJson, ConfigFile, Url, on_view
from .view import View

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["metrics"]

metrics = typer.Typer(name="metrics", help="The figures as samples.", no_args_is_help=True)

Shown = dict[tuple[str, str], float]
"""Values by name and labels."""


@metrics.callback()
def _metrics() -> None:
    """The figures as samples."""


@metrics.command()
def show(
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show them again and again, with rates, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", help="With --watch: seconds between two looks.")
    ] = 2.0,
    count: Annotated[
        int | None, typer.Option("--count", help="With --watch: end after so many looks.")
    ] = None,
) -> None:
    """Show what was counted by all processes, by the names a metrics system knows."""
    if not watch:
        _once(on_view(config, url, _ask), json=json)
        return
    if not every >= 0.1 or (count is not None and count < 1):
        raise InvalidArgument(
            f"--every is 0.1 seconds or more and --count 1 or more, not {every!r} and {count!r}"
        )
    on_view(config, url, lambda view: _watch(view, every, count, json=json))


@metrics.command()
def dashboard() -> None:
    """Write the dashboard for Grafana, as JSON, to import there."""
    print_line(_data("grafana-dashboard.json"), keep="\n")


@metrics.command()
def rules() -> None:
    """Write the alert rules for Prometheus, as YAML."""
    print_line(_data("prometheus-rules.yaml"), keep="\n")


def _data(name: str) -> str:
    return (files("clusterdb.monitoring") / "data" / name).read_text("utf-8").rstrip("\n")


async def _ask(view: View) -> list[Metric]:
    return await view.metrics()


def _once(found: list[Metric], *, json: bool) -> None:
    if json:
        print_json({"metrics": msgspec.to_builtins(found)})
    else:
        make_console().print(_table(found, {}, None))


async def _watch(view: View, every: float, count: int | None, *, json: bool) -> None:
    """Look and show, each time below the one before; on a terminal in its place."""
    before: Shown = {}
    began, looks = time.monotonic(), 0
    console = make_console()
    while True:
        found, now = await view.metrics(), time.monotonic()
        seconds = now - began if looks else None
        if json:
            line: dict[str, Any] = {"time": time.time(), "metrics": msgspec.to_builtins(found)}
            print_line(msgspec.json.encode(line).decode())
        else:
            if is_terminal():
                console.clear()
            console.print(_table(found, before, seconds))
        before, began, looks = _values(found), now, looks + 1
        if looks == count:
            return
        await asyncio.sleep(every)


def _table(found: list[Metric], before: Shown, seconds: float | None) -> Table:
    """A row for each series; once there is a look before, counters with their rates since."""
    from rich.text import Text

    columns = ("metric", "of", "value", *(() if seconds is None else ("a second",)))
    table = plain_table(*columns, texts=2)
    for metric in found:
        name, of = _series(metric)
        row: list[Text | str] = [Text(safe(name)), Text(safe(of)), _value(metric)]
        if seconds:
            row.append(_rate(metric, before, seconds))
        table.add_row(*row)
    return table


def _value(metric: Metric) -> str:
    """What it is; of a histogram how many were observed, and how long half and 99% of them took."""
    if metric.kind != "histogram":
        return f"{metric.value:,.10g}"
    half, most = [_milliseconds(quantile(metric, share)) for share in (0.5, 0.99)]
    return f"{metric.value:,.0f}, p50 {half}, p99 {most}"


def _milliseconds(seconds: float) -> str:
    return "above all bounds" if math.isinf(seconds) else f"{1000 * seconds:.3g} ms"


def _rate(metric: Metric, before: Shown, seconds: float) -> str:
    """A counter that became smaller began anew."""
    then = before.get(_series(metric))
    if metric.kind == "gauge" or then is None:
        return ""
    return f"{(metric.value - then if metric.value >= then else metric.value) / seconds:,.1f}"


def _values(found: list[Metric]) -> Shown:
    return {_series(metric): metric.value for metric in found}


def _series(metric: Metric) -> tuple[str, str]:
    """Its name, and what it is of within the cache."""
    of = [value for label, value in metric.labels.items() if label != "cache"]
    return metric.name, " ".join(of)
