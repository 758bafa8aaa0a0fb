"""Files: containers as files that are read and written at random.

    handle        `HyperFile`: what a caller holds
    dirty         what has been changed and not flushed
    content       what a stored state holds
    write_ahead   changes that went to the store before their checkpoint
    map_update    the block map with a batch of changes
    build         the objects of one checkpoint
    transfer, diff, rollback, removal   whole containers and their versions

Nothing here knows of agents, sockets or logs.
"""

from __future__ import annotations
