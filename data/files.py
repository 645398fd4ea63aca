"""Files that are written whole or not at all, and mistakes that are told in one line."""

import contextlib
import errno
import os
import pathlib
import tempfile

DATA_DIR = pathlib.Path(__file__).resolve().parent


class BadInput(Exception):
    """A mistake in a file, a picture or a flag that the user can mend.

    The message is one line: the file, what was found, what was expected, what to do. `data.program.run` prints it
    without a traceback and ends with exit status 2.
    """


@contextlib.contextmanager
def written_whole(path):
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, else delete it.

    A reader therefore sees the old file or the new one, never half of one, whenever the writer is stopped.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    os.close(handle)
    try:
        yield pathlib.Path(temporary)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are private; this one is an ordinary file
        os.replace(temporary, path)
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
