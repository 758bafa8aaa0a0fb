"""What can go wrong for a client, and whether the appends concerned may have been kept."""

from __future__ import annotations

__all__ = [
    "AgentRefused",
    "AppendRefused",
    "ClientError",
    "ConnectionLost",
    "Fenced",
    "PositionMismatch",
    "RequestRefused",
    "Superseded",
]


class ClientError(Exception):
    """Base of all errors of the client."""


class AppendRefused(ClientError):
    """The agent did not take the appends with ids `id` to `last_id`. The client goes on."""

    def __init__(self, code: str, id: int, last_id: int, message: str) -> None:
        super().__init__(f"append was refused: {message} code={code} id={id} last_id={last_id}")
        self.code = code
        self.id = id
        self.last_id = last_id
        self.message = message


class PositionMismatch(AppendRefused):
    """A conditional append found its stream elsewhere, or built on one that did.

    Nothing of it was stored. `positions` tells where each such stream was, in bytes, when the agent
    refused; it is empty when the append was given up here, behind another refused one.
    """

    def __init__(self, id: int, last_id: int, message: str, positions: dict[str, int]) -> None:
        super().__init__("position_mismatch", id, last_id, message)
        self.positions = positions


class RequestRefused(ClientError):
    """The agent refused a flush. The client goes on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"request was refused: {message} code={code}")
        self.code = code
        self.message = message


class ConnectionLost(ClientError):
    """There was no agent for longer than the client may wait. It does not go on.

    What was not acknowledged may have been kept or not. With a producer's name it may be sent
    again by a new client that gives it the same ids.
    """


class AgentRefused(ClientError):
    """The agent ended the connection for a reason that a new one would not mend."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"agent ended the connection: {message} code={code}")
        self.code = code
        self.message = message


class Superseded(AgentRefused):
    """Another client uses the same producer name: only one may, or their ids would mix."""

    def __init__(self, message: str) -> None:
        super().__init__("superseded", message)


class Fenced(AgentRefused):
    """The producer goes on in a later epoch: this client is the one that was replaced."""

    def __init__(self, message: str) -> None:
        super().__init__("fenced", message)
