"""The HTTP server, asked over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hf_agent.web.limits import Limits
from hf_agent.web.queries import StreamQuery
from hf_agent.web.server import WebServer, WebServerError
from support.web_stub import Agent, ask


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
async def server(agent: Agent) -> AsyncIterator[WebServer]:
    server = agent.server("127.0.0.1:0")
    await server.start()
    yield server
    await server.stop()


async def test_metrics_are_prometheus_text_with_gauges_of_this_moment(
    agent: Agent, server: WebServer
) -> None:
    status, fields, body = await ask(server.port, "/metrics")
    assert status == 200
    assert fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "\nhf_agent_wal_size_bytes 1.0\n" in body
    assert '\nhf_agent_received_bytes_total{protocol="append"} 0.0\n' in body
    assert not body.endswith("# EOF\n")


async def test_metrics_are_openmetrics_where_the_client_asks_for_it(server: WebServer) -> None:
    status, fields, body = await ask(
        server.port, "/metrics", headers="Accept: application/openmetrics-text; version=1.0.0\r\n"
    )
    assert status == 200
    assert fields["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith("# EOF\n")


async def test_health_and_readiness_give_their_reasons(agent: Agent, server: WebServer) -> None:
    assert (await ask(server.port, "/healthz"))[::2] == (200, "healthy\n")
    assert (await ask(server.port, "/readyz"))[::2] == (200, "ready\n")
    agent.reasons = ["recovering the WAL", "WAL full"]
    assert (await ask(server.port, "/readyz"))[::2] == (503, "recovering the WAL\nWAL full\n")
    assert (await ask(server.port, "/healthz"))[0] == 200
    agent.faults = ["failed"]
    assert (await ask(server.port, "/healthz"))[::2] == (503, "failed\n")


async def test_readiness_is_json_where_the_client_asks_for_it(
    agent: Agent, server: WebServer
) -> None:
    agent.reasons = ["WAL full"]
    status, fields, body = await ask(server.port, "/readyz", headers="Accept: application/json\r\n")
    assert status == 503
    assert fields["content-type"] == "application/json; charset=utf-8"
    assert json.loads(body) == {"ready": False, "reasons": ["WAL full"]}


async def test_status_is_json(server: WebServer) -> None:
    status, fields, body = await ask(server.port, "/api/status")
    assert (status, json.loads(body)) == (200, {"phase": "running"})
    assert fields["cache-control"] == "no-store"


async def test_streams_are_a_bounded_list_by_prefix(agent: Agent, server: WebServer) -> None:
    agent.rows = [{"stream": f"{kind}/{i}", "position": i} for kind in "ab" for i in range(600)]
    everything = json.loads((await ask(server.port, "/api/streams"))[2])
    assert len(everything["streams"]) == 1000
    assert everything["truncated"] is True
    some = json.loads((await ask(server.port, "/api/streams?prefix=b/&limit=600"))[2])
    assert [row["position"] for row in some["streams"]] == list(range(600))
    assert some["truncated"] is False
    none = json.loads((await ask(server.port, "/api/streams?prefix=c"))[2])
    assert none == {"streams": [], "matched": 0, "truncated": False}


async def test_pages_of_streams_follow_each_other(agent: Agent, server: WebServer) -> None:
    agent.rows = [{"stream": f"a/{i}"} for i in range(25)]
    pages = []
    for offset in (0, 10, 20, 30):
        body = (await ask(server.port, f"/api/streams?limit=10&offset={offset}"))[2]
        pages.append(json.loads(body))
    assert [len(page["streams"]) for page in pages] == [10, 10, 5, 0]
    assert [page["truncated"] for page in pages] == [True, True, False, False]
    assert {page["matched"] for page in pages} == {25}


async def test_the_agent_is_asked_for_exactly_what_the_request_says(
    agent: Agent, server: WebServer
) -> None:
    path = "/api/streams?prefix=a%2F&search=We%20b&sort=-unflushed_bytes&limit=5&offset=20&other=1"
    assert (await ask(server.port, path))[0] == 200
    assert agent.query == StreamQuery("a/", "We b", "unflushed_bytes", True, 20, 5)
    assert (await ask(server.port, "/api/streams?sort=stream"))[0] == 200
    assert agent.query == StreamQuery("", "", "stream", False, 0, 1000)


@pytest.mark.parametrize("limit", ["0", "-1", "x", "10001", "1e3", "", "99999999999999999999"])
async def test_a_limit_out_of_bounds_is_a_bad_request(server: WebServer, limit: str) -> None:
    status, _, body = await ask(server.port, f"/api/streams?limit={limit}")
    assert (status, body) == (400, "limit must be a whole number from 1 to 10000\n")


@pytest.mark.parametrize("offset", ["-1", "x", "1000000001", "", "%D9%A3"])
async def test_an_offset_out_of_bounds_is_a_bad_request(server: WebServer, offset: str) -> None:
    status, _, body = await ask(server.port, f"/api/streams?offset={offset}")
    assert (status, body) == (400, "offset must be a whole number from 0 to 1000000000\n")


@pytest.mark.parametrize("sort", ["name", "-", "--stream", "stream,position", "__class__"])
async def test_a_sort_by_what_is_no_field_is_a_bad_request(server: WebServer, sort: str) -> None:
    status, _, body = await ask(server.port, f"/api/streams?sort={sort}")
    assert status == 400
    assert body.startswith("sort must be one of stream, position, ")


async def test_a_search_that_is_too_long_is_a_bad_request(server: WebServer) -> None:
    assert (await ask(server.port, f"/api/streams?search={'x' * 200}"))[0] == 200
    status, _, body = await ask(server.port, f"/api/streams?search={'x' * 201}")
    assert (status, body) == (400, "search must have at most 200 characters\n")


async def test_the_overview_is_json(server: WebServer) -> None:
    status, fields, body = await ask(server.port, "/api/overview")
    assert (status, json.loads(body)) == (200, {"events": []})
    assert fields["cache-control"] == "no-store"


async def test_other_paths_and_methods_are_refused_in_plain_text(server: WebServer) -> None:
    status, fields, body = await ask(server.port, "/nothing")
    assert (status, fields["content-type"]) == (404, "text/plain; charset=utf-8")
    assert "404" in body
    status, fields, _ = await ask(server.port, "/metrics", method="POST")
    assert (status, fields["content-type"]) == (405, "text/plain; charset=utf-8")
    assert fields["allow"] == "get,head"
    assert (await ask(server.port, "/healthz", method="HEAD"))[0] == 200


async def test_an_endless_header_is_refused(server: WebServer) -> None:
    status, _, _ = await ask(server.port, "/healthz", headers=f"X-Long: {'x' * 20_000}\r\n")
    assert status == 400
    many = "".join(f"X-{i}: y\r\n" for i in range(100))
    assert (await ask(server.port, "/healthz", headers=many))[0] == 400


async def test_one_connection_too_many_is_told_so_and_others_go_on(agent: Agent) -> None:
    server = agent.server("127.0.0.1:0", Limits(connections=2))
    await server.start()
    held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    for reader, writer in held:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: agent\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    assert (await ask(server.port, "/healthz"))[::2] == (503, "too many connections\n")
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    await server.stop()


async def test_a_connection_that_never_asks_is_closed(agent: Agent) -> None:
    server = agent.server("127.0.0.1:0", Limits(first_request_seconds=0.05))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    assert await reader.read() == b""
    writer.close()
    await server.stop()


async def test_a_kept_connection_is_not_taken_for_a_silent_one(agent: Agent) -> None:
    server = agent.server("127.0.0.1:0", Limits(first_request_seconds=0.3))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    silent, silent_writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(2):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: agent\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readline() == b"healthy\n"
        # The other connection's end says that the time is over for this one too.
        assert await silent.read() == b""
    for each in (writer, silent_writer):
        each.close()
    await server.stop()


async def test_a_port_in_use_is_one_line_that_says_what_to_do(
    agent: Agent, server: WebServer
) -> None:
    other = agent.server(f"127.0.0.1:{server.port}")
    with pytest.raises(WebServerError) as caught:
        await other.start()
    assert str(caught.value) == (
        "cannot serve HTTP: address already in use; another process listens there: stop it, or "
        f"change http.listen listen=127.0.0.1:{server.port}"
    )
    await other.stop()


async def test_an_address_of_another_host_is_refused(agent: Agent) -> None:
    with pytest.raises(WebServerError, match=r"has no such address: change http\.listen"):
        await agent.server("192.0.2.1:0").start()


async def test_a_host_that_is_none_is_refused(agent: Agent) -> None:
    with pytest.raises(WebServerError, match=r"listen=host\.invalid:80"):
        await agent.server("host.invalid:80").start()


async def test_every_interface_is_both_families(agent: Agent) -> None:
    server = agent.server(":0")
    await server.start()
    assert (await ask(server.port, "/healthz"))[0] == 200
    if socket.has_dualstack_ipv6():
        _, writer = await asyncio.open_connection("::1", server.port)
        writer.close()
    await server.stop()


async def test_nothing_listens_where_no_address_is_given(agent: Agent) -> None:
    server = agent.server("")
    await server.start()
    assert server.port == 0
    await server.stop()


async def test_a_unix_socket_is_made_and_removed(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    server = agent.server(str(path))
    await server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert (await ask(str(path), "/healthz"))[0] == 200
    await server.stop()
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(
    agent: Agent, tmp_path: Path
) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = agent.server(str(path))
    await server.start()
    other = agent.server(str(path))
    with pytest.raises(WebServerError, match="in use"):
        await other.start()
    await other.stop()
    assert (await ask(str(path), "/healthz"))[0] == 200
    await server.stop()


async def test_a_file_that_is_no_socket_is_left_alone(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    path.write_text("mine")
    with pytest.raises(WebServerError, match="no socket"):
        await agent.server(str(path)).start()
    assert path.read_text() == "mine"


async def test_stop_closes_what_is_open_and_may_be_called_again(agent: Agent) -> None:
    server = agent.server("127.0.0.1:0")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: agent\r\n\r\n")
    await reader.readuntil(b"healthy\n")
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
