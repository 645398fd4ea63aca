"""Files: foreign ones are read with care, ours are written whole or not at all; mistakes are reported in one line."""

import contextlib
import errno
import glob
import hashlib
import os
import pathlib
import re
import shutil
import stat
import tempfile
import time
import unicodedata
import warnings
from collections.abc import Iterator
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

JOINERS = "\u200c\u200d"  # join or part the letters of Persian and of India's scripts
STALE = 60  # seconds after which a temporary file that nobody has locked is a killed writer's
LONGEST_MESSAGE = 500  # characters
LONGEST_REASON = 150  # characters of a reader's own words
OF_A_PATH = (OSError, ValueError)  # what a path from elsewhere may raise; ValueError: a null character in it
NOT_REGULAR = {
    stat.S_IFDIR: "is a folder", stat.S_IFIFO: "is a pipe", stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device", stat.S_IFBLK: "is a device",
}  # fmt: skip


class BadInput(Exception):
    """A mistake in a file, an image or a flag that the user can correct.

    The message is one line: the file, what was found, what was expected, what to do. `common.program.run` prints it
    without a traceback and ends with exit status 2. Whatever a foreign name puts into it, it stays printable and at
    most LONGEST_MESSAGE characters long; if it is longer, both ends are kept (the file, and what to do).
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(message, LONGEST_MESSAGE))


def printable(text: object, longest: int | None = None) -> str:
    """`text` as one printable line: control characters and line breaks escaped, the middle left out if too long."""
    text = "".join(
        character if is_text(character) else character.encode("unicode_escape").decode() for character in str(text)
    )
    if longest is None or len(text) <= longest:
        return text
    head = (longest - 5) * 3 // 5
    return f"{text[:head]} ... {text[head + 5 - longest :]}"


def is_text(character: str) -> bool:
    """Whether a character may stand in a class's name: what can be printed, spaces of all scripts, their joiners."""
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def open_regular(path: str | os.PathLike, expected: str = "a file") -> BinaryIO:
    """Open a file from elsewhere to read its bytes; `BadInput` unless it is a regular file, or a link to one.

    A pipe without a writer or a device such as /dev/zero would otherwise be read for ever. `expected` says in the
    message what the path should lead to. Every package opens foreign files with this.
    """
    with reported(path, "cannot be read", f"give the path of {expected}", OF_A_PATH):
        _check_regular(os.stat(path))  # before opening: some devices act when they are opened
        file = open(path, "rb", opener=open_without_waiting)
        try:
            _check_regular(os.fstat(file.fileno()))  # the path may lead elsewhere by now
        except BaseException:
            file.close()
            raise
        return file


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, NOT_REGULAR.get(stat.S_IFMT(status.st_mode), "is no regular file"))


def open_without_waiting(path: str, flags: int) -> int:
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


@contextlib.contextmanager
def reported(
    path: object,
    problem: str = "cannot be written",
    advice: str = "free space or choose another place",
    errors: type[Exception] | tuple[type[Exception], ...] = OSError,
) -> Iterator[None]:
    """Turn what the system refuses in this block into a `BadInput`: "<path>: <problem> (<its reason>); <advice>"."""
    try:
        yield
    except errors as error:
        raise BadInput(f"{path}: {problem} ({reason(error)}); {advice}") from None


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


def start_of(path: str | os.PathLike, size: int = 2000) -> str:
    """The first `size` bytes of a small text of ours; an empty one where it is absent, damaged or something else."""
    try:
        with open_regular(path) as file:
            return file.read(size).decode()
    except (BadInput, OSError, UnicodeDecodeError):
        return ""


def file_hash(path: str | os.PathLike, name: str) -> str:
    """Return the hash `name` ("md5", "sha1", "sha256") of a file in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, name).hexdigest()


def hash_record(path: str | os.PathLike) -> pathlib.Path:
    """Where the SHA-256 of a file stands, as `sha256sum -c` reads it."""
    path = pathlib.Path(path)
    return path.parent / f"{path.name}.sha256"  # with_name() does not take "."


def record_hash(path: str | os.PathLike, digest: str) -> None:
    """Note the SHA-256 of a file, in hexadecimal, beside it."""
    with written_whole(hash_record(path)) as temporary:
        temporary.write_text(f"{digest}  {pathlib.Path(path).name}\n")


def recorded_hash(path: str | os.PathLike) -> str | None:
    """Return the SHA-256 that was noted beside the file, or None."""
    words = start_of(hash_record(path)).split()
    return words[0] if words and re.fullmatch("[0-9a-f]{64}", words[0]) else None


def make_folder(path: pathlib.Path) -> None:
    """Make a folder, and those above it, unless it is there; an OSError says which of them is a file."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        above = next(above for above in (path, *path.parents) if os.path.lexists(above))
        raise NotADirectoryError(errno.ENOTDIR, f"{above} is no folder") from None


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, keep: bool = False) -> Iterator[pathlib.Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, else delete it.

    A reader therefore sees the old file or the new one, never half of one, whenever the writer is stopped. What a
    killed writer has left behind is deleted by the next one. keep: of several writers the first one wins, and what
    lies at `path` by then is left as it is.
    """
    path = pathlib.Path(path)
    handle, temporary = _temporary(path)
    try:
        with reported(path):
            yield temporary
            with contextlib.suppress(OSError):  # refused on file systems without permissions
                os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are private; this one is an ordinary file
            if os.name == "nt":  # renames no open file
                os.close(handle)
                handle = None
            if not (keep and _linked(temporary, path)):
                os.replace(temporary, path)
    finally:
        if handle is not None:
            os.close(handle)
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(folder: str | os.PathLike, last: str) -> Iterator[pathlib.Path]:
    """The same for a folder, which may be there, empty: then it is filled, and the entry `last` comes last.

    An empty folder is not replaced: it may be where the user stands, a link's, or another disk's.
    """
    folder = pathlib.Path(folder).resolve()
    with reported(folder):
        make_folder(folder.parent)
        _clear_away(folder)
        temporary = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
        handle = None if os.name == "nt" else os.open(temporary, os.O_RDONLY)  # Windows opens no folder
        try:
            if handle is not None:
                with contextlib.suppress(OSError):  # no locks on this file system
                    lock(handle)
            yield temporary
            if folder.is_dir():
                _fill(folder, sorted(temporary.iterdir(), key=lambda entry: entry.name == last))
            else:
                os.chmod(temporary, 0o777 & ~_umask())  # mkdtemp's folders are private
                temporary.rename(folder)
        finally:
            if handle is not None:
                os.close(handle)
            shutil.rmtree(temporary, ignore_errors=True)


def _fill(folder: pathlib.Path, entries: list[pathlib.Path]) -> None:
    """Move files and folders into an empty folder: all, or none."""
    try:
        for entry in entries:
            shutil.move(entry, folder / entry.name)
    except BaseException:
        for moved in (folder / entry.name for entry in entries):
            with contextlib.suppress(OSError):
                shutil.rmtree(moved) if moved.is_dir() else moved.unlink()
        raise


def _linked(temporary: pathlib.Path, path: pathlib.Path) -> bool:
    """Give the file its second name unless another one has it; False on a file system without links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:
        return os.path.lexists(path)
    return True


def check_writable(path: str | os.PathLike, advice: str = "choose another place") -> None:
    """Raise `BadInput` when `path` cannot be written: before minutes of work, not after them."""
    handle, temporary = _temporary(pathlib.Path(path), advice)
    os.close(handle)
    temporary.unlink()


def check_utf8(path: str | os.PathLike, advice: str) -> None:
    """`BadInput` for a path that TensorFlow cannot name: not of UTF-8, as on disks of the nineties."""
    try:
        str(pathlib.Path(path).absolute()).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{path}: is not UTF-8 text, which TensorFlow needs; {advice}") from None


def check_new_folder(folder: str | os.PathLike, flag: str) -> None:
    """Raise `BadInput` when the folder that `flag` names cannot be made, or has files in it; early, as above."""
    folder = pathlib.Path(folder).absolute()
    with reported(folder, "cannot be read", f"name another folder with {flag}"):
        occupied = os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir()))
    if occupied:
        raise BadInput(f"{folder}: exists already; name another folder with {flag}, or delete it")
    folder = folder.resolve()
    check_writable(folder.parent / f"{folder.name}.part")


def check_new_file(path: str | os.PathLike, flag: str) -> None:
    """Raise `BadInput` when the file that `flag` names is there, or cannot be written; early, as above."""
    if os.path.lexists(path):
        raise BadInput(f"{path}: exists already; name another file with {flag}, or delete it")
    check_writable(path)


def _temporary(path: pathlib.Path, advice: str = "choose another place") -> tuple[int, pathlib.Path]:
    """A new file beside `path`: its handle, locked as long as it is open, and its path."""
    with reported(path, advice=advice, errors=OF_A_PATH):
        make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        _clear_away(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    if os.name != "nt":  # where a locked file is closed to its own writer, too
        with contextlib.suppress(OSError):  # no locks on this file system
            lock(handle)
    return handle, pathlib.Path(temporary)


def _clear_away(path: pathlib.Path) -> None:
    """Delete the temporary files and folders of killed writers of `path`: old enough to be locked, and not locked."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if os.name != "nt" and time.time() - left.stat().st_mtime > STALE:
                handle = open_without_waiting(left, os.O_RDONLY)
                try:
                    lock(handle)
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                finally:
                    os.close(handle)


def regular_or_absent(path: pathlib.Path) -> os.stat_result | None:
    """The status of a file of ours, None where there is none. A pipe, device or link in its place is deleted."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISREG(status.st_mode):
        return status
    path.unlink()  # of a folder this is an OSError, which names it
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def lock(handle: int) -> None:
    """Lock an open file until it is closed; OSError when another process holds the lock."""
    if os.name == "nt":
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
