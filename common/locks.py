"""Locks between processes: only one at a time uses what they share.

A lock is held on an empty file that stands for what is shared. The system releases it when the process ends, however it
ends; a killed one leaves the file behind, which then means nothing.
"""

import contextlib
import errno
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

from common.errors import BadInput, reported
from common.files import lock, make_folder, open_without_waiting

POLL = 0.2  # seconds between two looks at a lock that another process holds
TRIES = 20  # a lock that is another file at each look: on a file system that numbers its files anew each time


@contextlib.contextmanager
def one_at_a_time(path: str | os.PathLike, waiting: str) -> Iterator[None]:
    """Let one process at a time run the block; the others print `waiting` to stderr, once, and wait for their turn.

    path: of the lock. On a file system without locks nobody waits.
    """
    path = pathlib.Path(path)
    told = False
    while not (file := _locked(path)):
        if not told:
            print(waiting, file=sys.stderr, flush=True)
            told = True
        time.sleep(POLL)
    with _held(path, file):
        yield


@contextlib.contextmanager
def exclusive(path: str | os.PathLike, refusal: str) -> Iterator[None]:
    """Let the block run unless another process is in it: then `BadInput` with the message `refusal`."""
    path = pathlib.Path(path)
    file = _locked(path)
    if file is None:
        raise BadInput(refusal)
    with _held(path, file):
        yield


def is_held(path: str | os.PathLike) -> bool:
    """Whether a process is in a block with this lock; False in a folder that cannot be written, where none can be."""
    held = "held"
    try:
        with exclusive(path, held):
            return False
    except BadInput as error:
        return str(error) == held


@contextlib.contextmanager
def _held(path: pathlib.Path, file: BinaryIO) -> Iterator[None]:
    """Keep the lock on the open file at `path` while the block runs; then delete the file."""
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows deletes no open file; there it stays
                path.unlink()


def _locked(path: pathlib.Path) -> BinaryIO | None:
    """Return the file at `path`, open and locked, or None when another process holds the lock."""
    for _ in range(TRIES):
        file = _opened(path)
        if not _lock(file):
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # the process before us has just deleted it: a lock on it would keep nobody out
    return _opened(path)  # without a lock: nobody waits, as on a file system that has none


def _opened(path: pathlib.Path) -> BinaryIO:
    """Return the file at `path`, open; it is made if need be. `BadInput` where it cannot be."""
    with reported(path, advice="choose another place"):
        make_folder(path.parent)
        if path.is_symlink():  # in a folder from elsewhere; opened, it would make a file wherever it leads
            path.unlink()
        return open(path, "ab", opener=open_without_waiting)


def _lock(file: BinaryIO) -> bool:
    """Lock the open file; False, and it is closed, when another process holds the lock."""
    try:
        lock(file.fileno())
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):  # others: locks are not known here
            file.close()
            return False
    return True
