"""Files: foreign ones opened and read with care, ours written whole or not at all; mistakes told in one line."""

import contextlib
import errno
import os
import pathlib
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

POLL = 0.2  # seconds between two looks at a lock that another process holds
LONGEST_MESSAGE = 500  # characters
LONGEST_REASON = 150  # characters of a reader's own words
NOT_REGULAR = {
    stat.S_IFDIR: "is a folder", stat.S_IFIFO: "is a pipe", stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device", stat.S_IFBLK: "is a device",
}  # fmt: skip


class BadInput(Exception):
    """A mistake in a file, an image or a flag that the user can mend.

    The message is one line: the file, what was found, what was expected, what to do. `common.program.run` prints it
    without a traceback and ends with exit status 2. Whatever a foreign name puts into it, it stays printable and at
    most LONGEST_MESSAGE characters long; of a longer one, both ends are kept (the file, and what to do).
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(message, LONGEST_MESSAGE))


def printable(text: object, longest: int | None = None) -> str:
    """`text` as one printable line: control characters and line breaks escaped, the middle left out if too long."""
    text = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )
    if longest is None or len(text) <= longest:
        return text
    head = (longest - 5) * 3 // 5
    return f"{text[:head]} ... {text[head + 5 - longest :]}"


def open_regular(path: str | os.PathLike, expected: str = "a file", buffering: int = -1) -> BinaryIO:
    """Open a file from elsewhere to read its bytes; `BadInput` unless it is a regular file, or a link to one.

    A pipe without a writer or a device such as /dev/zero would otherwise be read for ever. `expected` says in the
    message what the path should lead to. Every room opens foreign files with this.
    """
    try:
        _check_regular(os.stat(path))  # before opening: some devices act when they are opened
        file = open(path, "rb", buffering=buffering, opener=_open_without_waiting)
        try:
            _check_regular(os.fstat(file.fileno()))  # the path may lead elsewhere by now
        except BaseException:
            file.close()
            raise
        return file
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read ({reason}); give the path of {expected}") from None


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, NOT_REGULAR.get(stat.S_IFMT(status.st_mode), "is no regular file"))


def _open_without_waiting(path: str, flags: int) -> int:
    """Should a pipe lie in a file's place, `open` would wait for whoever opens its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


@contextlib.contextmanager
def foreign(path: object, expected: str, advice: str = "delete it, and fetch or make it again") -> Iterator[None]:
    """Turn whatever a reader raises on a damaged or crafted file into a `BadInput`; keep its warnings back.

    path: the file's name for the message. expected: what it should have been, "a .npz of arrays". To be put around the
    reader's call alone, not around our own code, whose mistakes it would hide: readers raise nearly anything
    (SyntaxError, MemoryError, zlib.error, RecursionError ...), so nearly everything is caught.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats, odd metadata, escapes in a damaged header
            yield
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{path}: is damaged, or not {expected} ({reason(error)}); {advice}") from None


def reason(error: Exception) -> str:
    """What an exception says, as a short piece of a line."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return printable(f"{error} is missing", LONGEST_REASON)
    text = getattr(error, "strerror", None) or str(error)
    return printable(" ".join(text.split()) or type(error).__name__, LONGEST_REASON)


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
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


def check_writable(path: str | os.PathLike) -> None:
    """Raise `BadInput` when `path` cannot be written: before minutes of work, not after them."""
    _temporary(pathlib.Path(path)).unlink()


def _temporary(path: pathlib.Path) -> pathlib.Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    os.close(handle)
    return pathlib.Path(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def one_at_a_time(path: str | os.PathLike, waiting: str) -> Iterator[None]:
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


def _locked(path: pathlib.Path) -> BinaryIO | None:
    """Return the file at `path`, open and locked, or None when another process holds the lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab", opener=_open_without_waiting)
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
