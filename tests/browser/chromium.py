"""A headless Chromium driven over its DevTools protocol: what a page says, how large it is, how it looks."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp

OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
           "--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--disable-dev-shm-usage", "--remote-debugging-port=0"]  # fmt: skip
# everything drawn is there once the page has had two frames after its load
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
Answer = TypeVar("Answer")


class View(NamedTuple):
    """How a page is looked at: width and height in CSS pixels, and the colours that the system prefers."""

    width: int
    height: int = 900
    dark: bool = False


class Page(NamedTuple):
    """An opened page: what `probe` gave, and what the console said of errors and warnings, exceptions among them."""

    probed: Any
    said: list[str]


class Chromium:
    """A browser of its own, with a profile that is dropped; a context manager."""

    def __init__(self) -> None:
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

    def __enter__(self) -> Chromium:
        command = [str(shutil.which("chromium")), *OPTIONS, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"DevTools listening on ws://([^/]+)/", line):
                self.address = found[1]
                return self
        raise RuntimeError("chromium ended: " + "".join(said[-5:]))

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.profile.cleanup()

    def open(self, path: Path, view: View, probe: str, picture: Path | None = None) -> Page:
        """Open a file, evaluate `probe` (JavaScript; a promise is awaited) once it is drawn, and keep a picture of the
        whole page if asked."""
        return asyncio.run(self._open(path, view, probe, picture))

    async def _open(self, path: Path, view: View, probe: str, picture: Path | None) -> Page:
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://{self.address}/json/new?about:blank") as made:
                target = await made.json(content_type=None)
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = _Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await tab.ask(f"{domain}.enable")
                size = {"width": view.width, "height": view.height, "deviceScaleFactor": 1}
                await tab.ask("Emulation.setDeviceMetricsOverride", **size, mobile=False)
                scheme = {"name": "prefers-color-scheme", "value": "dark" if view.dark else "light"}
                await tab.ask("Emulation.setEmulatedMedia", features=[scheme])
                await tab.ask("Page.navigate", url=path.resolve().as_uri())
                await tab.until("Page.loadEventFired")
                await tab.value(DRAWN)
                probed = await tab.value(probe)
                if picture is not None:
                    shot = await tab.ask("Page.captureScreenshot", captureBeyondViewport=True)
                    picture.write_bytes(base64.b64decode(shot["data"]))
            async with session.get(f"http://{self.address}/json/close/{target['id']}"):
                pass
        return Page(probed, tab.said)


class _Tab:
    """One page's side of the protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.numbers = socket, itertools.count(1)
        self.seen: set[str] = set()
        self.said: list[str] = []

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and wait for its answer."""
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while (message := await self._next()).get("id") != number:
            pass
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        answer: dict[str, Any] = message["result"]
        return answer

    async def until(self, event: str) -> None:
        """Wait until an event has been seen."""
        while event not in self.seen:
            await self._next()

    async def value(self, expression: str) -> Any:
        """What an expression comes to, its promise awaited."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = await self.ask("Runtime.evaluate", **asked)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._limited(self.socket.receive_json())
        what = message.get("params", {})
        self.seen.add(message.get("method", ""))
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.said.append(str(what["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if what["type"] in ("error", "warning", "assert"):
                self.said.append(f"{what['type']}: {[each.get('value', each) for each in what['args']]}")
            case "Log.entryAdded" if what["entry"]["level"] in ("error", "warning"):
                self.said.append(what["entry"]["text"])
        return message

    @staticmethod
    async def _limited(waiting: Coroutine[Any, Any, Answer]) -> Answer:
        return await asyncio.wait_for(waiting, timeout=60)
