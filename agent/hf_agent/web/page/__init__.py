"""The status page: three files beside this one, put together as one answer that needs nothing else.

Style and script stand in the page, and the policy that comes with it names their digests: a browser
runs these two and nothing that somebody might have smuggled in, as by the name of a stream.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

__all__ = ["SAFE_HEADERS", "Page", "load_page"]

SAFE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer."""


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and what a browser is told beside it."""

    body: bytes
    policy: str
    """Content-Security-Policy."""
    etag: str


def load_page() -> Page:
    """Put it together from the package's files."""
    folder = files(__name__)
    style = (folder / "status.css").read_text("utf-8")
    script = (folder / "status.js").read_text("utf-8")
    html = (folder / "status.html").read_text("utf-8")
    body = html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "connect-src 'self'",
            "img-src data:",  # the icon, which stands in the page as well
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # Text never becomes markup, whatever the script should do one day.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    return Page(body, policy, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
