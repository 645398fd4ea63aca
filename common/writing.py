"""Files of ours are written whole or not at all, and it is known before a long run that they can be."""

import contextlib
import errno
import glob
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

from common.errors import OF_A_PATH, BadInput, reported
from common.files import hash_record, lock, make_folder, open_without_waiting

STALE = 60  # seconds after which a temporary file that nobody has locked is a killed writer's


def record_hash(path: str | os.PathLike, digest: str) -> None:
    """Note the SHA-256 of a file, in hexadecimal, beside it."""
    with written_whole(hash_record(path)) as temporary:
        temporary.write_text(f"{digest}  {pathlib.Path(path).name}\n")


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
