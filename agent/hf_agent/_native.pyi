from hf_agent.native import Buffer

# Documented in `native`.

def count_newlines(data: Buffer, start: int, end: int, /) -> int: ...
def json_lines(
    messages: list[bytes | memoryview],
    counts: list[int],
    head: bytes,
    has_time: bool,
    tail: bytes,
    own_keys: tuple[bytes, ...],
    /,
) -> bytes | None: ...
