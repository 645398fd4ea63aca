"""How every script starts and ends: TensorFlow kept quiet, mistakes reported in one line, exit status 2.

A script imports this module before the slow ones (NumPy, SciPy ...): from then on Ctrl-C shows no traceback.
"""

import atexit
import contextlib
import errno
import io
import os
import pathlib
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TextIO

from common.errors import BadInput, printable, reason
from common.files import check_utf8

ADVICE = "free space, or choose another place"
SYSTEM_REASONS = {os.strerror(code) for code in errno.errorcode}  # "No space left on device" ...
INTERRUPTED = 130  # exit status of what Ctrl-C ends: 128 and the signal's number, 2


def run(main: Callable[[], None]) -> None:
    """Call `main()`; a `BadInput` becomes one line on stderr and exit status 2, Ctrl-C exit status 130.

    So do a full disk, a path that the system refuses, and a lack of memory, TensorFlow's too. Output that is no longer
    read (`| head`) is not a mistake. Characters that the terminal cannot show are escaped.

    The scripts import TensorFlow inside their functions, when it is first needed: `--help` and a mistyped flag
    are then answered at once, and the settings below are in force before TensorFlow reads them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's C++ log: errors only (0 shows all)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status = _status(main)
    try:
        if sys.stdout:  # None: closed by the caller
            sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            status = _told(_refusal(error))
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # all is done; TensorFlow takes a second to close
    if status:
        sys.exit(status)


def _status(main: Callable[[], None]) -> int | str | None:
    """The exit status of `main()`, after its mistake has been reported."""
    try:
        main()
    except BadInput as error:
        return _told(error)
    except SystemExit as error:  # argparse's
        return error.code
    except BrokenPipeError:
        return 0
    except BaseException as error:
        if _is_interrupt(error):
            return INTERRUPTED
        told = _told_of(error)
        if not told:
            raise
        return _told(told)
    return 0


def shown(path: str | os.PathLike) -> str:
    """The path as a person would type it here, on one printable line."""
    path, here = pathlib.Path(path), pathlib.Path.cwd()
    return printable(path.relative_to(here) if path.is_relative_to(here) else path)


def _told_of(error: BaseException) -> object:
    """The line for an error of the system, from Python or TensorFlow; None for any other, which is a fault of ours."""
    if isinstance(error, OSError):
        return _refusal(error)
    if isinstance(error, MemoryError):
        return _out_of_memory(error)
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)  # not imported for this
    if not (errors and isinstance(error, errors.OpError)):
        return None
    line = re.sub(r"\{\{.*?\}\} |\s*\[(\[|Op:).*", "", error.message, flags=re.DOTALL)  # without where, in our graph
    path, _, told = line.rpartition("\n")[2].rpartition("; ")
    if told in SYSTEM_REASONS:
        return BadInput(f"{path}: {told}; {ADVICE}")
    if isinstance(error, errors.ResourceExhaustedError):
        shape = re.search(r"shape ?\[[\d,]+\]", error.message)
        return _out_of_memory(f"for numbers of the {shape[0]}" if shape else "")
    return None


def _out_of_memory(told: object) -> str:
    return f"not enough memory ({told or 'to go on'}); take smaller batches, or fewer or smaller images"


def _refusal(error: OSError) -> BadInput:
    name = f"{error.filename}: " if error.filename else ""  # none: standard output
    return BadInput(f"{name}{reason(error)}; {ADVICE}")


def _told(message: object) -> int:
    """Report a mistake on stderr; return the exit status."""
    try:
        print(f"error: {printable(message)}", file=sys.stderr, flush=True)
    except OSError:
        _give_up(sys.stderr)
    return 2


def _give_up(stream: TextIO) -> None:
    """Point a stream that takes nothing at nothing: Python would try again at exit, and print a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it: what is interrupted while it is imported may raise an ImportError."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _end_quietly(kind: type, error: BaseException, trace: TracebackType | None) -> None:
    """Python's last word on an exception that nobody caught, but none on Ctrl-C."""
    if _is_interrupt(error) and not hasattr(sys, "ps1"):  # ps1: somebody types into Python
        sys.exit(INTERRUPTED)
    _before(kind, error, trace)


_before = sys.excepthook  # of a debugger, or whatever else imports these modules
sys.excepthook = _end_quietly


@contextlib.contextmanager
def told_on_interrupt(how_to_go_on: str) -> Iterator[None]:
    """Ctrl-C in the block says how to go on, before the program ends."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nStopped. {how_to_go_on}", file=sys.stderr)
        raise


def start_tensorflow() -> None:
    """Import TensorFlow and find its devices without the lines its libraries write while they start.

    They come from C++ through file descriptor 2, some before any setting is read, so for these seconds the descriptor
    leads to a temporary file. Should the start fail, what was written there is shown.

    `BadInput` where the path of these files is not UTF-8: TensorFlow compiles no function whose file it cannot name.
    """
    check_utf8(pathlib.Path(__file__).resolve().parents[1], "move the folder elsewhere")
    with stderr_kept_back():
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # no word about functions that are deprecated but still there
        tf.config.list_logical_devices()
        tf.function(lambda number: number, jit_compile=True)(0)  # the compiler announces itself, too (0.1 s)


@contextlib.contextmanager
def stderr_kept_back() -> Iterator[None]:
    """Keep back what reaches file descriptor 2 in this block, from C++ too; should the block fail, show it."""
    with tempfile.TemporaryFile() as kept:
        try:
            stderr = os.dup(2)
        except OSError:  # closed by the caller
            yield
            return
        if sys.stderr:
            sys.stderr.flush()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except Exception:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
