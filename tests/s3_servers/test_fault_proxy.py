"""Every fault really happens: what the client gets, and what the server saw."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from urllib.parse import urlsplit

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import StoreConflict, StoreRefused, StoreRetry
from hf_agent.store.s3 import S3Store
from support.moto_s3 import MotoS3, moto_s3
from support.s3_servers.fault_proxy import Breakpoint, FaultHandler
from support.s3_servers.faults import Decision, Fault, Logged, Script
from support.s3_servers.messages import Request, Response
from support.s3_servers.operations import Operation
from support.s3_servers.proxy import Backend, HttpProxy, Reply
from support.s3_servers.servers import behind_faults

__all__ = ["moto_s3"]

BODY = b"the answer's body"


class Server:
    """Answers everything, counts, and remembers."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.saw_one = threading.Event()

    async def __call__(self, request: Request) -> Reply:
        self.seen.append(request)
        self.saw_one.set()
        headers = {"x-number": str(len(self.seen))}
        if request.method == "HEAD":
            return Reply(Response(200, {**headers, "content-length": "17"}, to_head=True))
        return Reply(Response(200, headers, b"" if request.method == "PUT" else BODY))


class Client:
    """One connection to the proxy."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
        self.address = (self._connection.host, self._connection.port)

    def ask(self, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
        body = b"sent" if method == "PUT" else None
        self._connection.request(method, "/bucket/a%20key?x=%2F", body=body)
        with self._connection.getresponse() as answer:
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read(), headers

    def close(self) -> None:
        self._connection.close()


@contextmanager
def proxied(
    *faults: Logged,
    stall: float = 30.0,
    breakpoint: Breakpoint | None = None,
    timeout: float = 30.0,
    spared: str = "",
) -> Iterator[tuple[Client, Server]]:
    """A client, a server, and a proxy with these faults between them."""
    server = Server()
    with HttpProxy(server) as far:
        handler = FaultHandler(
            Backend(far.url), Script(faults), stall=stall, breakpoint=breakpoint, spared=spared
        )
        with HttpProxy(handler) as near:
            client = Client(near.url, timeout)
            try:
                yield client, server
            finally:
                client.close()


def fault(kind: Fault, amount: float = 0.0, operation: Operation = Operation.GET) -> Logged:
    """A fault of the first request of that operation."""
    return Logged(operation, 0, Decision(kind, amount))


def test_without_a_fault_request_and_answer_pass_as_they_are() -> None:
    with proxied() as (client, server):
        status, body, headers = client.ask()
        client.ask("PUT")
    got, put = server.seen
    assert (status, body, headers["x-number"]) == (200, BODY, "1")
    assert (got.method, got.target, got.key) == ("GET", "/bucket/a%20key?x=%2F", "a key")
    # A signature is over the host that the client meant.
    assert got.headers["host"] == "{}:{}".format(*client.address)
    assert put.body == b"sent"


def test_the_answer_to_a_head_keeps_the_length_of_what_is_not_sent() -> None:
    with proxied() as (client, _):
        status, body, headers = client.ask("HEAD")
        assert (status, body, headers["content-length"]) == (200, b"", "17")
        assert client.ask()[1] == BODY  # the connection is still in step


def test_latency_holds_a_request_back() -> None:
    with proxied(fault(Fault.LATENCY, 0.2)) as (client, server):
        began = monotonic()
        assert client.ask()[1] == BODY
        assert monotonic() - began >= 0.2
    assert len(server.seen) == 1


def test_reset_before_the_server_never_sees_the_request() -> None:
    with proxied(fault(Fault.RESET_BEFORE)) as (client, server):
        with pytest.raises(ConnectionResetError):
            client.ask()
        assert server.seen == []
        client.close()
        assert client.ask()[1] == BODY  # only that one


def test_reset_after_the_server_has_done_it() -> None:
    with proxied(fault(Fault.RESET_AFTER, operation=Operation.PUT)) as (client, server):
        with pytest.raises(ConnectionResetError):
            client.ask("PUT")
        assert [request.body for request in server.seen] == [b"sent"]


def test_delivered_late_the_server_sees_it_after_the_client_gave_up() -> None:
    with proxied(fault(Fault.DELIVERED_LATE, 0.2)) as (client, server):
        with pytest.raises(ConnectionResetError):
            client.ask()
        assert server.seen == []
        assert server.saw_one.wait(30)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (Fault.INTERNAL_ERROR, 500, b"InternalError"),
        (Fault.UNAVAILABLE, 503, b"ServiceUnavailable"),
        (Fault.SLOW_DOWN, 503, b"SlowDown"),
        (Fault.FORBIDDEN, 403, b"AccessDenied"),
    ],
)
def test_a_refusal_is_answered_in_the_servers_place(kind: Fault, status: int, code: bytes) -> None:
    of_head = fault(kind, operation=Operation.HEAD)
    with proxied(fault(kind), of_head) as (client, server):
        got, body, _ = client.ask()
        assert (got, b"<Code>" + code + b"</Code>" in body) == (status, True)
        assert client.ask("HEAD")[:2] == (status, b"")
        assert server.seen == []


def test_done_but_error_the_server_did_it_and_the_client_is_told_otherwise() -> None:
    with proxied(fault(Fault.DONE_BUT_ERROR)) as (client, server):
        assert client.ask()[:2] == (504, b"")
    assert len(server.seen) == 1


def test_truncated_the_body_ends_too_early() -> None:
    with proxied(fault(Fault.TRUNCATED, 0.5)) as (client, server):
        with pytest.raises(http.client.IncompleteRead) as caught:
            client.ask()
        assert caught.value.partial == BODY[:8]
    assert len(server.seen) == 1


def test_truncated_without_a_body_the_head_ends_too_early() -> None:
    with proxied(fault(Fault.TRUNCATED, 0.5, Operation.PUT)) as (client, server):
        with socket.create_connection(client.address, timeout=30) as raw:
            raw.sendall(b"PUT /bucket/key HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")
            answer = b"".join(iter(lambda: raw.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\n\r\n" not in answer
        assert len(server.seen) == 1


def test_stalled_nothing_more_comes_until_the_client_gives_up() -> None:
    with proxied(fault(Fault.STALLED, 0.5), timeout=0.3) as (client, server):
        with pytest.raises(TimeoutError):
            client.ask()
        assert len(server.seen) == 1


def test_a_stall_that_nobody_ends_is_ended_by_a_reset() -> None:
    with proxied(fault(Fault.STALLED, 0.5), stall=0.1) as (client, server):
        with pytest.raises(ConnectionResetError):
            client.ask()
        assert len(server.seen) == 1


@pytest.mark.parametrize(("kind", "answer"), [(Fault.TWICE_FIRST, "1"), (Fault.TWICE_SECOND, "2")])
def test_twice_the_server_sees_it_two_times(kind: Fault, answer: str) -> None:
    with proxied(fault(kind)) as (client, server):
        assert client.ask()[2]["x-number"] == answer
    first, second = server.seen
    assert first == second


def test_a_breakpoint_holds_the_request_that_the_server_has_done() -> None:
    breakpoint = Breakpoint(1)
    answers: list[int] = []
    with proxied(breakpoint=breakpoint) as (client, server):

        def ask_twice() -> None:
            answers.extend([client.ask()[0], client.ask()[0]])

        asking = threading.Thread(target=ask_twice)
        asking.start()
        assert breakpoint.reached.wait(30)
        assert (len(server.seen), len(answers)) == (2, 0)
        breakpoint.go_on()
        asking.join(30)
    assert answers == [200, 200]


def test_requests_that_are_spared_meet_nothing_and_are_not_counted() -> None:
    breakpoint = Breakpoint(0)
    with proxied(fault(Fault.FORBIDDEN), breakpoint=breakpoint, spared="a key") as (client, _):
        assert client.ask()[0] == 200
    assert not breakpoint.reached.is_set()


def test_a_server_that_is_away_is_a_bad_gateway() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with HttpProxy(FaultHandler(Backend(url), Script([]))) as near:
        client = Client(near.url)
        assert client.ask()[0] == 502
        client.close()


async def test_a_store_meets_the_faults_of_each_operation(moto_s3: MotoS3) -> None:
    """Which operation a request is, as the S3 store really sends it."""
    operations = [each for each in Operation if each not in NEVER_SENT]
    plan = Script(Logged(each, 0, Decision(Fault.SLOW_DOWN)) for each in operations)
    bucket = moto_s3.make_bucket()
    with behind_faults(moto_s3, plan) as server:
        options = server.options(multipart_threshold=5 << 20, part_bytes=5 << 20)
        store = S3Store(bucket, "p", options=options, clock=SystemClock())

        async def small() -> None:
            etag = await store.create("small", b"x")
            await store.replace("small", b"y", etag=etag)

        async def large() -> None:
            try:
                await store.create("large", bytes(6 << 20))
            except StoreConflict:
                pass  # the try before this one came through

        async def read() -> None:
            await store.get("small")
            await store.head("small")
            async for _ in store.list():
                pass
            await store.delete("small")

        for attempt in (small, large, read):
            for _ in range(6):
                try:
                    await attempt()
                    break
                except StoreRetry as error:
                    assert error.code in ("SlowDown", "503")
            else:
                raise AssertionError("it never came through")
        await store.close()
    assert {each.operation for each in plan.log} == set(operations)


NEVER_SENT = {
    Operation.PUT,  # every write of the store is conditional
    Operation.LIST_MULTIPART,
    Operation.CREATE_SESSION,
    Operation.OTHER,
}


async def test_a_store_gives_up_a_stalled_answer_by_its_own_timeout(moto_s3: MotoS3) -> None:
    bucket = moto_s3.make_bucket()
    plan = Script([fault(Fault.STALLED, 0.5)])
    with behind_faults(moto_s3, plan) as server:
        store = S3Store(bucket, options=server.options(read_timeout=0.3), clock=SystemClock())
        await store.create("key", bytes(1000))
        with pytest.raises(StoreRetry):
            await store.get("key")
        assert (await store.get("key")).data == bytes(1000)
        await store.close()


async def test_a_write_delivered_twice_is_refused_the_second_time(moto_s3: MotoS3) -> None:
    bucket = moto_s3.make_bucket()
    plan = Script([fault(Fault.TWICE_SECOND, operation=Operation.CONDITIONAL_PUT)])
    with behind_faults(moto_s3, plan) as server:
        store = S3Store(bucket, options=server.options(), clock=SystemClock())
        with pytest.raises(StoreConflict):
            await store.create("key", b"x")
        assert (await store.get("key")).data == b"x"
        await store.close()


@pytest.mark.parametrize("nbytes", [10, 200_000])
async def test_a_write_whose_answer_was_lost_is_open_or_a_conflict(
    moto_s3: MotoS3, nbytes: int
) -> None:
    """On a connection that was kept, where aiohttp sends a small body once more by itself."""
    bucket = moto_s3.make_bucket()
    lost = Logged(Operation.CONDITIONAL_PUT, 1, Decision(Fault.RESET_AFTER))
    with behind_faults(moto_s3, Script([lost])) as server:
        store = S3Store(bucket, options=server.options(), clock=SystemClock())
        await store.create("before", b"x")
        with pytest.raises((StoreRetry, StoreConflict)):
            await store.create("key", bytes(nbytes), metadata={"hf-write": "mine"})
        assert (await store.head("key")).metadata == {"hf-write": "mine"}
        await store.close()


async def test_a_window_of_403_is_a_refusal_and_passes(moto_s3: MotoS3) -> None:
    bucket = moto_s3.make_bucket()
    window = [Logged(Operation.CONDITIONAL_PUT, n, Decision(Fault.FORBIDDEN)) for n in range(3)]
    with behind_faults(moto_s3, Script(window)) as server:
        store = S3Store(bucket, options=server.options(), clock=SystemClock())
        for _ in window:
            with pytest.raises(StoreRefused):
                await store.create("key", b"x")
        await store.create("key", b"x")
        await store.close()
