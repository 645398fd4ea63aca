"""Mistakes that the user can correct, each one line: the file, what was found, what was expected, what to do."""

import contextlib
import unicodedata
import warnings
from collections.abc import Iterator

JOINERS = "\u200c\u200d"  # join or part the letters of Persian and of India's scripts
LONGEST_MESSAGE = 500  # characters
LONGEST_REASON = 150  # characters of a reader's own words
OF_A_PATH = (OSError, ValueError)  # what a path from elsewhere may raise; ValueError: a null character in it


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
