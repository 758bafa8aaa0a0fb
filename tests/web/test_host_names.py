"""By which names the server may be asked: a page of somebody else cannot read it in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_agent.web.host_names import HostNames
from support.web_stub import Agent, ask

GUARDED = ("/", "/api/status", "/api/overview", "/api/streams")

KNOWN = (
    *("127.0.0.1", "127.0.0.1:9477", "10.1.2.3:80", "[::1]", "[::1]:9477", "[fe80::1]:9477"),
    *("localhost", "localhost:9477", "LocalHost.", "app.localhost:9477"),
    *("node-7", "node-7:9477", "NODE-7", "agent.example.com", "agent.example.com.:443"),
)
UNKNOWN = (
    *("evil.example", "evil.example:9477", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("notlocalhost", "node-7.evil.example", "evil.agent.example.com", "agent.example"),
    *("", ":9477", "[::1", "::1", "[evil]", "a b", "127.0.0.1:x", "user@127.0.0.1", "2130706433"),
)


@pytest.fixture
def agent() -> Agent:
    agent = Agent()
    agent.reasons = ["flush of 'secret/stream' refused"]
    return agent


@pytest.mark.parametrize("host", KNOWN)
def test_addresses_localhost_and_own_names_are_known(host: str) -> None:
    assert HostNames(["node-7", "Agent.Example.com"]).know([host])


@pytest.mark.parametrize("host", UNKNOWN)
def test_any_other_name_is_not(host: str) -> None:
    names = HostNames(["node-7", "Agent.Example.com"])
    assert not names.know([host])
    assert not names.know(["127.0.0.1", host])  # one too many is none


async def test_page_and_api_answer_by_the_servers_own_names_only(agent: Agent) -> None:
    server = agent.server("127.0.0.1:0", host_names=["node-7"])
    await server.start()
    try:
        for path in GUARDED:
            assert (await ask(server.port, path, host="node-7"))[0] == 200, path
            status, fields, body = await ask(server.port, path, host="evil.example")
            assert status == 403, path
            assert "secret" not in body
            assert "access-control-allow-origin" not in fields
    finally:
        await server.stop()


async def test_a_refusal_names_the_name_and_the_key_that_allows_it(agent: Agent) -> None:
    server = agent.server("127.0.0.1:0")
    await server.start()
    try:
        status, fields, body = await ask(server.port, "/api/status", host="logs.example:9477")
    finally:
        await server.stop()
    assert (status, fields["content-type"]) == (403, "text/plain; charset=utf-8")
    assert body == (
        "this agent is not known by that name: ask by an address, or add the name to "
        "http.allowed_hosts host=logs.example:9477\n"
    )


async def test_scrapes_and_probes_answer_by_any_name_but_give_no_reasons(agent: Agent) -> None:
    server = agent.server("127.0.0.1:0")
    await server.start()
    try:
        status, _, body = await ask(server.port, "/metrics", host="hf-agent.logging.svc:9477")
        assert status == 200
        assert "hf_agent_ready" in body
        assert (await ask(server.port, "/healthz", host="evil.example"))[::2] == (200, "healthy\n")
        assert (await ask(server.port, "/readyz", host="evil.example"))[::2] == (503, "not ready\n")
        answer = await ask(
            server.port, "/readyz", host="evil.example", headers="Accept: application/json\r\n"
        )
        assert (answer[0], json.loads(answer[2])) == (503, {"ready": False, "reasons": []})
        assert agent.reasons[0] in (await ask(server.port, "/readyz"))[2]
    finally:
        await server.stop()


def test_a_client_that_names_no_host_is_no_browser() -> None:
    assert HostNames([]).know([])  # HTTP/1.0, as simple health checks speak it


async def test_every_name_is_known_where_the_operator_says_so(agent: Agent) -> None:
    server = agent.server("127.0.0.1:0", host_names=["*"])
    await server.start()
    try:
        for host in ("evil.example", ""):
            assert (await ask(server.port, "/api/status", host=host))[0] == 200
    finally:
        await server.stop()


async def test_over_a_unix_socket_the_name_says_nothing(agent: Agent, tmp_path: Path) -> None:
    path = str(tmp_path / "http.sock")
    server = agent.server(path)
    await server.start()
    try:
        assert (await ask(path, "/api/status", host="whatever"))[0] == 200
        assert agent.reasons[0] in (await ask(path, "/readyz", host="whatever"))[2]
    finally:
        await server.stop()


async def test_the_name_in_the_address_itself_is_known(agent: Agent) -> None:
    server = agent.server("localhost:0", host_names=[])
    await server.start()
    try:
        assert (await ask(server.port, "/", host="localhost"))[0] == 200
    finally:
        await server.stop()
