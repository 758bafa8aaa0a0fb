"""The objects of one checkpoint of a file, for the commit: sealed for a number, as bytes.

Data blocks are not copied: they must not change before the commit is over.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Sequence
from dataclasses import replace

from hf_agent.hyperfile.file.layout import lay_out
from hf_agent.hyperfile.file.map_changes import NewLeaf, NewMap
from hf_agent.hyperfile.file.map_view import MapNode
from hf_agent.hyperfile.file.object_encoding import (
    Block,
    ObjectIdentity,
    child_pointers,
    encode_nodes,
    encode_object,
    leaf_values,
    new_pointers,
)
from hf_agent.hyperfile.file.write_ahead import WriteAhead
from hf_agent.hyperfile.inode import FLAG_COMPACTION, FLAG_MOVED, Inode
from hf_agent.hyperfile.nodes import Node, Root, encode_root
from hf_agent.hyperfile.pointers import Place, encode_place

__all__ = ["FileBuild"]

_SECTOR = 512
"""Unit of an inode's `blocks`."""


class FileBuild:
    """One checkpoint in the making."""

    def __init__(
        self,
        inode: Inode,
        new_map: NewMap,
        user_data: int,
        *,
        written: array[int],
        blocks: Sequence[Block],
        in_memory: array[int],
        ahead: WriteAhead,
        part_bytes: int,
    ) -> None:
        """`inode` is the new one but for its map and numbers. `written` are the indexes of all
        blocks with new data, `in_memory` those that are not written ahead, with their `blocks`.

        Raises `CheckpointTooLarge`.
        """
        self._base = inode
        self._map = new_map
        self._user_data = user_data
        self._written = written
        self._blocks = blocks
        self._in_memory = in_memory
        self._ahead = ahead
        self._layouts = lay_out(
            inode.meta,
            meta_blocks=len(new_map.nodes),
            data_blocks=len(blocks),
            part_bytes=part_bytes,
        )
        self._sealing = threading.Lock()
        self._places: array[int] = array("Q")
        self.part_numbers: list[int] = []
        """Of the objects, in the order of the layouts; the first is 0."""
        self.bodies: list[list[Block]] = []
        """What the objects hold, in the same order; once sealed."""
        self.number = 0
        """Checkpoint number; 0 before the build is sealed."""
        self.inode_bytes = b""
        """The inode that the container has with this checkpoint."""

    @property
    def object(self) -> Sequence[Block]:
        """The object that is the checkpoint itself."""
        return self.bodies[0]

    @property
    def object_bytes(self) -> int:
        """How much there is to seal."""
        return sum(layout.size for layout in self._layouts)

    def seal(self, *, number: int, base: int, now_ns: int, writer_id: bytes, position: int) -> None:
        """Fill in all that is not data. May be called again, with another number.

        Takes time in proportion to the size of the data; may be called from any thread.
        `now_ns` is not used: the inode's times are set already. The position is always 0.
        """
        # A caller that was cancelled may come again while its first call still runs elsewhere.
        with self._sealing:
            self._seal(number, base, writer_id)

    def _seal(self, number: int, base: int, writer_id: bytes) -> None:
        if not self.part_numbers or self.number != number:
            first = self._ahead.next_part(number)
            self.part_numbers = [0, *range(first, first + len(self._layouts) - 1)]
        self._places = self._place_blocks(number)
        self._place_nodes(number)
        inode = self._inode(number)
        bodies, taken = [], 0
        for part, layout in zip(self.part_numbers, self._layouts, strict=True):
            end = taken + layout.data_blocks
            nodes = self._map.nodes if layout.meta_blocks else ()
            body = encode_object(
                layout,
                ObjectIdentity(number, part, base, inode, writer_id),
                nodes=encode_nodes(nodes, self._places, self._base.meta.meta_block_size),
                indexes=self._in_memory[taken:end],
                pointers=new_pointers(layout, number, part),
                blocks=self._blocks[taken:end],
            )
            bodies.append(body)
            taken = end
        self.bodies, self.inode_bytes, self.number = bodies, inode, number

    def _place_blocks(self, number: int) -> array[int]:
        """Pointers of all new blocks, by their ranks."""
        places = array("Q")
        for part, layout in zip(self.part_numbers, self._layouts, strict=True):
            places.extend(new_pointers(layout, number, part))
        if not self._ahead:
            return places
        in_memory = iter(places)
        return array(
            "Q",
            (
                self._ahead.pointer(index) if index in self._ahead else next(in_memory)
                for index in self._written
            ),
        )

    def _place_nodes(self, number: int) -> None:
        layout, meta = self._layouts[0], self._base.meta
        for sequence, node in enumerate(self._map.nodes):
            place = Place(number, 0, layout.meta_offset + sequence * meta.meta_block_size)
            node.pointer = encode_place(place, meta.pointer_format, sequence=sequence)

    def _inode(self, number: int) -> bytes:
        node = self._map.root
        values = (
            leaf_values(node, self._places) if isinstance(node, NewLeaf) else child_pointers(node)
        )
        root = Root(
            Node(node.level, list(node.keys), list(values)), self._map.direct, self._user_data
        )
        return replace(
            self._base,
            root=encode_root(root),
            blocks=self._map.entries * (self._base.meta.data_block_size // _SECTOR),
            last_seq=number,
            last_cno=number,
            # An attached compaction is dropped; and this checkpoint does more than move blocks.
            flags=self._base.flags & ~(FLAG_COMPACTION | FLAG_MOVED),
        ).encode()

    def placed_nodes(self) -> list[tuple[int, MapNode]]:
        """The new map nodes with their pointers, as they stand on the store. Sealed builds only."""
        found = []
        for node in self._map.nodes:
            values = (
                leaf_values(node, self._places)
                if isinstance(node, NewLeaf)
                else child_pointers(node)
            )
            found.append((node.pointer, MapNode(node.level, node.keys, values)))
        return found
