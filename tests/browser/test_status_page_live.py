"""The status page of a real agent under load, while its store goes away and comes back."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_agent.client import Client, fresh_producer
from support.agent_process import AgentProcess
from support.browser import Watched, chromium, open_page, until
from support.moto_s3 import MotoS3, moto_s3
from support.relay import Relay

__all__ = ["moto_s3"]


@contextmanager
def load(agent: AgentProcess) -> Iterator[None]:
    stop = threading.Event()

    def send() -> None:
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            while not stop.wait(0.02):
                client.append("app/web", b"x" * 1000)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join(120)


def test_it_follows_an_agent_under_load_whose_store_goes_away_and_comes_back(
    tmp_path: Path, moto_s3: MotoS3
) -> None:
    with chromium() as browser:
        relay = Relay(moto_s3.endpoint_url)
        agent = AgentProcess(
            tmp_path / "agent",
            store_url=f"s3://{moto_s3.make_bucket()}/logs",
            s3={"endpoint_url": relay.url, "addressing": "path"},
            env=moto_s3.env,
            flush='interval = "200ms"\nretry_min = "50ms"\nretry_max = "500ms"',
        )
        agent.config.write_text(
            agent.config.read_text().replace(str(agent.http_socket), "127.0.0.1:0")
        )
        agent.start()
        watched = Watched(browser)
        try:
            found = re.search(r'"port": (\d+)', agent.log_text())
            assert found is not None
            page = open_page(watched, f"http://127.0.0.1:{found[1]}/")
            word = "document.getElementById('health-word').textContent"
            until(page, f"{word}.startsWith('Healthy')")
            with load(agent):
                until(page, "document.querySelector('#stream-rows th')?.textContent === 'app/web'")
                until(page, "/^[1-9]/.test(document.querySelector('#tiles .value').textContent)")
                until(page, "document.querySelectorAll('#flushes tr').length > 2")
                assert page.locator("#peers td", has_text="append.sock").count() == 1
                received = "document.querySelector('#protocols tr').cells[3].textContent"
                before = page.evaluate(received)
                until(page, f"{received} !== {before!r}")

                relay.set("away")
                until(page, f"{word} === 'Taking appends; the store is away'")
                until(page, "document.querySelector('#events .bad, #events .warn') !== null")
                until(page, "document.querySelector('#stream-rows .bad') !== null")
                assert page.get_attribute("#health", "class") == "banner warn"

                relay.set("pass")
                until(page, f"{word}.startsWith('Healthy')")
                until(page, "document.querySelector('#stream-rows .bad') === null")
                assert page.get_attribute("#health", "class") == "banner good"
            assert (watched.errors, watched.breaches()) == ([], [])
        finally:
            watched.close()
            relay.set("pass")
            agent.close()
            relay.close()
