"""Users and groups by name or number, as this machine knows them."""

from __future__ import annotations

import grp
import pwd

__all__ = ["group_id", "user_id"]


def user_id(user: str) -> int:
    """The number of a user. Raises `KeyError` if there is none of this name."""
    return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid


def group_id(group: str) -> int:
    """The number of a group. Raises `KeyError` if there is none of this name."""
    return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
