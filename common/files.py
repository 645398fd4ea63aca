"""Files that are written whole or not at all, by one process at a time, and mistakes that are told in one line."""

import contextlib
import errno
import os
import pathlib
import sys
import tempfile
import time

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

POLL = 0.2  # seconds between two looks at a lock that another process holds


class BadInput(Exception):
    """A mistake in a file, an image or a flag that the user can mend.

    The message is one line: the file, what was found, what was expected, what to do. `common.program.run` prints it
    without a traceback and ends with exit status 2.
    """


@contextlib.contextmanager
def written_whole(path):
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, else delete it.

    A reader therefore sees the old file or the new one, never half of one, whenever the writer is stopped.
    """
    path = pathlib.Path(path)
    temporary = _temporary(path)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are private; this one is an ordinary file
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); free space or choose another place") from None
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path):
    """Raise `BadInput` when `path` cannot be written: before minutes of work, not after them."""
    _temporary(pathlib.Path(path)).unlink()


def _temporary(path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    os.close(handle)
    return pathlib.Path(temporary)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def one_at_a_time(path, waiting):
    """Let one process at a time run the block; the others print `waiting` to stderr, once, and wait for their turn.

    `path` is an empty file that stands for what they share, there while the block runs. The lock belongs to the process
    and goes with it, however it ends. On a file system without locks nobody waits.
    """
    path = pathlib.Path(path)
    told = False
    while not (file := _locked(path)):
        if not told:
            print(waiting, file=sys.stderr, flush=True)
            told = True
        time.sleep(POLL)
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows deletes no open file; there it stays
                path.unlink()


def _locked(path):
    """Return the file at `path`, open and locked, or None when another process holds the lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    try:
        if os.name == "nt":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):  # others: locks are not known here
            file.close()
            return None
    try:
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except FileNotFoundError:
        pass
    file.close()  # the process before us has just deleted it: a lock on it would keep nobody out
    return None
