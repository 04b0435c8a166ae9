"""A headless Chromium, driven through the DevTools protocol over a pair of pipes: no library."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

__all__ = ["PROGRAM", "Page", "browser"]

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers, and show pages of their own only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)

# The browser expects the pipes under the numbers 3 and 4, and one of them may have the other's now.
WITH_PIPES = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 20) for number in sys.argv[1:3]]
os.dup2(high[0], 3), os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One tab. ``errors`` are what scripts threw and what the page's policy forbade."""

    def __init__(self, connection: "Connection", session: str) -> None:
        self._connection, self._session = connection, session
        self.errors: list[str] = []
        self.requests: list[str] = []
        connection.listeners[session] = self._heard

    def _heard(self, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            if told["entry"]["source"] != "network":  # an answer such as 404 is none
                self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"a script said {told['message']!r}")

    async def send(self, method: str, **given: Any) -> dict[str, Any]:
        return await self._connection.send(method, given, self._session)

    async def prepare(self) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")

    async def resize(self, width: int, height: int, scheme: str = "light") -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.send("Emulation.setEmulatedMedia", features=[feature])

    async def go(self, url: str) -> None:
        await self.send("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        done = await self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def until(self, condition: str, seconds: float = 30) -> Any:
        """Wait until an expression is true; what it is."""
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(AssertionError):  # the page is on its way to another
                    if found := await self.run(condition):
                        return found
                await asyncio.sleep(0.05)

    async def press(self, key: str) -> None:
        text = key if len(key) == 1 else "\r" if key == "Enter" else ""
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, ord(key[0]))
        shared = {"key": key, "windowsVirtualKeyCode": code}
        await self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **shared)

    async def type(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def picture(self, path: Path) -> None:
        shot = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


class Connection:
    """Commands and their replies, as JSON texts that end with a zero byte."""

    def __init__(self, reader: asyncio.StreamReader, writing: int) -> None:
        self._reader, self._writing = reader, writing
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.listeners: dict[str, Any] = {}

    async def send(
        self, method: str, given: dict[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": given}
        if session is not None:
            message["sessionId"] = session
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await asyncio.to_thread(os.write, self._writing, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(30):
            return await reply

    async def listen(self) -> None:
        while True:
            try:
                text = await self._reader.readuntil(b"\0")
            except asyncio.IncompleteReadError:
                return
            message = json.loads(text[:-1])
            reply = self._replies.pop(message.get("id", 0), None)
            if reply is None:
                heard = self.listeners.get(message.get("sessionId", ""))
                if heard is not None:
                    heard(message["method"], message.get("params", {}))
            elif "error" in message:
                reply.set_exception(RuntimeError(message["error"]["message"]))
            else:
                reply.set_result(message["result"])


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A browser with one tab; ended with all its processes."""
    assert PROGRAM is not None
    its_in, our_out = os.pipe()
    our_in, its_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-Sc",
            WITH_PIPES,
            f"{its_in}",
            f"{its_out}",
            *words,
            pass_fds=(its_in, its_out),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(its_in)
        os.close(its_out)
        reader = asyncio.StreamReader(limit=2**26)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(our_in, "rb")
        )
        connection = Connection(reader, our_out)
        listening = asyncio.create_task(connection.listen())
        try:
            yield await _tab(connection)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            os.close(our_out)
            transport.close()
            listening.cancel()
            await asyncio.wait({listening})


async def _tab(connection: Connection) -> Page:
    made = await connection.send("Target.createTarget", {"url": "about:blank"})
    attached = await connection.send(
        "Target.attachToTarget", {"targetId": made["targetId"], "flatten": True}
    )
    page = Page(connection, attached["sessionId"])
    await page.prepare()
    return page
