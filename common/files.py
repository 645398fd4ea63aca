"""Files are opened with care: those from elsewhere may be anything, and so may be what lies in the place of ours."""

import errno
import hashlib
import os
import pathlib
import re
import stat
from typing import BinaryIO

from common.errors import OF_A_PATH, BadInput, reported

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

NOT_REGULAR = {
    stat.S_IFDIR: "is a folder", stat.S_IFIFO: "is a pipe", stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device", stat.S_IFBLK: "is a device",
}  # fmt: skip


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
        raise OSError(errno.EINVAL, NOT_REGULAR.get(stat.S_IFMT(status.st_mode), "is not a regular file"))


def open_without_waiting(path: str, flags: int) -> int:
    """Should a pipe lie in a file's place, `open` would wait for whoever opens its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


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
        raise NotADirectoryError(errno.ENOTDIR, f"{above} is not a folder") from None


def check_utf8(path: str | os.PathLike, advice: str) -> None:
    """`BadInput` for a path that TensorFlow cannot name: not of UTF-8, as on disks of the nineties."""
    try:
        str(pathlib.Path(path).absolute()).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{path}: is not UTF-8 text, which TensorFlow needs; {advice}") from None


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


def lock(handle: int) -> None:
    """Lock an open file until it is closed; OSError when another process holds the lock."""
    if os.name == "nt":
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
