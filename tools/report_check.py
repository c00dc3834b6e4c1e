"""Look at a report in a real browser: errors, width on a telephone, accessibility, pictures.

    python tools/report_check.py RUN/report.html [-o FOLDER] [--axe axe.min.js]

Drives Chromium through a pipe, by the DevTools protocol; nothing but Chromium is needed. ``--axe``
is the script of the npm package axe-core. Exits with 1 if anything is found.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
WIDE = """[...document.querySelectorAll('body *')].filter(e =>
  !e.parentElement.closest('.scroll, pre, svg')
  && e.getBoundingClientRect().right > innerWidth + 0.5
).map(e => e.tagName + '.' + e.className).slice(0, 5)"""


def chromium() -> str | None:
    """The browser, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


class Browser:
    """A headless Chromium and one page of it; ``with`` closes both.

    Attributes:
        errors: what the console said, and requests that left the machine or failed.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self.patience, self.number, self.errors = patience, 0, list[str]()
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        hear, self.to = os.pipe()
        self.back, say = os.pipe()
        # above the two that Chromium listens on and answers by
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (hear, say)]
        words = [str(chromium()), *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(
            words,
            close_fds=False,
            preexec_fn=lambda: [os.dup2(end, place) for place, end in enumerate(ends, 3)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (hear, say, *ends):
            os.close(end)
        self.left = b""
        self.session: str | None = None
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        asked = self.ask("Target.attachToTarget", targetId=page, flatten=True)
        self.session = asked["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.to)
        os.close(self.back)
        self.profile.cleanup()

    def ask(self, method: str, **params: Any) -> Any:
        """A command's result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        return self.until(lambda told: told.get("id") == self.number)["result"]

    def until(self, wanted: Any) -> Any:
        """The first message that is wanted; events on the way are noted."""
        end = time.monotonic() + self.patience
        while True:
            while b"\0" not in self.left:
                if not select.select([self.back], [], [], max(0, end - time.monotonic()))[0]:
                    raise TimeoutError("Chromium is silent")
                part = os.read(self.back, 2**20)
                if not part:
                    raise EOFError("Chromium has gone")
                self.left += part
            line, _, self.left = self.left.partition(b"\0")
            told = json.loads(line)
            self.note(told)
            if wanted(told):
                if "error" in told:
                    raise RuntimeError(told["error"])
                return told

    def note(self, told: dict[str, Any]) -> None:
        """Keep what a page should not do."""
        kind, params = told.get("method"), told.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["text"])
        elif kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(" ".join(str(arg.get("value")) for arg in params["args"]))
        elif kind == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif kind == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                self.errors.append(f"asks the network for {url[:80]}")

    def run(self, script: str) -> Any:
        """A script's value; promises are waited for."""
        told = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in told:
            raise RuntimeError(told["exceptionDetails"])
        return told["result"].get("value")

    def open(self, path: Path, size: tuple[int, int], scheme: str) -> None:
        """Load a file on a screen of this size, light or dark."""
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **screen)
        wish = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", features=[wish])
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self.until(lambda told: told.get("method") == "Page.loadEventFired")

    def overflow(self) -> tuple[int, list[str]]:
        """Pixels that the page is wider than the screen, and the elements that are."""
        wider = self.run("document.documentElement.scrollWidth - innerWidth")
        return wider, self.run(WIDE)

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        told = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def axe(self, script: str) -> list[dict[str, Any]]:
        """What axe-core finds, all details opened."""
        self.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        self.run(script + "; 0")
        return json.loads(self.run("axe.run().then(r => JSON.stringify(r.violations))"))


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("page", type=Path)
    words.add_argument("-o", "--output", type=Path, help="folder for the four pictures")
    words.add_argument("--axe", type=Path, help="axe.min.js of the npm package axe-core")
    args = words.parse_args()
    found = 0
    if not chromium():
        sys.exit("no chromium here")
    with Browser() as browser:
        for name, size in SIZES.items():
            for scheme in SCHEMES:
                browser.open(args.page, size, scheme)
                wider, elements = browser.overflow()
                print(f"{name}, {scheme}: {wider} px too wide {elements}")
                found += bool(wider > 0 or elements)
                if args.output:
                    args.output.mkdir(parents=True, exist_ok=True)
                    browser.picture(args.output / f"{name}-{scheme}.png")
                for violation in browser.axe(args.axe.read_text()) if args.axe else ():
                    found += 1
                    print(f"  axe: {violation['id']} ({violation['impact']}), {violation['help']}")
                    for node in violation["nodes"][:3]:
                        print(f"    {' '.join(node['target'])}: {node['html'][:100]}")
        print(f"console and network: {browser.errors or 'nothing'}")
        found += len(browser.errors)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
