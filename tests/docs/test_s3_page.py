"""docs/s3.md says what the code does: its tables of errors, its policies, its figures."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import (
    ObjectInfo,
    StoreConflict,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.options import S3Options
from hf_agent.store.preflight import preflight
from hf_agent.store.s3 import S3Store
from hf_agent.store.s3_error_codes import (
    BY_CAUSE,
    BY_CODE,
    BY_OPERATION,
    BY_STATUS,
    OTHER_CAUSE,
)
from hf_agent.wal import WalConfig
from support.flushing import Flushing
from support.moto_s3 import MotoS3, moto_s3  # noqa: F401 - a fixture
from support.s3_error_page import PAGE, table

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CLASSES = {
    StoreRetry: "retry",
    StoreRefused: "refused",
    StoreConflict: "conflict",
    StoreNotFound: "not found",
}


# -- errors -----------------------------------------------------------------------------------


def test_every_code_has_its_class_and_its_line() -> None:
    shown = {row[0].strip("`"): (row[2], row[3]) for row in table("What S3 answers")}
    assert shown == {code: (CLASSES[kind], advice) for code, (kind, advice) in BY_CODE.items()}


def test_so_has_what_botocore_asks_on_the_way() -> None:
    rows = table("What is answered on the way to a request")
    shown = {tuple(re.findall(r"`(\w+)`", row[0])): (row[2], row[3]) for row in rows}
    assert shown == {name: (CLASSES[kind], text) for name, (kind, text) in BY_OPERATION.items()}


def test_so_has_every_status() -> None:
    rows = table("Any other code, by the status")
    shown = {int(row[0]): (row[1], row[2]) for row in rows if row[0].isdecimal()}
    assert shown == {status: (CLASSES[kind], text) for status, (kind, text) in BY_STATUS.items()}


def test_so_has_what_keeps_an_answer_from_coming() -> None:
    shown = {
        row[0].strip("`"): (row[1], row[2]) for row in table("What keeps an answer from coming")
    }
    assert shown == {
        cause.code: (CLASSES[cause.kind], f"{cause.what}: …; {cause.advice}")
        for cause in (*BY_CAUSE, OTHER_CAUSE)
    }


def test_every_row_says_what_to_do() -> None:
    for heading in ("What S3 answers", "What keeps an answer from coming"):
        assert all(row[-1] for row in table(heading))


# -- rights -----------------------------------------------------------------------------------

WRITER = {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"} | {
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
}
POLICIES = {
    "writer": WRITER,
    "reader": {"s3:GetObject", "s3:ListBucket"},
    "pruner": WRITER,
    "express-writer": {"s3express:CreateSession"},
    "express-reader": {"s3express:CreateSession"},
}


@pytest.mark.parametrize("role", POLICIES)
def test_a_policy_is_one_and_grants_what_is_needed(role: str) -> None:
    found = re.search(rf"<!-- policy:{role} -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert found
    policy = json.loads(found[1])
    assert policy["Version"] == "2012-10-17"
    granted: set[str] = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        actions = statement["Action"]
        actions = {actions} if isinstance(actions, str) else set(actions)
        granted |= actions
        of_bucket = not statement["Resource"].endswith("*")
        assert of_bucket == any("List" in action or "Session" in action for action in actions)
        if "s3:ListBucket" in actions:
            assert "Condition" not in statement
    assert granted == POLICIES[role]


# -- costs ------------------------------------------------------------------------------------


def requests_per_flush(segment: int, threshold: int, part: int) -> int:
    return 2 if segment <= threshold else 3 + math.ceil(segment / part)


def segment_bytes(flushed: int, block: int) -> int:
    """The page's upper bound."""
    return flushed + block + int(0.1 * flushed / block * KIB) + 24 * KIB


def nbytes(text: str) -> int:
    number, unit = text.split()
    return int(number) * {"KiB": KIB, "MiB": MIB}[unit]


def test_the_table_of_costs_follows_from_the_formula() -> None:
    rows = table("What requests cost")
    assert len(rows) > 5
    for row in rows:
        flushed, threshold, part = (nbytes(cell) for cell in row[:3])
        each = requests_per_flush(segment_bytes(flushed, 64 * KIB), threshold, part)
        assert (int(row[3]), int(row[4])) == (each, round(GIB / flushed * each)), row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flush_bytes", "threshold"),
    [(2 * MIB, 16 * MIB), (6 * MIB, 16 * MIB), (6 * MIB, 5 * MIB), (12 * MIB, 5 * MIB)],
)
async def test_the_agent_makes_the_requests_that_the_formula_says(
    tmp_path: Path,
    moto_s3: MotoS3,  # noqa: F811
    flush_bytes: int,
    threshold: int,
) -> None:
    part, block = 5 * MIB, 4 * KIB
    counted: Counter[str] = Counter()
    store = S3Store(
        moto_s3.make_bucket(),
        "logs",
        options=moto_s3.options(multipart_threshold=threshold, part_bytes=part),
        clock=SystemClock(),
        observer=lambda operation, code, seconds: counted.update([operation]),
    )
    wal = WalConfig(
        file_bytes=32 * MIB, max_bytes=256 * MIB, max_record_bytes=MIB, max_batch_bytes=4 * MIB
    )
    agent = await Flushing(tmp_path / "wal", store, flush_bytes=flush_bytes, wal=wal).start()
    rng = random.Random(1)
    await agent.put("app", rng.randbytes(1000))
    await agent.flush("app")
    # Opening the container, and the first checkpoint.
    assert counted["get"] + counted["head"] <= 10
    assert counted["create"] + counted["replace"] == 3
    known = await sizes(store)
    counted.clear()
    for _ in range(2 * flush_bytes // MIB):
        await agent.put("app", rng.randbytes(MIB - rng.randrange(1000)))
    await agent.flush("app")
    made = dict(counted)
    segments = {key: size for key, size in (await sizes(store)).items() if key not in known}
    expected = sum(requests_per_flush(size, threshold, part) for size in segments.values())
    assert sum(made.values()) == expected
    assert set(made) <= {"create", "replace", "start_multipart", "upload_part"}  # and no reads
    assert len(segments) >= 2
    assert max(segments.values()) <= segment_bytes(flush_bytes, block)
    # The same container, by a process that has just begun.
    await agent.restart()
    counted.clear()
    await agent.put("app", b"x")
    await agent.flush("app")
    assert counted["get"] + counted["head"] <= 10
    assert counted["create"] + counted["replace"] == 2
    await agent.stop()
    await store.close()


async def sizes(store: S3Store) -> dict[str, int]:
    """The checkpoint objects and their lengths; what this asks is not for the count."""
    return {
        item.key: item.size
        async for item in store.list("n/app/")
        if isinstance(item, ObjectInfo) and not item.key.endswith("/inode")
    }


async def test_a_preflight_costs_no_more_than_the_page_says(moto_s3: MotoS3) -> None:  # noqa: F811
    counted: Counter[str] = Counter()

    def count(operation: str, code: str, seconds: float) -> None:
        # A busy machine may keep an answer from coming: then the request is made again.
        if code in ("ok", "PreconditionFailed", "NoSuchKey", "404"):
            counted[operation] += 1

    store = S3Store(
        moto_s3.make_bucket(),
        options=S3Options(endpoint_url=moto_s3.endpoint_url, addressing="path"),
        clock=SystemClock(),
        observer=count,
    )
    await preflight(store, "scratch/unique")
    await store.close()
    found = re.search(r"The preflight costs at most (\d+) requests", PAGE)
    assert found
    assert int(found[1]) * 0.7 < sum(counted.values()) <= int(found[1])
