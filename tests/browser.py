"""A real headless Chromium, driven over the WebDriver protocol by chromedriver."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Root has no sandbox, and nothing may be fetched behind our back.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars")  # fmt: skip
_STARTED = re.compile(r"started successfully on port (\d+)")


def programs() -> tuple[str, str] | None:
    """Chromium and chromedriver; None where one is missing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@dataclass(frozen=True)
class Browser:
    """One window."""

    _session: str

    def open(self, file: Path) -> None:
        """Load a file; returns when its load event has fired."""
        self._post("url", {"url": file.resolve().as_uri()})

    def ask(self, script: str) -> Any:
        """What a script returns in the page; its content policy does not bind us."""
        return self._post("execute/sync", {"script": script, "args": []})

    def viewport(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Set the size of the page in CSS pixels: windows themselves are never narrower than 500."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.devtools("Emulation.setDeviceMetricsOverride", size)

    def devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        """A command of the DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """The page as PNG, as much as the viewport shows or all of it."""
        shot = self.devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        file.write_bytes(base64.b64decode(shot["data"]))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return _call(f"{self._session}/{path}", body)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser of its own, with a profile that is thrown away."""
    found = programs()
    assert found is not None
    chromium, driver = found
    with tempfile.TemporaryDirectory(prefix="carveout-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            base = f"http://127.0.0.1:{_port(process)}/session"
            session = f"{base}/{_call(base, wanted)['sessionId']}"
            try:
                yield Browser(session)
            finally:
                _call(session, None, "DELETE")
        finally:
            process.terminate()
            process.wait()


def _port(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if match := _STARTED.search(line):
            return match[1]
    raise AssertionError("chromedriver did not start")


def _call(url: str, body: dict[str, Any] | None, method: str = "POST") -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    # Loopback: whatever proxy the environment names must not see it.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        return json.load(answer)["value"]
