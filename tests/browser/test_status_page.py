"""The status page in a real browser: what it shows, how it is used, and what it never does."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hf_agent.metrics import Metrics
from hf_agent.recent import RecentEvents
from hf_agent.service.history import POINTS, STEP
from hf_agent.service.overview import Overview
from hf_agent.streams.listing import list_streams
from hf_agent.streams.state import StreamState
from hf_agent.web.queries import StreamQuery
from support.browser import Watched, chromium, eventually, open_page, until
from support.manual_clock import ManualClock
from support.web_stub import Agent, serving

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</td><script>alert(2)</script>",
    '"><svg/onload=alert(3)>',
    "javascript:alert(4)",
    "{{7*7}}${7*7}<b>bold</b>&amp;\u202e",
]


class Fleet(Agent):
    """An agent with as many streams as a test wants, and a healthy overview."""

    def __init__(self, streams: int = 3) -> None:
        super().__init__()
        now = time.time()
        self.states = [
            StreamState(f"team-{i % 7}/app-{i:05}", 1000 + i, i, since=now - i, flushes=i % 11)
            for i in range(streams)
        ]
        self.overview = made_overview(now)
        self.overview["status"] |= {"streams": streams, "unflushed_streams": streams}

    def was_looked_at_since(self, before: int) -> bool:
        return self.looks > before

    def streams(self, query: StreamQuery) -> tuple[list[dict[str, Any]], int]:
        self.query = query
        found = list_streams(self.states, **query._asdict())
        return [state.describe() for state in found.streams], found.matched


def made_overview(now: float) -> dict[str, Any]:
    clock = ManualClock()
    clock.now = now
    status = {
        "version": "1.2.3",
        "node": "node-7",
        "phase": "running",
        "started_timestamp": now - 7200,
        "ready": True,
        "reasons": [],
        "wal": {"state": "ok", "size_bytes": 3 << 30, "max_bytes": 8 << 30},
        "store": {"url": "s3://bucket/logs", "away": False, "preflight": "passed", "reason": ""},
        "diverted_streams": 0,
        "unflushed_bytes": 5 << 20,
        "oldest_unflushed_timestamp": now - 12,
    }
    overview = Overview(
        clock=clock, metrics=Metrics(), events=RecentEvents(clock.time), status=lambda: status
    ).describe()
    rates = [float(index % 50) for index in range(POINTS)]
    overview["history"] = {
        "step_seconds": STEP,
        "points": POINTS,
        "received_records": rates,
        "received_bytes": [1024 * rate for rate in rates],
        "flushed_bytes": [1000 * rate for rate in rates],
        "wal_bytes": [3 << 30] * POINTS,
        "latency_p50": [None, *[0.001] * (POINTS - 1)],
        "latency_p99": [None, *[0.0042] * (POINTS - 1)],
    }
    return overview


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    watched = Watched(browser)
    yield watched
    watched.close()


def names(page: Any) -> list[str]:
    return [cell.text_content() for cell in page.locator("#stream-rows th").all()]


# -- what it shows ----------------------------------------------------------------------------


def test_it_shows_what_the_agent_says_and_asks_nobody_else(watched: Watched) -> None:
    agent = Fleet()
    with serving(agent) as url:
        page = open_page(watched, url)
        assert page.title() == "node-7 · hf-agent"
        assert "1.2.3 · running · up 2 h · s3://bucket/logs" in page.inner_text("#facts")
        assert page.inner_text("#health-word").startswith("Healthy")
        tiles = page.inner_text("#tiles")
        for text in (
            "48/s",
            "48 KiB/s",
            "4.2 ms",
            "3 GiB",
            "37.5 % of 8 GiB",
            "12 s",
            "5 MiB in 3",
        ):
            assert text in tiles
        # One line for each run of points: a moment without appends is a gap.
        assert page.locator("#tiles svg .line[d^=M]").count() == 5
        assert names(page) == ["team-2/app-00002", "team-1/app-00001", "team-0/app-00000"]
        assert {request.rsplit("/", 1)[0] + "/" for request in watched.requests} <= {
            url,
            f"{url}api/",
        }
    assert (watched.errors, watched.breaches()) == ([], [])


def test_health_tells_every_reason_and_the_page_what_is_the_matter(watched: Watched) -> None:
    agent = Fleet()
    agent.overview["status"] |= {"ready": False, "reasons": ["WAL full: limit reached"]}
    agent.overview["status"]["store"] |= {"away": True}
    agent.overview["causes"] = [
        {"result": "retry", "code": "SlowDown", "stream": "", "streams": 1200}
    ]
    with serving(agent) as url:
        page = open_page(watched, url)
        assert page.get_attribute("#health", "class") == "banner bad"
        assert page.locator("#reasons li").all_text_contents() == [
            "WAL full: limit reached",
            "The store does not answer. Appends go on into the WAL; flushes are tried again.",
            "flushes of 1,200 streams (retry): SlowDown",
        ]
        assert page.title().startswith("✗ ")


def test_an_agent_that_recovers_has_a_page_already(watched: Watched) -> None:
    agent = Fleet(0)
    status = agent.overview["status"]
    for key in ("wal", "store"):
        del status[key]
    status |= {"phase": "starting", "ready": False, "reasons": ["recovering the WAL"]}
    agent.overview["history"] = {
        key: [] if isinstance(value, list) else value
        for key, value in agent.overview["history"].items()
    }
    with serving(agent) as url:
        page = open_page(watched, url)
        assert page.inner_text("#health-word") == "Starting"
        assert "no streams yet" in page.inner_text("#stream-rows")
    assert watched.errors == []


def test_it_says_so_when_the_agent_stops_answering_and_goes_on_when_it_is_back(
    watched: Watched,
) -> None:
    agent = Fleet()
    with serving(agent) as url:
        page = open_page(watched, url)
    until(page, "document.getElementById('connection').className === 'bad'")
    assert "does not answer since" in page.inner_text("#connection")
    assert names(page)  # what was known is still there
    with serving(agent, port=int(url.rstrip("/").rsplit(":", 1)[1])):
        until(page, "document.getElementById('connection').textContent === 'Live'")
    # The browser itself tells of connections that were refused, and of nothing else.
    assert all("ERR_" in error for error in watched.errors)


# -- what it never does -----------------------------------------------------------------------


def test_names_and_texts_of_strangers_are_text(watched: Watched) -> None:
    agent = Fleet(0)
    agent.states = [StreamState(name, 10, 0, error=name, key=name) for name in HOSTILE]
    now = agent.overview["timestamp"]
    agent.overview["status"] |= {"node": HOSTILE[0], "ready": False, "reasons": list(HOSTILE)}
    agent.overview["status"]["store"]["url"] = HOSTILE[1]
    agent.overview["flushes"] = {
        "running": 0,
        "concurrency": 4,
        "results": {"ok": 1},
        "last": [
            {
                "timestamp": now,
                "stream": name,
                "bytes": 1,
                "seconds": 0.1,
                "container": name,
                "checkpoint": 1,
            }
            for name in HOSTILE
        ],
    }
    agent.overview["events"] = [
        {"timestamp": now, "level": "error", "message": name, "fields": {"reason": name}}
        for name in HOSTILE
    ]
    agent.overview["causes"] = [
        {"result": "retry", "code": name, "stream": name, "streams": 1} for name in HOSTILE
    ]
    agent.overview["peers"]["rows"] = [
        {"command": name, "pid": 1, "uid": 0, "socket": name, "protocol": name, "connections": 1}
        for name in HOSTILE
    ]
    with serving(agent) as url:
        page = open_page(watched, url)
        assert sorted(names(page)) == sorted(HOSTILE)
        assert page.inner_text("#node") == HOSTILE[0]
        for table in ("flushes", "events", "peers"):
            assert page.locator(f"#{table} tr").count() == len(HOSTILE)
        assert page.locator("main img, main script, main b, td svg, th svg").count() == 0
        page.fill("#search", HOSTILE[0])
        until(page, "document.querySelectorAll('#stream-rows th').length === 1")
    assert (watched.dialogs, watched.errors, watched.breaches()) == ([], [], [])


def test_what_is_smuggled_into_the_page_all_the_same_is_not_run(watched: Watched) -> None:
    """The policy, not only the care of the script."""
    with serving(Fleet()) as url:
        page = open_page(watched, url)
        refused = page.evaluate(
            """() => {
              const tries = [
                () => { document.body.innerHTML = '<img src=x onerror="alert(1)">'; },
                () => { const s = document.createElement('script'); s.textContent = 'alert(2)';
                        document.body.append(s); },
                () => { setTimeout('alert(3)', 0); },
              ];
              return tries.map((attempt) => { try { attempt(); return ''; }
                                              catch (error) { return error.name; } });
            }"""
        )
        assert refused == ["TypeError", "TypeError", "TypeError"]
        until(page, "window.breaches.length >= 3")
    assert watched.dialogs == []


# -- how it is used ---------------------------------------------------------------------------


def test_ten_thousand_streams_are_a_page_of_fifty_that_can_be_searched(watched: Watched) -> None:
    agent = Fleet(10_000)
    with serving(agent) as url:
        page = open_page(watched, url)
        assert len(names(page)) == 50
        assert page.inner_text("#found") == "10,000 streams"
        assert page.inner_text("#page") == "1–50"
        page.click("#next")
        until(page, "document.getElementById('page').textContent === '51–100'")
        # In order of all names, not of those on this page.
        for name in ("team-0/app-00000", "team-6/app-09995"):
            page.locator("#stream-heads button", has_text="Stream").first.click()
            until(page, f"document.querySelector('#stream-rows th').textContent === {name!r}")
        page.fill("#search", "APP-0012")
        until(page, "document.getElementById('found').textContent === '10 streams'")
        assert sorted(name[-5:] for name in names(page)) == [f"{i:05}" for i in range(120, 130)]
        assert page.is_disabled("#next") and page.is_disabled("#previous")
        page.fill("#search", "nothing")
        until(page, "document.getElementById('found').textContent === '0 streams'")
        assert "no stream has this in its name" in page.inner_text("#stream-rows")
    assert watched.errors == []


def test_the_keyboard_reaches_search_order_and_pages(watched: Watched) -> None:
    agent = Fleet(200)
    with serving(agent) as url:
        page = open_page(watched, url)
        keyboard = page.keyboard
        keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to streams"
        keyboard.press("Enter")
        until(page, "document.activeElement.id === 'streams'")
        keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "search"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        keyboard.type("team-3")
        until(page, "document.getElementById('found').textContent === '29 streams'")
        keyboard.press("Tab")  # the pages' buttons are off: the table's region is next
        assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
        keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Stream"
        keyboard.press("Enter")
        until(page, "document.querySelector('#stream-rows th').textContent.endsWith('00003')")
        heads = page.locator("#stream-heads th")
        assert heads.nth(0).get_attribute("aria-sort") == "ascending"
        assert heads.nth(2).get_attribute("aria-sort") == "none"
        keyboard.press("Space")
        until(page, "document.querySelector('#stream-rows th').textContent.endsWith('00199')")
        assert heads.nth(0).get_attribute("aria-sort") == "descending"
        # What has the focus keeps it while rows change.
        assert page.evaluate("document.activeElement.textContent") == "Stream"
    assert watched.errors == []


def test_a_reader_of_the_screen_finds_landmarks_names_and_news(watched: Watched) -> None:
    with serving(Fleet()) as url:
        page = open_page(watched, url)
        for role in ("banner", "main", "contentinfo", "navigation"):
            assert page.get_by_role(role).count() == 1
        for title in ("Protocols", "Streams", "Last flushes", "Connections by peer"):
            assert page.get_by_role("region", name=title, exact=True).count() >= 1
        assert page.get_by_role("searchbox", name="Search").count() == 1
        assert page.get_by_role("rowheader", name="team-0/app-00000").count() == 1
        assert page.get_by_role("columnheader").count() > 20
        assert page.get_by_role("img", name="of history, at most").count() == 5
        assert page.get_by_role("meter", name="WAL in use").count() == 1
        for news in ("health", "connection", "found"):
            assert page.get_attribute(f"#{news}", "aria-live") == "polite"
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, a')]"
            ".filter((each) => !each.textContent && !each.labels?.length).length"
        )
        assert unnamed == 0


def test_it_asks_every_other_second_and_not_while_it_is_paused(watched: Watched) -> None:
    agent = Fleet()
    watched.page.clock.install()
    with serving(agent) as url:
        page = open_page(watched, url)
        for _ in range(3):
            before = agent.looks
            page.clock.run_for(2_000)
            eventually(page, functools.partial(agent.was_looked_at_since, before))
        page.get_by_role("button", name="Pause").click()
        assert page.get_attribute("#pause", "aria-pressed") == "true"
        assert page.inner_text("#connection") == "Paused"
        let_pass(page)
        before = agent.looks
        for _ in range(3):
            page.clock.run_for(20_000)
            let_pass(page)
        assert agent.looks == before
        page.get_by_role("button", name="Pause").click()
        until(page, "document.getElementById('connection').textContent === 'Live'")
        eventually(page, functools.partial(agent.was_looked_at_since, before))


def let_pass(page: Any) -> None:
    """Return when what the page has asked for has been answered: later questions of ours were."""
    for _ in range(5):
        page.evaluate("fetch('api/status').then((answer) => answer.text())")


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_it_fits_the_screen(watched: Watched, width: int) -> None:
    with serving(Fleet(60)) as url:
        watched.page.set_viewport_size({"width": width, "height": 800})
        page = open_page(watched, url)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_dark_where_the_reader_likes_it_dark(browser: Any) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        watched = Watched(browser, color_scheme=scheme)
        with serving(Fleet()) as url:
            page = open_page(watched, url)
            colours = page.evaluate(
                "(({backgroundColor, color}) => [backgroundColor, color])"
                "(getComputedStyle(document.body))"
            )
        watched.close()
        shades[scheme] = [sum(int(part) for part in colour[4:-1].split(",")) for colour in colours]
    back, text = shades["light"]
    assert back > 600 > text
    back, text = shades["dark"]
    assert back < 150 < text
