"""Checkpoints in a run's folder: variables and optimizers after an epoch, and hashes that tell when they were changed.

    checkpoint/ckpt-7.index, ckpt-7.data-...    TensorFlow's own format, after epoch 7
    checkpoint/state.json                       SHA-256 of these files, and of the history that belongs to them

They are read and deleted by their own names, inside the folder: TensorFlow's manager would follow the paths in a file.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from common.errors import BadInput, foreign
from common.files import file_hash, open_regular
from common.writing import written_whole

FOLDER, STATE = "checkpoint", "state.json"
PATTERN = "*?[" if os.name == "nt" else "*?[\\"  # characters with a meaning of their own in a pattern of file names
LARGEST_JSON = 50_000_000  # bytes; a thousand epochs take 0.3 MB


def epochs(folder: pathlib.Path) -> list[int]:
    """After which epochs a run's folder has a checkpoint, in order."""
    return sorted(int(path.stem[5:]) for path in _files(folder, "*.index") if path.stem[5:].isdigit())


def write(folder: pathlib.Path, history: list[dict], variables: list, optimizers: list) -> None:
    """Keep the state after the last epoch of `history`; then delete the older ones."""
    number = len(history)
    try:
        _checkpoint(number, variables, optimizers)[0].write(str(folder / FOLDER / f"ckpt-{number}"))
    except Exception as error:  # whatever TensorFlow makes of a full disk
        told = str(error).strip().splitlines()[0].rpartition("; ")[2]  # without TensorFlow's op, and the path once more
        raise BadInput(f"{folder}: cannot be written ({told:.150}); free space and --resume it") from None
    state = {"epoch": number, "history": hash_of(history), "files": _hashes(folder, number)}
    with written_whole(folder / FOLDER / STATE) as temporary:
        temporary.write_text(json.dumps(state))
    for other in _files(folder, "*"):
        if other.name not in state["files"]:
            other.unlink()


def read(folder: pathlib.Path, history: list[dict], variables: list, optimizers: list) -> None:
    """Set variables and optimizers to their state after the last epoch of `history`.

    `BadInput` for a checkpoint that is damaged, of other variables, or was changed since. (Until 25 November 2026, runs
    kept no hashes, and a process that is killed between the checkpoint and its hashes leaves those of the one before.)
    """
    number = len(history)
    with foreign(folder, "a run that can be resumed", "start a new run"):
        state = read_json(folder / FOLDER / STATE) if (folder / FOLDER / STATE).exists() else {"epoch": None}
        if state["epoch"] == number:
            if (state["files"], state["history"]) != (_hashes(folder, number), hash_of(history)):
                raise ValueError("its checkpoint or history was changed after it was written")
        checkpoint, counter = _checkpoint(number, variables, optimizers)
        with _under_a_plain_name(folder / FOLDER) as place:
            checkpoint.read(str(place / f"ckpt-{number}")).assert_existing_objects_matched()
        if counter.numpy() != number:
            raise ValueError(f"its checkpoint {number} is of epoch {counter.numpy()}")


@contextlib.contextmanager
def _under_a_plain_name(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder, or a link to it: what TensorFlow reads it takes for a pattern, though not what it writes."""
    if not set(PATTERN) & set(str(folder.absolute())):
        yield folder
        return
    with tempfile.TemporaryDirectory() as elsewhere:
        link = pathlib.Path(elsewhere, "link")
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link


def hash_of(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_json(path: pathlib.Path) -> Any:
    """A small JSON file of a run. `BadInput` when it is damaged."""
    with open_regular(path, "a run's file") as file, foreign(path, "a file that a training script wrote", "start anew"):
        text = file.read(LARGEST_JSON + 1)
        if len(text) > LARGEST_JSON:
            raise ValueError("it is too large")
        return json.loads(text)


def _checkpoint(epoch: int, variables: list, optimizers: list) -> tuple[Any, Any]:
    """(TensorFlow's checkpoint object, its counter of epochs)."""
    import tensorflow as tf

    slots = [[variable.value for variable in optimizer.variables] for optimizer in optimizers]
    counter = tf.Variable(epoch, dtype=tf.int64)
    return tf.train.Checkpoint(epoch=counter, variables=variables, optimizers=slots), counter


def _files(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    return list((folder / FOLDER).glob(f"ckpt-{pattern}"))


def _hashes(folder: pathlib.Path, number: int) -> dict[str, str]:
    return {path.name: file_hash(path, "sha256") for path in _files(folder, f"{number}.*")}
