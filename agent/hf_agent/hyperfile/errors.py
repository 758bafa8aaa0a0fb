"""Errors of the hyperfile package.

Store errors pass through unchanged: whether a call may be repeated is visible in *their* type.
What is raised here is never cured by repeating the call.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_agent.hyperfile.trailer import Trailer

__all__ = [
    "AppenderStateError",
    "CheckpointTooLarge",
    "CheckpointsExhausted",
    "ChecksumError",
    "ConflictError",
    "ContainerExists",
    "FormatError",
    "HyperfileError",
    "MissingObject",
    "NoCheckpointThen",
    "NoSuchCheckpoint",
    "NoSuchContainer",
    "ReadOnlyLayout",
    "StaleVersion",
]


class HyperfileError(Exception):
    """Base of the package's errors. Message: lower case, says what and where, `key=value` last."""


class NoSuchContainer(HyperfileError):
    """There is no `inode` object below the key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no container here: there is no inode object key={key}")
        self.key = key


class NoSuchCheckpoint(HyperfileError):
    """The container has no checkpoint of that number (any more)."""

    def __init__(self, key: str, checkpoint: int) -> None:
        super().__init__(f"no such checkpoint in this container key={key} checkpoint={checkpoint}")
        self.key = key
        self.checkpoint = checkpoint


class NoCheckpointThen(HyperfileError):
    """The container has no checkpoint that was written at that time or before (any more)."""

    def __init__(self, key: str, time: float) -> None:
        super().__init__(f"no checkpoint of this container is that old key={key} time={time}")
        self.key = key
        self.time = time
        """Unix seconds."""


class FormatError(HyperfileError):
    """Bytes on the store break a rule of the format."""

    def __init__(self, rule: str, *, object: str, offset: int) -> None:
        super().__init__(f"damaged container: {rule} object={object} offset={offset}")
        self.rule = rule
        """The rule that does not hold."""
        self.object = object
        """Key of the object, relative to the store's root."""
        self.offset = offset
        """Where in the object, in bytes."""


class ChecksumError(FormatError):
    """Bytes on the store are not the ones that were written there, as their checksum shows.

    They can be had as they are by reading unchecked.
    """

    def __init__(self, what: str, *, object: str, offset: int, problem: str = "") -> None:
        name = what if what[-1].isdigit() else f"the {what}"
        problem = problem or f"the checksum of {name} does not match"
        advice = "`hf-agent verify` names all damage, `cat --ignore-checksums` reads what is there"
        super().__init__(f"{problem}; {advice}", object=object, offset=offset)
        self.what = what
        """What is damaged: `header`, `trailer`, `inode`, `map node 2`, `data block 17`."""
        self.problem = problem


class MissingObject(FormatError):
    """An object that the container's map leads to is not there: lost, or removed on purpose."""


class StaleVersion(HyperfileError, OSError):
    """The version that was opened has been removed since: open the container again.

    Objects that it needs are gone, and the container has gone on to a later version, or was
    removed. That is no damage: the newest version may be read. An `OSError` with errno `ESTALE`,
    as of a file on a network file system that somebody else has replaced.
    """

    def __init__(self, key: str, checkpoint: int, why: str, *, object: str) -> None:
        self._text = (
            f"the version that was opened is not there any more, {why}: open it again "
            f"key={key} checkpoint={checkpoint} object={object}"
        )
        super().__init__(errno.ESTALE, self._text)
        self._why = why
        self.key = key
        self.checkpoint = checkpoint
        """Of the version that was opened; 0 when it had none."""
        self.object = object
        """Key of the object that was missed, relative to the store's root."""

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[object, ...]:
        return partial(StaleVersion, object=self.object), (self.key, self.checkpoint, self._why)


class ReadOnlyLayout(HyperfileError):
    """The container is readable, but this version does not write its layout."""


class CheckpointTooLarge(HyperfileError):
    """What has been changed does not fit one checkpoint: flush, then go on.

    Nothing is lost: what was changed before the call that raises this can be flushed.
    """


class CheckpointsExhausted(HyperfileError):
    """All 2^30 - 1 checkpoint numbers of the container are taken."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the container has used up its checkpoint numbers; append to another key key={key}"
        )
        self.key = key


class ConflictError(HyperfileError):
    """Another writer has changed the container: what was to be written was not built on it.

    Nothing of the caller's was overwritten or taken up. Open the container again to see the state
    that it has reached; a checkpoint of one's own, written by an earlier life of the process and
    landed late, shows there by its trailer.
    """

    def __init__(
        self, message: str, *, checkpoint: int | None = None, trailer: Trailer | None = None
    ) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint
        """Number of the other writer's checkpoint, where known."""
        self.trailer = trailer
        """Its trailer, where it has one."""


class ContainerExists(ConflictError):
    """A container could not be created: another one stands at its key."""


class AppenderStateError(HyperfileError):
    """The calls on an appender came in an order that cannot be honoured: a fault of the caller."""
