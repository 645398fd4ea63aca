"""Pickles of arrays, as the course handed out its data: read without running what is in them, written whole."""

import os
import pickle
from typing import Any

from common import safe_pickle
from common.errors import BadInput
from common.kinds import PICKLE, UNKNOWN, kind_of
from common.writing import written_whole


def read(path: str | os.PathLike, expected: str) -> Any:
    """What the pickle holds, see `common.safe_pickle.load`. A file of another kind is named for what it is.

    expected: for the message, what the file should have been. Raises `BadInput`.
    """
    try:
        return safe_pickle.load(path)
    except BadInput:
        kind = kind_of(path)
        if kind in (PICKLE, UNKNOWN):
            raise
        raise BadInput(f"{path}: is {kind}; expected {expected}") from None


def write(path: str | os.PathLike, content: dict) -> None:
    """Write a dict of arrays with Python's own pickle (protocol 4): anything that reads the course's reads it."""
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(content, file, protocol=4)
