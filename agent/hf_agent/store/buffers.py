"""Bodies as lists of byte views: nothing here copies a payload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hf_agent.store.base import Body

__all__ = ["Views", "body_views", "split_views", "total_bytes"]

Views = Sequence[memoryview]


def body_views(body: Body) -> list[memoryview]:
    """The non-empty buffers of `body` as flat byte views, in order, uncopied."""
    buffers = [body] if isinstance(body, bytes | bytearray | memoryview) else body
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    return [view for view in views if view.nbytes]


def total_bytes(views: Views) -> int:
    """Length in bytes of all views together."""
    return sum(view.nbytes for view in views)


def split_views(views: Views, nbytes: int) -> Iterator[list[memoryview]]:
    """Cut `views` into runs of exactly `nbytes` bytes each; the last run may be shorter."""
    run: list[memoryview] = []
    room = nbytes
    for view in views:
        while view.nbytes > room:
            run.append(view[:room])
            yield run
            view = view[room:]
            run, room = [], nbytes
        run.append(view)
        room -= view.nbytes
        if not room:
            yield run
            run, room = [], nbytes
    if run:
        yield run
