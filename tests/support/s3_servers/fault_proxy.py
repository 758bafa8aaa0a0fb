"""A handler that lets the requests to another one go wrong, as a plan decides."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from urllib.parse import unquote

from support.s3_servers.faults import Decision, Fault, FaultPlan
from support.s3_servers.messages import Request, Response, error_response
from support.s3_servers.operations import operation_of
from support.s3_servers.proxy import Handler, Reply, ResetConnection

__all__ = ["Breakpoint", "FaultHandler"]

_REFUSALS = {
    Fault.INTERNAL_ERROR: (500, "InternalError", "We encountered an internal error."),
    Fault.UNAVAILABLE: (503, "ServiceUnavailable", "Reduce your request rate."),
    Fault.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Fault.FORBIDDEN: (403, "AccessDenied", "Access Denied"),
}


class Breakpoint:
    """Holds one request when the server has done what it asks, until a test lets it go on."""

    def __init__(self, number: int) -> None:
        """`number` counts the requests of all operations, from 0 on."""
        self.number = number
        self.reached = threading.Event()
        self._go_on: Future[None] = Future()

    def go_on(self) -> None:
        """Let the request be answered, now or when it comes."""
        if not self._go_on.done():
            self._go_on.set_result(None)

    async def hold(self) -> None:
        """Return when `go_on` has been called."""
        self.reached.set()
        await asyncio.wrap_future(self._go_on)


class FaultHandler:
    """Passes requests on to `inner`, but for those that the plan has something else for."""

    def __init__(
        self,
        inner: Handler,
        plan: FaultPlan,
        *,
        stall: float = 30.0,
        breakpoint: Breakpoint | None = None,
        spared: str = "",
    ) -> None:
        """`stall`: seconds after which a stalled answer ends in a reset. `spared`: requests whose
        path or query has this in it pass as they are, and are not counted."""
        self._inner = inner
        self._plan = plan
        self._stall = stall
        self._breakpoint = breakpoint
        self._spared = spared
        self._late: set[asyncio.Task[None]] = set()
        self.requests = 0
        """How many came, over all operations."""

    async def __call__(self, request: Request) -> Reply:
        """Handle one request."""
        if self._spared and self._spared in unquote(request.target):
            return await self._inner(request)
        number, self.requests = self.requests, self.requests + 1
        decision = self._plan.decide(operation_of(request))
        if self._breakpoint is None or number != self._breakpoint.number:
            return await self._with_fault(request, decision)
        try:
            reply = await self._with_fault(request, decision)
        except ResetConnection:
            await self._breakpoint.hold()
            raise
        await self._breakpoint.hold()
        return reply

    async def _with_fault(self, request: Request, decision: Decision) -> Reply:
        match decision.fault:
            case None:
                return await self._inner(request)
            case Fault.LATENCY:
                await asyncio.sleep(decision.amount)
                return await self._inner(request)
            case Fault.RESET_BEFORE:
                raise ResetConnection
            case Fault.RESET_AFTER:
                await self._inner(request)
                raise ResetConnection
            case Fault.DELIVERED_LATE:
                task = asyncio.create_task(self._deliver_late(request, decision.amount))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
                raise ResetConnection
            case Fault.DONE_BUT_ERROR:
                await self._inner(request)
                return Reply(Response(504, to_head=request.method == "HEAD"))
            case Fault.TRUNCATED:
                return Reply((await self._inner(request)).response, share=decision.amount)
            case Fault.STALLED:
                response = (await self._inner(request)).response
                return Reply(response, share=decision.amount, stall=self._stall)
            case Fault.TWICE_FIRST:
                first = await self._inner(request)
                await self._inner(request)
                return first
            case Fault.TWICE_SECOND:
                await self._inner(request)
                return await self._inner(request)
            case fault:
                status, code, message = _REFUSALS[fault]
                return Reply(error_response(status, code, message, request))

    async def _deliver_late(self, request: Request, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            await self._inner(request)
        except (OSError, EOFError):
            pass  # the server is away; nobody waits for this answer
