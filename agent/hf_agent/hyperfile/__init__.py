"""Hyperfile containers: a copy-on-write file in checkpoints on an object store.

Knows the format and a store's small protocol, and nothing of agents, sockets or logs. The page
`docs/hyperfile-format.md` describes every byte.
"""

from __future__ import annotations

from hf_agent.hyperfile.appender import Appender, CommitResult
from hf_agent.hyperfile.blocking.opening import open
from hf_agent.hyperfile.checkpoint_build import CheckpointBuild
from hf_agent.hyperfile.checkpoints import Checkpoint, checkpoint_at, list_checkpoints
from hf_agent.hyperfile.containers import ContainerStat, list_containers, stat_container
from hf_agent.hyperfile.errors import (
    AppenderStateError,
    CheckpointsExhausted,
    CheckpointTooLarge,
    ChecksumError,
    ConflictError,
    ContainerExists,
    FormatError,
    HyperfileError,
    MissingObject,
    NoCheckpointThen,
    NoSuchCheckpoint,
    NoSuchContainer,
    ReadOnlyLayout,
    StaleVersion,
)
from hf_agent.hyperfile.file.copying import copy
from hf_agent.hyperfile.file.diff import diff
from hf_agent.hyperfile.file.handle import HyperFile
from hf_agent.hyperfile.file.options import ByteRange, FileOptions, FileStat
from hf_agent.hyperfile.file.removal import remove
from hf_agent.hyperfile.file.rollback import rollback
from hf_agent.hyperfile.fingerprints import fingerprint
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.reader import Reader
from hf_agent.hyperfile.trailer import Trailer

__all__ = [
    "Appender",
    "AppenderStateError",
    "ByteRange",
    "Checkpoint",
    "CheckpointBuild",
    "CheckpointTooLarge",
    "CheckpointsExhausted",
    "ChecksumError",
    "CommitResult",
    "ConflictError",
    "ContainerExists",
    "ContainerStat",
    "FileOptions",
    "FileStat",
    "FormatError",
    "HyperFile",
    "HyperfileError",
    "Inode",
    "MissingObject",
    "NoCheckpointThen",
    "NoSuchCheckpoint",
    "NoSuchContainer",
    "ReadOnlyLayout",
    "Reader",
    "StaleVersion",
    "Trailer",
    "checkpoint_at",
    "copy",
    "diff",
    "fingerprint",
    "list_checkpoints",
    "list_containers",
    "open",
    "remove",
    "rollback",
    "stat_container",
]
