"""A headless Chromium, driven through the DevTools protocol over a pair of pipes: no library."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

__all__ = ["PROGRAM", "Browser", "Page"]

Listener = Callable[[str, dict[str, Any]], None]

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

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser, self._session = browser, session
        self.errors: list[str] = []
        self.requests: list[str] = []

    def heard(self, method: str, told: dict[str, Any]) -> None:
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
        return await self._browser.send(method, given, self._session)

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


class Browser:
    """One Chromium for many tests, each with tabs in a profile of its own.

    Commands and their replies are JSON texts that end with a zero byte. A thread reads them, since
    each test has an event loop of its own: it hands over what it reads to the loop that waits.
    """

    def __init__(self) -> None:
        assert PROGRAM is not None
        its_in, self._writing = os.pipe()
        self._reading, its_out = os.pipe()
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        words = [PROGRAM, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-Sc", WITH_PIPES, f"{its_in}", f"{its_out}", *words],
            pass_fds=(its_in, its_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(its_in)
        os.close(its_out)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}
        self._listening: dict[str, tuple[asyncio.AbstractEventLoop, Listener]] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, name="chromium")
        self._thread.start()

    def close(self) -> None:
        """End it with all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._thread.join()
        os.close(self._writing)
        self._profile.cleanup()

    async def send(
        self, method: str, given: dict[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": given}
        if session is not None:
            message["sessionId"] = session
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[dict[str, Any]] = loop.create_future()
        with self._lock:
            self._waiting[number] = loop, reply
        try:
            await asyncio.to_thread(os.write, self._writing, json.dumps(message).encode() + b"\0")
            async with asyncio.timeout(60):
                return await reply
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    @contextlib.asynccontextmanager
    async def tab(self) -> AsyncIterator[Page]:
        """A tab that shares no cookies, storage or cache with another."""
        profile = await self.send("Target.createBrowserContext", {})
        made = await self.send("Target.createTarget", {"url": "about:blank", **profile})
        attached = await self.send(
            "Target.attachToTarget", {"targetId": made["targetId"], "flatten": True}
        )
        session = attached["sessionId"]
        page = Page(self, session)
        with self._lock:
            self._listening[session] = asyncio.get_running_loop(), page.heard
        try:
            await page.prepare()
            yield page
        finally:
            with self._lock:
                del self._listening[session]
            await self.send("Target.disposeBrowserContext", profile)

    def _read(self) -> None:
        with os.fdopen(self._reading, "rb", buffering=0) as pipe:
            left = b""
            while more := pipe.read(1 << 20):
                *texts, left = (left + more).split(b"\0")
                for text in texts:
                    self._hand_over(json.loads(text))

    def _hand_over(self, message: dict[str, Any]) -> None:
        with self._lock:  # who is here has not ended, so its loop still runs
            if "id" in message:
                if message["id"] in self._waiting:  # else who asked has given up
                    loop, reply = self._waiting[message["id"]]
                    loop.call_soon_threadsafe(_answer, reply, message)
            elif message.get("sessionId") in self._listening:
                loop, heard = self._listening[message["sessionId"]]
                loop.call_soon_threadsafe(heard, message["method"], message.get("params", {}))


def _answer(reply: asyncio.Future[dict[str, Any]], message: dict[str, Any]) -> None:
    if reply.done():  # its test gave up
        return
    if "error" in message:
        reply.set_exception(RuntimeError(message["error"]["message"]))
    else:
        reply.set_result(message["result"])
