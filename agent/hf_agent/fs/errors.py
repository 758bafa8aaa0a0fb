"""Errors of containers and stores as those that the users of file systems expect.

Each has the original as its cause. A writer that another one overtook gets `ConflictError` as it
is: no error of a file system says that.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hf_agent.hyperfile import (
    ConflictError,
    ContainerExists,
    HyperfileError,
    NoCheckpointThen,
    NoSuchCheckpoint,
    NoSuchContainer,
    ReadOnlyLayout,
    StaleVersion,
)
from hf_agent.store.base import StoreError, StoreNotFound, StoreRefused, StoreRetry

__all__ = ["os_errors"]


@contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Raise what the body raises as `OSError`s of `path`.

    `FileNotFoundError`: no container, or no such checkpoint. `FileExistsError`. `PermissionError`:
    the store refuses, or the layout is not written. `TimeoutError`: the store was away for longer
    than it is tried again. `OSError(ESTALE)`: objects of the version that was opened were removed;
    open it again. `OSError(EIO)`: damage.
    """
    try:
        yield
    except NoSuchContainer as error:
        raise FileNotFoundError(errno.ENOENT, "no container there", path) from error
    except (NoSuchCheckpoint, NoCheckpointThen, StoreNotFound) as error:
        raise FileNotFoundError(errno.ENOENT, str(error), path) from error
    except ContainerExists as error:
        raise FileExistsError(errno.EEXIST, "a container is there already", path) from error
    except ConflictError:
        raise
    except ReadOnlyLayout as error:
        raise PermissionError(errno.EACCES, str(error), path) from error
    except StaleVersion as error:
        raise OSError(errno.ESTALE, str(error), path) from error
    except HyperfileError as error:
        raise OSError(errno.EIO, str(error), path) from error
    except StoreRefused as error:
        raise PermissionError(errno.EACCES, str(error), path) from error
    except StoreRetry as error:
        raise TimeoutError(errno.ETIMEDOUT, str(error), path) from error
    except StoreError as error:
        raise OSError(errno.EIO, str(error), path) from error
