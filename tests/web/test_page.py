"""The status page as it is served: one answer, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator

import pytest

from hf_agent.web.page import load_page
from hf_agent.web.server import WebServer
from support.web_stub import Agent, ask


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    server = Agent().server("127.0.0.1:0")
    await server.start()
    yield server
    await server.stop()


def directives(policy: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in policy.split(";"))


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


async def test_the_page_is_html_that_is_asked_for_again_but_not_sent_again(
    server: WebServer,
) -> None:
    status, fields, body = await ask(server.port, "/")
    assert status == 200
    assert fields["content-type"] == "text/html; charset=utf-8"
    assert fields["cache-control"] == "no-cache"
    assert body.startswith("<!doctype html>\n<html lang=")
    status, again, body = await ask(
        server.port, "/", headers=f"If-None-Match: {fields['etag']}\r\n"
    )
    assert (status, body) == (304, "")
    assert again["etag"] == fields["etag"]


async def test_the_policy_allows_this_style_and_this_script_and_nothing_else(
    server: WebServer,
) -> None:
    _, fields, body = await ask(server.port, "/")
    # `ask` lowers the case of headers, which digests do not survive.
    policy = directives(load_page().policy)
    assert fields["content-security-policy"] == load_page().policy.lower()
    (style,) = re.findall(r"<style>(.*?)</style>", body, flags=re.S)
    (script,) = re.findall(r"<script>(.*?)</script>", body, flags=re.S)
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest(style)}'",
        "script-src": f"'sha256-{digest(script)}'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_page_needs_nothing_from_anywhere_else() -> None:
    body = load_page().body.decode()
    html = re.sub(r"<(style|script)>.*?</\1>", "", body, flags=re.S)
    assert not re.search(r"<script[^>]+src|<link[^>]+stylesheet|@import|url\(", body)
    assert not re.search(r"\son[a-z]+=|\sstyle=|javascript:", html)
    for target in re.findall(r'(?:href|src)="([^"]*)"', html):
        # Relative, so that it works behind a proxy that puts a path in front.
        assert re.match(r"[a-z]+(/[a-z]+)?$|#|data:image/svg", target), target
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", body)


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/status", "/api/streams?limit=x", "/no"])
async def test_every_answer_is_taken_for_what_it_says_it_is(server: WebServer, path: str) -> None:
    _, fields, _ = await ask(server.port, path)
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["referrer-policy"] == "no-referrer"
    assert fields["cross-origin-resource-policy"] == "same-origin"


# -- colours ----------------------------------------------------------------------------------


def palettes() -> dict[str, dict[str, str]]:
    style = re.findall(r"<style>(.*?)</style>", load_page().body.decode(), flags=re.S)[0]
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.S)
    return {
        name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", text))
        for name, text in (("light", light), ("dark", dark))
    }


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4)]
    linear = [
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    ]
    return sum(
        weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "back"),
    [
        *(("text", "back"), ("text", "card"), ("dim", "back"), ("dim", "card"), ("accent", "back")),
        *(("good", "good-back"), ("warn", "warn-back"), ("bad", "bad-back"), ("bad", "back")),
        *(("text", "good-back"), ("text", "warn-back"), ("text", "bad-back"), ("card", "accent")),
    ],
)
def test_text_stands_out_enough_to_be_read(scheme: str, text: str, back: str) -> None:
    colours = palettes()[scheme]
    # What WCAG 2 asks of text of normal size.
    assert contrast(colours[text], colours[back]) >= 4.5
