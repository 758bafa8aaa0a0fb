"""Takes the pictures of the status page that stand in docs/images: run me from the repository.

A real agent on moto, under a made-up load, with its sockets in /run/hf-agent, as an installed one
has them; so it wants the right to write there. Takes two minutes.
"""

from __future__ import annotations

import math
import random
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from hf_agent.client import Client, fresh_producer  # noqa: E402
from support.agent_process import AgentProcess  # noqa: E402
from support.browser import Watched, chromium, open_page  # noqa: E402
from support.moto_s3 import running_moto  # noqa: E402

SECONDS = 100
NAMES = [
    f"{service}/{kind}"
    for service in ("web", "api", "billing", "search", "auth", "queue", "mail")
    for kind in ("access", "error", "audit")
]


def send(agent: AgentProcess, stop: threading.Event, seed: int) -> None:
    rng = random.Random(seed)
    with Client(agent.append_socket, producer=fresh_producer()) as client:
        while not stop.wait(0.03 * (1.3 + math.sin(time.monotonic() / 9) + rng.random())):
            # Some streams have much more than others.
            name = NAMES[min(rng.randrange(len(NAMES)), rng.randrange(len(NAMES)))]
            client.append(name, b"x" * rng.randrange(200, 8000))


def main() -> None:
    run = Path("/run/hf-agent")
    run.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_moto() as moto, chromium() as browser:
        agent = AgentProcess(
            Path(folder) / "agent",
            store_url=f"s3://{moto.make_bucket('example-logs')}/agents",
            s3={"endpoint_url": moto.endpoint_url, "addressing": "path"},
            env=moto.env,
            wal='max_bytes = "1GiB"',
            flush='interval = "3s"',
        )
        text = agent.config.read_text().replace(str(agent.http_socket), "127.0.0.1:0")
        for name in ("append", "lines", "forward"):
            text = text.replace(f"{agent.folder}/{name}.sock", f"{run}/{name}.sock")
        agent.config.write_text(text)
        agent.append_socket = run / "append.sock"
        agent.start()
        stop = threading.Event()
        senders = [threading.Thread(target=send, args=(agent, stop, seed)) for seed in range(3)]
        for sender in senders:
            sender.start()
        time.sleep(SECONDS)
        port = re.search(r'"port": (\d+)', agent.log_text())
        assert port is not None
        for scheme in ("light", "dark"):
            watched = Watched(browser, color_scheme=scheme)
            page = open_page(watched, f"http://127.0.0.1:{port[1]}/")
            page.wait_for_timeout(5_000)
            page.screenshot(path=str(ROOT / "docs" / "images" / f"status-{scheme}.png"))
            watched.close()
        stop.set()
        for sender in senders:
            sender.join()
        agent.stop()


if __name__ == "__main__":
    main()
