"""Chromium without a window, driven over a pipe (DevTools protocol): what a page asks for and complains of."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1000",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip


@dataclass
class Seen:
    """What a page did.

    Attributes:
        asked: URLs that it asked for.
        complaints: errors and warnings of its console, its scripts and its policy.
        title: of the document.
    """

    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    title: str = ""


class Browser:
    """A Chromium of its own; `open` looks at one page."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        to_browser, ours = os.pipe()
        theirs, from_browser = os.pipe()
        self._write, self._read = ours, theirs

        def give() -> None:  # the protocol is spoken on handles 3 and 4
            high = [fcntl.fcntl(handle, fcntl.F_DUPFD, 10) for handle in (to_browser, from_browser)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=give,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._rest = 0, b""
        self._events: list[dict[str, Any]] = []

    def open(self, url: str, *, settle_s: float = 1.0) -> Seen:
        """Load a page in a tab of its own, wait until it is quiet, and tell what it did."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Network", "Page", "Runtime", "Log"):
            self._ask(f"{part}.enable", session=session)
        self._events.clear()
        self._ask("Page.navigate", session=session, url=url)
        self._wait(lambda event: event["method"] == "Page.loadEventFired", 60)
        self._listen(settle_s)
        seen = Seen()
        for event in self._events:
            told = event["params"]
            if event["method"] == "Network.requestWillBeSent":
                seen.asked.append(told["request"]["url"])
            elif event["method"] == "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                seen.complaints.append(details.get("exception", {}).get("description") or details["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
                seen.complaints.append(f"console.{told['type']}: {json.dumps(told['args'])[:500]}")
            elif event["method"] == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
                seen.complaints.append(f"{told['entry']['source']}: {told['entry']['text']}")
        answer = self._ask("Runtime.evaluate", session=session, expression="document.title")
        seen.title = answer["result"]["value"]
        self._ask("Target.closeTarget", targetId=target)
        return seen

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        self._process.wait(30)

    def _ask(self, method: str, *, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        asked = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(asked).encode() + b"\0")
        end = time.monotonic() + 60
        while True:
            came = self._messages(end)
            self._events += [message for message in came if "method" in message]
            for message in came:
                if message.get("id") == number:
                    assert "error" not in message, message
                    return message["result"]

    def _wait(self, wanted: Any, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not any(wanted(event) for event in self._events):
            self._events += self._messages(end)

    def _listen(self, seconds: float) -> None:
        """Take events until there was none for so long."""
        while select.select([self._read], [], [], seconds)[0]:
            self._events += self._messages(time.monotonic() + seconds)

    def _messages(self, end: float) -> list[dict[str, Any]]:
        left = end - time.monotonic()
        assert left > 0, "the browser is silent"
        assert select.select([self._read], [], [], left)[0], "the browser is silent"
        more = os.read(self._read, 1 << 20)
        assert more, "the browser has gone"
        *whole, self._rest = (self._rest + more).split(b"\0")
        return [json.loads(one) for one in whole]
