"""What a verification reads, finds, names, and leaves alone."""

from __future__ import annotations

import asyncio
import struct

import pytest

from hf_agent.hyperfile import NoSuchContainer
from hf_agent.hyperfile.verify import Finding, Severity, VerifyReport, verify_container
from hf_agent.store.base import StoreRetry
from support.appending import KEY, OTHER_WRITER, Bench, append, begin, fail_once
from support.damage import flip, resealed, rewrite, without_checksums
from support.golden import MANIFEST, golden_store
from support.memory_store import Call, MemoryStore

INODE = f"{KEY}/inode"
NOTED = {
    "orphan-commit": ["inode"],
    "orphan-foreign": ["0000000004.0"],
    "taken-numbers": ["0000000005.0", "0000000006.1"],
    "compaction-attached": ["0000000004.1"],
    # Its base is an inode that the crate had changed without a checkpoint.
    "parted-64k-blocks": ["0000000003.0"],
}


def name(number: int, part: int = 0) -> str:
    return f"{KEY}/{number:010d}.{part}"


async def written(*sizes: int, block_size: int = 4096) -> Bench:
    bench = Bench(block_size=block_size)
    appender = await bench.create()
    for number, size in enumerate(sizes):
        await append(appender, bytes([number + 1]) * size)
    bench.store.calls.clear()
    return bench


async def verified(store: MemoryStore, key: str = KEY) -> VerifyReport:
    report = await verify_container(store, key)
    assert report.error_count == len(report.errors)
    assert report.note_count == len(report.notes)
    return report


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


# -- what is sound --------------------------------------------------------------------------------


@pytest.mark.parametrize("container", MANIFEST)
async def test_a_container_of_the_crate_is_sound_and_its_strays_are_notes(container: str) -> None:
    report = await verified(golden_store(container), container)
    assert report.errors == []
    assert report.sound
    assert report.with_checksums == 0
    assert (report.size, report.checkpoint) == (
        MANIFEST[container]["size"],
        MANIFEST[container]["last_cno"],
    )
    assert report.versions == report.checkpoint, "every version of these can be opened"
    noted = [finding.object.removeprefix(f"{container}/") for finding in report.notes]
    assert noted == NOTED.get(container, [])
    assert all(finding.severity is Severity.NOTE for finding in report.notes)


async def test_a_container_of_this_package_is_sound_and_says_what_it_has() -> None:
    bench = await written(3000, 50_000, 1_150_000, 10)
    report = await verified(bench.store)
    assert report.sound
    assert report.notes == []
    assert (report.objects, report.versions, report.with_checksums) == (4, 4, 4)
    assert report.size == 1_203_010
    assert report.nbytes == sum(len(bench.store.body(name(number))) for number in (1, 2, 3, 4))


async def test_a_container_that_both_have_written_is_sound() -> None:
    bench = Bench(store=golden_store("parted"))
    for key in list(bench.store.objects):
        bench.store.objects[key.replace("parted", KEY)] = bench.store.objects.pop(key)
    await append(await bench.open(), b"x" * 10_000)
    report = await verified(bench.store)
    assert (report.sound, report.objects, report.with_checksums) == (True, 5, 1)


async def test_objects_without_header_checksum_and_trailer_are_checked_for_their_structure() -> (
    None
):
    bench = await written(3000, 50_000)
    for number in (1, 2):
        bench.store.put(name(number), without_checksums(bench.store.body(name(number))))
    report = await verified(bench.store)
    assert (report.sound, report.with_checksums) == (True, 0)
    flip(bench.store, name(2), 8 * (4096 + 1))
    finding = only((await verified(bench.store)).errors)
    assert finding.what == "map node 0"
    assert "cannot have level" in finding.problem
    assert finding.affected is not None
    assert finding.affected.ranges == ((0, 53_000),)


async def test_every_byte_of_every_object_is_read_in_pieces_of_bounded_size() -> None:
    bench = await written(3_000_000, 5_000_000, block_size=65536)
    running = most = 0
    whole = bench.store.get

    async def get(key: str, **ranges: int | None) -> object:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        return await whole(key, **ranges)  # type: ignore[arg-type]

    bench.store.get = get  # type: ignore[assignment,method-assign]
    told: list[int] = []
    report = await verify_container(bench.store, KEY, on_total=told.append, on_bytes=told.append)
    assert told[0] == report.nbytes == sum(told[1:])
    sizes = [
        call.ranged[1] - call.ranged[0]
        for call in bench.store.calls
        if call.operation == "get" and call.ranged[0] is not None and call.ranged[1] is not None
    ]
    assert max(sizes) == 1 << 20
    assert 2 <= most <= 16


async def test_nothing_is_written() -> None:
    bench = await written(3000)
    await verified(bench.store)
    assert {call.operation for call in bench.store.calls} <= {"get", "head", "list"}


async def test_an_agent_may_go_on_appending() -> None:
    bench = await written(3000, 4000)
    appender = await bench.open()

    calls = 0

    def commit_meanwhile(call: Call) -> None:
        nonlocal calls
        calls += 1
        # Faster than the numbers are probed, nobody would come to an end.
        if calls % 7 == 2 and appender.checkpoint < 12:
            bench.store.before = lambda call: None
            # No call of this store waits, so the commit is done in one step.
            with pytest.raises(StopIteration):
                append(appender, b"m" * 9000).send(None)
            bench.store.before = commit_meanwhile

    bench.store.before = commit_meanwhile
    report = await verified(bench.store)
    assert (report.errors, report.notes) == ([], [])
    assert report.checkpoint < appender.checkpoint


async def test_containers_below_it_are_others() -> None:
    bench = await written(3000)
    bench.store.put(f"{KEY}/below/inode", b"anything")
    bench.store.put(f"{KEY}/below/0000000001.0", b"anything")
    report = await verified(bench.store)
    assert (report.objects, report.notes) == (1, [])


# -- strays ---------------------------------------------------------------------------------------


async def test_what_does_not_belong_is_a_note() -> None:
    bench = await written(3000, 4000)
    bench.store.put(f"{KEY}/notes.txt", b"hello")
    bench.store.put(f"{KEY}/0000000001", b"of another pointer format")
    bench.store.put(f"{KEY}/0000000000.0", b"no such number")
    bench.store.put(name(9), b"far ahead")
    report = await verified(bench.store)
    assert report.sound
    assert {(each.object.removeprefix(f"{KEY}/"), each.problem) for each in report.notes} == {
        ("notes.txt", "the name is none of this format"),
        ("0000000001", "an object of another pointer format"),
        ("0000000000.0", "there is no checkpoint 0"),
        (
            "0000000009.0",
            "no checkpoint object: a segment header has 208 bytes, not 9",
        ),
    }


async def test_a_commit_that_lost_is_a_note_but_its_damage_is_an_error() -> None:
    bench = await written(3000)
    loser = await bench.open(OTHER_WRITER)
    build = await begin(loser, b"lost")
    fail_once(bench.store, "replace", "inode", after=False)
    with pytest.raises(StoreRetry):
        await loser.commit(build, position=4)
    # Another state takes its number's place by hand: what was built on it is not taken up.
    body = bytearray(bench.store.body(name(2)))
    body[16:24] = struct.pack("<Q", 12345)
    bench.store.put(name(2), resealed(bytes(body)))
    report = await verified(bench.store)
    assert report.sound
    assert only(report.notes).object == name(2)
    flip(bench.store, name(2), 8 * 5000)
    report = await verified(bench.store)
    assert only(report.errors).object == name(2)


async def test_a_half_done_commit_is_a_note_and_verified() -> None:
    bench = await written(3000)
    appender = await bench.open()
    fail_once(bench.store, "replace", "inode", after=False)
    with pytest.raises(StoreRetry):
        await append(appender, b"half done")
    report = await verified(bench.store)
    assert (report.sound, report.versions, report.size) == (True, 2, 3009)
    assert only(report.notes).problem == "it does not name commits yet that are in force: 2"
    flip(bench.store, name(2), 8 * 100)
    report = await verified(bench.store)
    assert only(report.errors).what == "header"


# -- what is damaged ------------------------------------------------------------------------------


async def test_damage_names_the_block_and_the_bytes_that_cannot_be_read() -> None:
    bench = await written(3000, 50_000)
    body = bench.store.body(name(2))
    data_at = body.index(b"\x02" * 1000) // 4096 * 4096
    flip(bench.store, name(2), 8 * (data_at + 5 * 4096 + 17))
    flip(bench.store, name(2), 8 * (data_at + 6 * 4096))
    flip(bench.store, name(2), 8 * (data_at + 12 * 4096 + 1))
    findings = (await verified(bench.store)).errors
    assert [finding.what for finding in findings] == [
        "data block 5",
        "data block 6",
        "data block 12",
    ]
    assert [finding.offset for finding in findings] == [
        data_at + number * 4096 for number in (5, 6, 12)
    ]
    ranges = [finding.affected.ranges for finding in findings if finding.affected]
    assert ranges == [((20480, 24576),), ((24576, 28672),), ((49152, 53000),)]
    assert findings[2].affected is not None
    assert findings[2].affected.nbytes == 53000 - 49152


async def test_damage_to_what_was_superseded_names_the_version_that_needs_it() -> None:
    bench = await written(3000, 1000)
    at = bench.store.body(name(1)).index(b"\x01" * 3000)
    flip(bench.store, name(1), 8 * at)
    finding = only((await verified(bench.store)).errors)
    assert finding.affected is not None
    assert (finding.affected.checkpoint, finding.affected.ranges) == (1, ((0, 3000),))


async def test_all_damage_is_named_not_the_first_alone() -> None:
    bench = await written(3000, 50_000, 60_000, 10, 10)
    flip(bench.store, name(1), 8 * 220)
    flip(bench.store, name(2), 8 * 5000)
    flip(bench.store, name(3), 8 * 10_000)
    flip(bench.store, name(4), 8 * 20)
    flip(bench.store, name(5), 8 * (len(bench.store.body(name(5))) - 30))
    flip(bench.store, INODE, 8 * 73)
    findings = (await verified(bench.store)).errors
    assert [(finding.object, finding.what) for finding in findings] == [
        (name(1), "entries"),
        (name(2), "map node 0"),
        (name(3), "data block 0"),
        (name(4), "header"),
        (name(5), "trailer"),
        (INODE, "inode"),
    ]


async def test_a_missing_object_is_named_once_with_all_that_it_held() -> None:
    bench = await written(300_000, 300_000, 10, 10)
    del bench.store.objects[name(1)]
    finding = only((await verified(bench.store)).errors)
    assert (finding.object, finding.what) == (name(1), "object")
    assert finding.problem == "an object that is needed is not there"
    assert finding.affected is not None
    # Its last, partial block was taken up by the second checkpoint.
    assert finding.affected.ranges == ((0, 300_000 // 4096 * 4096),)


async def test_a_short_object_is_named() -> None:
    bench = await written(300_000, 10)
    bench.store.put(name(1), bench.store.body(name(1))[:200_000])
    finding = only((await verified(bench.store)).errors)
    assert finding.object == name(1)
    assert "fewer than" in finding.problem


async def test_bytes_behind_the_data_of_somebody_else_are_a_note() -> None:
    store = golden_store("parted")
    store.put("parted/0000000002.0", store.body("parted/0000000002.0") + b"more")
    report = await verified(store, "parted")
    assert report.sound
    assert only(report.notes).problem == "4 bytes of unknown origin stand behind the data"


async def test_a_damaged_inode_does_not_keep_the_rest_from_being_verified() -> None:
    bench = await written(3000, 50_000)
    flip(bench.store, INODE, 8 * 44)
    flip(bench.store, name(2), 8 * 9000)
    findings = (await verified(bench.store)).errors
    assert [(finding.object, finding.what) for finding in findings] == [
        (name(2), "data block 0"),
        (INODE, "inode"),
    ]


async def test_an_inode_changed_without_a_checkpoint_is_a_note() -> None:
    bench = await written(3000)
    inode = bench.inode
    bench.store.put(INODE, inode[:48] + struct.pack("<I", 12) + inode[52:])
    report = await verified(bench.store)
    assert report.sound
    assert only(report.notes).problem.startswith("it was changed after checkpoint 1")


async def test_the_flag_of_a_compaction_needs_its_metadata() -> None:
    store = golden_store("compaction-attached")
    store.objects["compaction-attached/inode"].metadata.clear()
    assert (
        "contradicts its metadata"
        in only((await verified(store, "compaction-attached")).errors).problem
    )


async def test_what_is_not_there_is_no_finding() -> None:
    with pytest.raises(NoSuchContainer):
        await verify_container(MemoryStore(), "nothing")


async def test_errors_of_the_store_are_its_own() -> None:
    bench = await written(3_000_000)
    fail_once(bench.store, "get", ".0", after=False)
    with pytest.raises(StoreRetry):
        await verify_container(bench.store, KEY)
    assert len(asyncio.all_tasks()) == 1


async def test_the_list_of_findings_has_a_limit_and_the_count_has_none() -> None:
    bench = await written(6_000_000)
    body = bytearray(bench.store.body(name(1)))
    at = body.index(b"\x01" * 4096)
    for block in range(1400):
        body[at + 4096 * block] ^= 1
    bench.store.put(name(1), bytes(body))
    report = await verify_container(bench.store, KEY)
    assert (len(report.errors), report.error_count) == (1000, 1400)


# -- what a faulty writer may have written: checksums that fit, a structure that does not -------


def leaf_values(number: int, slot: int) -> int:
    """Offset of a value in the leaf that is the first map node of a small checkpoint object."""
    return 4096 + 8 + 255 * 8 + 8 * slot


def place(number: int, offset: int, part: int = 0) -> bytes:
    return struct.pack("<Q", 1 << 62 | number << 32 | offset // 4096 << 14 | part)


@pytest.mark.parametrize(
    ("offset", "data", "problem"),
    [
        (leaf_values(2, 3), place(1, 1 << 20), "where no data block begins"),
        (leaf_values(2, 3), place(3, 8192), "leads to a later checkpoint"),
        (leaf_values(2, 3), place(2, 4096), "where no data block begins"),
        (leaf_values(2, 3), place(2, 8192), "an entry with its own index (block 3)"),
        (leaf_values(2, 3), place(77, 8192), "an object that is needed is not there"),
        (leaf_values(2, 3), struct.pack("<Q", 1 << 63), "no pointer of its kind"),
        (4096 + 8 + 8 * 3, struct.pack("<Q", 2), "do not ascend"),
        (4096 + 8 + 8 * 12, struct.pack("<Q", 500), "an entry with its own index (block 500)"),
        (4096, b"\x00", "cannot have level 1 and flags 0"),
        (4096 + 2, b"\x00\x00", "cannot have 0 children"),
        (24 + 104 + 8, struct.pack("<Q", 1), "first key 0 is not its key 1 in its parent"),
        (24 + 104 + 1, b"\x03", "has level 1 where 2 belongs"),
        (24 + 72, struct.pack("<Q", 4096), "no block lies past the end of the file"),
        (24 + 80, struct.pack("<Q", 8), "blocks is entries x block size / 512: 13 entries"),
        (24 + 96, struct.pack("<QQ", 1, 0)[:8], "an inode of checkpoint 1 stands in checkpoint 2"),
        (208 + 16, struct.pack("<Q", 0), "entry 1 does not ascend"),
        (208 + 24, place(1, 8192), "entry 1 does not point to its data block"),
        (4000, b"x", "entries are not followed by zeros"),
    ],
)
async def test_a_structure_that_is_wrong_is_found_behind_good_checksums(
    offset: int, data: bytes, problem: str
) -> None:
    bench = await written(3000, 50_000, 10)
    rewrite(bench.store, name(2), offset, data)
    report = await verified(bench.store)
    assert any(problem in finding.problem for finding in report.errors), report.errors
    assert {finding.object for finding in report.errors} <= {name(2), name(3), name(77)}


async def test_children_that_overlap_are_found() -> None:
    bench = await written(1_200_000)
    body = bench.store.body(name(1))
    # The root has two leaves; the first one's last key, of a block of zeros, reaches into the
    # second one.
    meta_at = -(-struct.unpack_from("<I", body, 8)[0] // 4096) * 4096
    rewrite(bench.store, name(1), meta_at + 8 + 8 * 254, struct.pack("<Q", 260))
    zero = struct.pack("<Q", 0x3FFF_FFFF_0000_0000)
    rewrite(bench.store, name(1), meta_at + 8 + 8 * 255 + 8 * 254, zero)
    findings = (await verified(bench.store)).errors
    assert any(
        "last key 260 is not below the next child's 255" in each.problem for each in findings
    )
