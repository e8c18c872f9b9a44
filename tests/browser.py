"""A page looked at in a real browser, headless: how wide it is, what it says on the console, and a picture of it."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Asks the page itself, once everything in it is laid out.
_PROBE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest(".wide, svg")
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80));
  document.title = "probe" + JSON.stringify({inner: innerWidth, scroll: document.documentElement.scrollWidth, wide});
});</script>"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What the browser found.

    Attributes:
        inner: the window's width, pixels.
        scroll: the page's width, pixels.
        wide: beginnings of the elements, outside what scrolls by itself, that reach over the window's right edge.
        console: what was written to the console.
    """

    inner: int
    scroll: int
    wide: list[str]
    console: list[str]


def browser() -> str:
    """The browser's command; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is installed (Debian: apt-get install chromium)")
    return found


def look(page: Path, *, width: int, screenshot: Path) -> Look:
    """Open the page in a window so wide."""
    probed = screenshot.with_suffix(".html")
    probed.write_text(page.read_text() + _PROBE)
    dom = _run("--dump-dom", probed, width)
    _run(f"--screenshot={screenshot}", page, width)
    title = re.search(r"<title>probe(\{.*?\})</title>", dom.stdout)
    assert title, f"the page never finished loading: {dom.stderr[-1000:]}"
    found = json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return Look(**found, console=[line for line in dom.stderr.splitlines() if "CONSOLE" in line])


def _run(option: str, page: Path, width: int) -> subprocess.CompletedProcess[str]:
    settings = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
    command = [browser(), *settings, f"--user-data-dir={page.parent / 'browser'}", f"--window-size={width},2400"]
    return subprocess.run(
        [*command, option, page.resolve().as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
