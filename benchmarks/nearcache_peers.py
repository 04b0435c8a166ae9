"""What near caches give back when things go wrong, ours beside five others: six scenarios, each in
a process and on a Redis server of its own, through a proxy that can be silent or cut.

A reader has a value near; somebody else changes it. The figure is how long after the change had
been acknowledged the reader still gave the old value. `--document` writes the table into
docs/explanation/coherence.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

from _near_peers import OURS, PEERS, Near
from _report import RESULTS, ROOT, Report, Table, version

# The server and the proxy are those of the tests.
sys.path.insert(0, str(ROOT))
start = import_module("tests.redis.servers").start
FaultProxy = import_module("tests.redis.proxy").FaultProxy

PAGE = ROOT / "docs" / "explanation" / "coherence.md"
BEGIN, END = "<!-- nearcache peers -->", "<!-- /nearcache peers -->"
AT_ONCE = 2
WRITTEN_AT_ONCE = 100
CALLERS = 50
OLD, NEW = "old", "new"


@contextmanager
def beside(port: int) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A proxy on a loop and thread of its own, as a peer may block the loop it is called on; and
    what resets its connections.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = FaultProxy(port)
    asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result(5)
    try:
        yield proxy, lambda: loop.call_soon_threadsafe(proxy.reset) and None
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


class Scene:
    """A server, the reader behind a proxy, a writer beside it."""

    def __init__(
        self,
        server: Any,
        proxy: Any,
        reset: Callable[[], None],
        opened: Callable[[int], Any],
        limit: float,
    ) -> None:
        self.server, self.proxy, self.reset = server, proxy, reset
        self.opened, self.limit = opened, limit
        self.stack = AsyncExitStack()
        self.reader: Near
        self.writer: Near

    async def open(self) -> None:
        self.reader = await self.stack.enter_async_context(self.opened(self.proxy.port))
        self.writer = await self.stack.enter_async_context(self.opened(self.server.port))

    async def warm(self, key: str) -> None:
        """Let the reader have the old value near."""
        await self.writer.set(key, OLD)
        for _ in range(5):
            await self.reader.get(key)
            await asyncio.sleep(0.05)


async def stale_for(
    read: Callable[[], Awaitable[str | None]], since: float, limit: float
) -> dict[str, Any]:
    """For how many seconds the old value was read; whether it was until the end; failed reads."""
    last, failed, silent_since = 0.0, 0, monotonic()
    while (began := monotonic()) < since + limit:
        try:
            value = await asyncio.wait_for(read(), 2.0)
        except Exception:  # noqa: BLE001 - whatever a peer raises, it is not an old value
            failed += 1
            if began - silent_since > 6.0:
                break
            await asyncio.sleep(0.05)
            continue
        if value == NEW:
            return {"stale": last, "ended": True, "failed": failed}
        if value == OLD:
            last, silent_since = began - since, began
        await asyncio.sleep(0.002)
    return {"stale": last, "ended": last < limit - 3.0, "failed": failed}


async def warm_reads(scene: Scene) -> dict[str, Any]:
    """How many of 500 reads of one key ask the server."""
    await scene.warm("k")
    before = int((await asyncio.to_thread(scene.server.info, "stats"))["total_commands_processed"])
    for _ in range(500):
        await scene.reader.get("k")
    after = int((await asyncio.to_thread(scene.server.info, "stats"))["total_commands_processed"])
    return {"asked": min(1.0, (after - before - 1) / 500)}


async def good(scene: Scene) -> dict[str, Any]:
    await scene.warm("k")
    await scene.writer.set("k", NEW)
    return await stale_for(lambda: scene.reader.get("k"), monotonic(), scene.limit)


async def clean_kill(scene: Scene) -> dict[str, Any]:
    """All connections of the reader end; the write falls into the gap before the new ones."""
    await scene.warm("k")
    scene.proxy.cut_after = 0
    scene.reset()
    await asyncio.sleep(0.1)
    await scene.writer.set("k", NEW)
    since = monotonic()
    gap = asyncio.get_running_loop().call_later(1.0, setattr, scene.proxy, "cut_after", -1)
    try:
        return await stale_for(lambda: scene.reader.get("k"), since, scene.limit)
    finally:
        gap.cancel()


async def half_open(scene: Scene) -> dict[str, Any]:
    """The reader's connections are silent, and nobody says that they have ended."""
    await scene.warm("k")
    scene.proxy.deaf = scene.proxy.mute = True
    await scene.writer.set("k", NEW)
    return await stale_for(lambda: scene.reader.get("k"), monotonic(), scene.limit)


async def concurrent_writers(scene: Scene) -> dict[str, Any]:
    """Two processes write a key at once; two seconds later each is asked what it has."""
    keys = [f"k{n}" for n in range(WRITTEN_AT_ONCE)]
    for key in keys:
        await scene.writer.set(key, OLD)
        await scene.reader.get(key)
    for key in keys:
        await asyncio.gather(scene.reader.set(key, "reader"), scene.writer.set(key, "writer"))
    await asyncio.sleep(2.0)
    async with scene.opened(scene.server.port) as third:
        wrong = 0
        for key in keys:
            truth = await third.get(key)
            seen = {await scene.reader.get(key), await scene.writer.get(key)}
            wrong += seen != {truth}
    return {"wrong": wrong, "of": len(keys)}


async def racing_load(scene: Scene) -> dict[str, Any]:
    """A load has read the old value when another process changes it and drops the key."""
    load = scene.reader.load
    if load is None:
        return {"none": True}
    origin = OLD

    async def loader() -> str:
        seen = origin
        await asyncio.sleep(0.2)
        return seen

    loading = asyncio.create_task(load("k", loader))
    await asyncio.sleep(0.1)
    origin = NEW
    await scene.writer.drop("k")
    since = monotonic()
    await loading
    return await stale_for(lambda: load("k", loader), since, min(scene.limit, 10.0))


async def stampede(scene: Scene) -> dict[str, Any]:
    """Many callers at once on a cold key; then the first of them is cancelled."""
    load = scene.reader.load
    if load is None:
        return {"none": True}
    loads = 0

    async def loader() -> str:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.3)
        return NEW

    callers = [asyncio.create_task(load("k", loader)) for _ in range(CALLERS)]
    await asyncio.sleep(0.1)
    callers[0].cancel()
    answers = await asyncio.gather(*callers[1:], return_exceptions=True)
    served = sum(1 for answer in answers if answer == NEW)
    return {"loads": loads, "served": served, "of": len(answers)}


SCENARIOS: dict[str, tuple[str, Callable[[Scene], Awaitable[dict[str, Any]]]]] = {
    "near": ("warm reads that ask the server", warm_reads),
    "good": ("good case", good),
    "kill": ("connections end, a write in the gap", clean_kill),
    "half-open": ("connections go silent", half_open),
    "writers": (f"two writers at once, {WRITTEN_AT_ONCE} keys", concurrent_writers),
    "load": ("a load races an invalidation", racing_load),
    "stampede": (f"{CALLERS} callers, the first is cancelled", stampede),
}


async def one(peer: str, scenario: str, limit: float) -> None:
    """Play a scenario with a peer, print what was found as JSON, and end the process: a thread or
    task of a peer may be waiting for a server that is silent.
    """
    with tempfile.TemporaryDirectory() as place:
        deployment = await asyncio.to_thread(start, "standalone", Path(place))
        try:
            [server] = deployment.servers
            with beside(server.port) as (proxy, reset):
                scene = Scene(server, proxy, reset, PEERS[peer].opened, limit)
                await scene.open()
                try:
                    found = await SCENARIOS[scenario][1](scene)
                except asyncio.CancelledError:
                    found = {"error": "cancels its caller"}
                print(json.dumps(found), flush=True)
        finally:
            deployment.stop()
    os._exit(0)


def shown(found: dict[str, Any], limit: float) -> str:
    """A cell of the table."""
    if "error" in found:
        return str(found["error"])
    if "none" in found:
        return "no loads"
    if "asked" in found:
        return f"{found['asked']:.0%}"
    if "wrong" in found:
        return f"{found['wrong']} wrong" if found["wrong"] else "ok"
    if "loads" in found:
        load = "load" if found["loads"] == 1 else "loads"
        return f"{found['loads']} {load}, {found['served']} of {found['of']} served"
    if not found["ended"]:
        return f"still stale after {limit:.0f} s"
    return f"{found['stale'] * 1000:,.0f} ms"


async def measured(peer: str, scenario: str, given: Namespace, room: asyncio.Semaphore) -> Any:
    """Play it in a process of its own, which is killed when it hangs."""
    async with room:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, "--one", peer, scenario, "--limit", str(given.limit)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(child.communicate(), given.limit + 60)
        except TimeoutError:
            child.kill()
            await child.wait()
            return {"error": "hangs"}
    try:
        found = json.loads(out.decode().strip().splitlines()[-1])
    except (IndexError, ValueError):
        print(err.decode()[-2000:], file=sys.stderr)
        return {"error": "failed"}
    print(f"{peer}: {SCENARIOS[scenario][0]}: {shown(found, given.limit)}", flush=True)
    return found


async def compare(given: Namespace) -> Report:
    names = [name for name, peer in PEERS.items() if not peer.missing]
    names = [name for name in names if not given.peer or name in given.peer]
    scenarios = [name for name in SCENARIOS if not given.scenario or name in given.scenario]
    room = asyncio.Semaphore(AT_ONCE)
    cells = [(peer, scenario) for scenario in scenarios for peer in names]
    found = await asyncio.gather(*[measured(*cell, given, room) for cell in cells])
    results = dict(zip(cells, found, strict=True))
    report = Report("nearcache_peers", {"limit": given.limit})
    report.versions = {name: version(PEERS[name].distribution) for name in names}
    rows = [
        (
            SCENARIOS[scenario][0],
            *[
                shown(results[name, scenario], 10.0 if scenario == "load" else given.limit)
                for name in names
            ],
        )
        for scenario in scenarios
    ]
    header = ["", *[f"{name} {report.versions[name]}".rstrip() for name in names]]
    report.tables.append(Table("How long an old value was read after its change", header, rows))
    report.settings["notes"] = {name: PEERS[name].note for name in names if PEERS[name].note}
    report.settings["left out"] = [peer.missing for peer in PEERS.values() if peer.missing]
    return report


def document(result: dict[str, Any]) -> str:
    """What stands between the marks of the page: the table turned, a library a row."""
    [table] = result["tables"]
    header, *rows = zip(table["header"], *table["rows"], strict=True)
    rows = [[f"**{row[0]}**" if row[0].startswith(OURS) else row[0], *row[1:]] for row in rows]
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *rows]
    about = result["environment"]
    notes = "; ".join(f"{name}: `{note}`" for name, note in result["settings"]["notes"].items())
    left_out = "; ".join(result["settings"]["left out"])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    said = f"{about['python']}, {about['machine']}, {about['date']}, commit {about['commit']}"
    more = f" Left out: {left_out}." if left_out else ""
    return f"{text}\n\n`python benchmarks/nearcache_peers.py`: {said}. {notes}.{more}"


def placed(page: str, text: str) -> str:
    """The page with ``text`` between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("PEER", "SCENARIO"), help="one cell, as JSON")
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument(
        "--limit", type=float, default=30.0, help="seconds to wait for the new value"
    )
    parser.add_argument(
        "--quick", action="store_true", help="ours, three seconds; writes no result"
    )
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--document", action="store_true", help="only write the page anew")
    given = parser.parse_args()
    if given.one:
        asyncio.run(one(*given.one, given.limit))
    path = RESULTS / "nearcache_peers.json"
    if not given.document:
        if given.quick:
            given.limit, given.peer = 3.0, [OURS]
        report = asyncio.run(compare(given))
        print(f"\n{report.text()}")
        if given.quick and not given.output:
            return 0
        path = given.output or path
        report.write(path)
    if path == RESULTS / "nearcache_peers.json":
        result = json.loads(path.read_text(encoding="utf-8"))
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(placed(page, document(result)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
