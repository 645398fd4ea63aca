"""Runs: one folder per training, from which it can be resumed and used.

    runs/train_feature_extraction-20260131-101500/
        settings.json       the flags, so that --resume needs none
        history.json        one entry per epoch; which one is the result; whether the run has finished
        checkpoint/         variables and optimizers after the last epoch, to continue from (transfer/checkpoints.py)
        head.npz            the result: the head with its class names and provenance (see weights/heads.py)
        network-7.npz       the whole network of that epoch, where more than the head was trained; a weights file like
                            those in weights/

Each file is written whole or not at all, and in this order: history, checkpoint, network, head. Killed at any moment, a
run has lost the epoch it was in and nothing else. A run is locked while it trains.
"""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import time
from collections.abc import Iterator
from typing import Any

from common.program import shown, told_on_interrupt

import numpy as np

from common.errors import BadInput
from common.files import check_utf8
from common.locks import exclusive
from common.writing import check_writable, written_whole
from data import splits
from data.splits import Split
from transfer import checkpoints, feature_store, novelty, run_files
from transfer.run_files import HISTORY, LOCK, SETTINGS, begun_here, read_history, read_settings, write_settings
from weights import heads, reading
from weights.heads import Provenance

WRITTEN = (  # by the process that has the run's lock, and by no other
    heads.FILE, novelty.FILE, "network-*.npz", HISTORY, "curves.png", "filters.png", "validation-*.csv",
    "validation-*.png",
)  # fmt: skip
REPLACED = (*WRITTEN, checkpoints.FOLDER, "test-*.csv", "test-*.png")  # would be lost in a folder that has it already


class Run:
    """The folder of one training. folder: None in workers that do not know it yet. writes: only the chief does."""

    def __init__(
        self, folder: pathlib.Path | None, provenance: Provenance, class_names: list[str], writes: bool = True
    ) -> None:
        self.folder, self.writes = folder, writes
        self.provenance, self.class_names = provenance, list(class_names)
        self.head_history: list[dict] = []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else trains this run while the block runs; Ctrl-C in it says how to continue."""
        if not self.writes:
            yield
            return
        refusal = f"{self.folder}: is being trained by another process; wait for it, or stop it"
        script = read_settings(self.folder)["script"]
        command = f"python {script}.py --resume {shlex.quote(shown(self.folder))}"
        with exclusive(self.folder / LOCK, refusal), told_on_interrupt(f"To continue: {command}"):
            yield

    def check(self, split: str, images: str = "") -> None:
        """`BadInput` when images, their split or the network's weights are not those that the run was begun with.

        Runs begun before 29 November 2026 have not kept what they saw of the images.
        """
        begun = read_settings(self.folder) if self.folder else {}
        if begun.get("split", split) != split or begun.get("images", images) != images:
            raise BadInput(f"{self.folder}: the images have changed since it was begun (added, removed, renamed, "
                           "other labels); restore them to resume it, or start a new run")  # fmt: skip
        if begun.get("network", self.provenance.fingerprint) != self.provenance.fingerprint:
            found = self.provenance.weights or "the published ones"
            raise BadInput(f"{self.folder}: was begun with other weights of the network than {found}; give it those "
                           "with --weights, or start a new run")  # fmt: skip

    def check_teacher(self, fingerprint: str) -> None:
        """`BadInput` when a run that goes on is taught by another teacher than it was begun with; else remember it.

        A teacher that was trained further meanwhile is another one. Runs begun before 29 November 2026 have not kept
        theirs.
        """
        if self.folder is None:
            return
        settings = read_settings(self.folder)
        if settings.get("taught_by", fingerprint) != fingerprint:
            raise BadInput(f"{self.folder}: was begun with another teacher, or with this one before it was trained "
                           "further; name that one with --teacher, or start a new run")  # fmt: skip
        if self.writes and "taught_by" not in settings:
            write_settings(self.folder, settings | {"taught_by": fingerprint}, signed=begun_here(self.folder))

    def restore(self, variables: list, optimizers: list) -> list[dict]:
        """Set variables and optimizers to those of the last epoch that was kept. Returns the history up to there.

        [] for a run that has kept none. `BadInput` when history and checkpoint are damaged or do not belong together.
        """
        if self.folder is None:
            return []
        self._clear_away()
        history = read_history(self.folder)["epochs"]
        numbers = checkpoints.epochs(self.folder)
        if len(history) <= 1 and not numbers:  # nothing was kept, or not yet the first checkpoint
            return []
        # Killed between the two, a run has one epoch more in its history than in its checkpoint.
        number = next((each for each in reversed(numbers) if len(history) - 1 <= each <= len(history)), None)
        if number is None:
            there = f"checkpoints of the epochs {numbers}" if numbers else "no checkpoint"
            raise BadInput(
                f"{self.folder}: cannot be resumed: {len(history)} epochs in {HISTORY}, {there}; start a new run"
            )
        checkpoints.read(self.folder, history[:number], variables, optimizers)
        if self.writes:
            print(f"Continuing after epoch {number}\n", flush=True)
        return history[:number]

    def change_flags(self, flags: dict) -> None:
        """Keep these flags, given with --resume, in place of the run's own: the next --resume then continues with them.

        One that is None is not kept any longer. Only a run that this machine began is signed again: one from elsewhere
        is not trusted because it was resumed.
        """
        settings = read_settings(self.folder) if self.writes else {"flags": flags}
        if any(settings["flags"].get(name) != value for name, value in flags.items()):
            unchanged = {name: value for name, value in settings["flags"].items() if name not in flags}
            settings["flags"] = unchanged | {name: value for name, value in flags.items() if value is not None}
            write_settings(self.folder, settings, signed=begun_here(self.folder))

    def keep(self, history: list[dict], kept: int, training: Any) -> None:
        """Keep the epoch that has just ended. kept: the one that is the result so far. training: a `Training`."""
        if not self.writes:
            return
        self._write_history(history, kept)
        checkpoints.write(self.folder, history, training.variables, training.optimizers)
        if kept == len(history):  # after the checkpoint: without that, the epoch may come out otherwise again
            with training.average.in_place():  # the weights that are the result
                self._write_result(training.classifier, history[-1])

    def keep_result(self, history: list[dict], training: Any) -> None:
        """Of a run that goes on, whose last epoch is the result: keep it, unless the process before this one did."""
        if self.writes:
            with training.average.in_place():
                if not self._has_result(training.classifier, history[-1]):
                    self._write_result(training.classifier, history[-1])

    def begun(self) -> bool:
        """Whether it has an epoch to continue after."""
        return bool(self.folder and checkpoints.epochs(self.folder))

    def kept_head(self) -> list[dict]:
        """The history of the head that was trained alone, if there is an epoch to continue after; else []."""
        return read_history(self.folder)["head"] if self.begun() else []

    def keep_head(self, classifier: Any, history: list[dict]) -> list[dict]:
        """Keep a head that was trained alone, on the untrained network: epoch 0 of fine-tuning. Returns its history.

        A run that goes on after an epoch has kept its head, and that one's history is returned.
        """
        self.head_history = self.kept_head() or history
        if self.writes and not self.begun():
            self._write_history([], 0)
            self._write_result(classifier, history[-1] | {"epoch": 0})
        return self.head_history

    def end(self, history: list[dict], kept: int) -> None:
        """Mark the run as finished."""
        self._write_history(history, kept, ended=True)

    def remember(self, accuracy: float) -> None:
        """Keep the accuracy that the report states with the head, in place of that of its epoch: of fewer images."""
        head = heads.load(self.folder / heads.FILE)
        provenance = head.provenance._replace(validation_accuracy=accuracy)
        heads.save(head._replace(provenance=provenance), self.folder / heads.FILE)

    def restore_result(self, classifier: Any) -> None:
        """Give the classifier the weights that are the result of the run."""
        head = heads.load(self.folder / heads.FILE)
        classifier.assign(head.kernel, head.bias)
        if classifier.lower:
            classifier.network.restore(self.folder / head.provenance.weights)

    def _has_result(self, classifier: Any, epoch: dict) -> bool:
        """Whether the result is of this epoch already: a run that had finished has more to say about it by now."""
        network = f"network-{epoch['epoch']}.npz" if classifier.lower else None
        try:
            head = heads.load(self.folder / heads.FILE)
        except BadInput:  # absent, or damaged
            return False
        if network and not (head.provenance.weights == network and (self.folder / network).exists()):
            return False
        return all(map(np.array_equal, (head.kernel, head.bias), classifier.folded()))

    def _write_result(self, classifier: Any, epoch: dict) -> None:
        provenance = self.provenance._replace(validation_accuracy=epoch["validation_accuracy"])
        network = None
        if classifier.lower:
            network = self.folder / f"network-{epoch['epoch']}.npz"
            classifier.network.save(network)
            fingerprint = reading.fingerprint(classifier.network.weights)
            provenance = provenance._replace(weights=network.name, fingerprint=fingerprint)
        kernel, bias = classifier.folded()
        heads.save(heads.Head(kernel, bias, self.class_names, provenance), self.folder / heads.FILE)
        for other in self.folder.glob("network-*.npz"):
            if other != network:
                other.unlink()

    def _write_history(self, history: list[dict], kept: int, ended: bool = False) -> None:
        content = {"ended": ended, "kept": kept, "head": self.head_history, "epochs": history}
        with written_whole(self.folder / HISTORY) as temporary:
            temporary.write_text(json.dumps(content | {"sha256": checkpoints.hash_of(content)}, indent=1))

    def _clear_away(self) -> None:
        """Delete what a killed process was writing; never through a link that leads out of the folder.

        Not what others write there, such as `evaluate.py`: they may be at it.
        """
        if (self.folder / checkpoints.FOLDER).is_symlink():
            raise BadInput(f"{self.folder / checkpoints.FOLDER}: is a link, expected a folder; put the folder itself "
                           "there, or start a new run")  # fmt: skip
        if self.writes:
            halves = [half for name in (SETTINGS, *WRITTEN) for half in self.folder.glob(f".{name}.*.part")]
            for half in [*halves, *(self.folder / checkpoints.FOLDER).glob("*temp*")]:
                if half.is_dir() and not half.is_symlink():
                    shutil.rmtree(half, ignore_errors=True)
                else:
                    half.unlink(missing_ok=True)


def begin_or_resume(
    folder: pathlib.Path | None, script: str, flags: dict, split: Split, provenance: Provenance, chief: bool = True
) -> Run:
    """The run in `folder`; a new one where it is None. `BadInput` when its images or weights are others by now.

    flags: as settings.json keeps them; "out" and "demo" say where a new run goes. chief: only this process writes.
    """
    fingerprint, seen = splits.fingerprint(split), as_seen(split.dataset.images, provenance)
    if chief and folder is None:
        flags = flags | {"precision": provenance.precision}  # "auto" may be another on another machine
        folder = begin(script, flags, fingerprint, provenance.fingerprint, flags["out"], flags["demo"], seen)
    run = Run(folder, provenance, split.dataset.class_names, chief)
    run.check(fingerprint, seen)
    return run


def log_folder(logdir: pathlib.Path | None, run: Run | None, script: str) -> pathlib.Path | None:
    """Where --logdir logs a run for TensorBoard: under the run's name, or the script's where no run is kept."""
    return logdir and logdir / (run.folder.name if run and run.folder else script)


def begin(
    script: str,
    flags: dict,
    split: str,
    network: str,
    out: str | os.PathLike | None = None,
    demo: bool = False,
    images: str = "",
) -> pathlib.Path:
    """Make the folder of a new run (`out`, or one in runs/) and keep the flags in it. Returns the folder.

    split, network: fingerprints of what is trained and validated on, and of the weights that the network begins with.
    images: see `as_seen`.
    """
    if out:
        folder = pathlib.Path(out).absolute()
        check_new(folder)
    else:
        folder = _new_folder(f"{'demo-' if demo else ''}{script}-{time.strftime('%Y%m%d-%H%M%S')}")
    begun = {"script": script, "flags": flags, "split": split, "network": network}
    write_settings(folder, begun | ({"images": images} if images else {}), signed=True)
    return folder


def as_seen(images: np.ndarray, provenance: Provenance) -> str:
    """Fingerprint of the images, in their order, and how they were framed.

    The split alone is rows and labels: with a file renamed, other images would come to stand in the same rows.
    """
    return f"{feature_store.fingerprint(images)} {provenance.how} {provenance.size} {provenance.resized}"


def check_new(folder: pathlib.Path) -> None:
    """`BadInput` when a new run cannot be written there: told at once, not after minutes of work."""
    if (folder / SETTINGS).exists():
        raise BadInput(f"{folder}: holds a run already; continue it with --resume {folder}, or name another with --out")
    for name in REPLACED:
        for found in folder.glob(name):
            raise BadInput(f"{found}: is there, but belongs to no run; move it away, or name another folder with --out")
    check_utf8(folder, "name another folder with --out")
    place = folder / SETTINGS
    while not os.path.lexists(place.parent):  # which is not made yet: another mistake may be found
        place = place.parent
    check_writable(place, "name another folder with --out")


def _new_folder(name: str) -> pathlib.Path:
    """A folder in runs/ that nobody else has, even when many runs start in the same second."""
    number = 1
    while True:
        folder = run_files.RUNS_DIR / (name if number == 1 else f"{name}-{number}")
        try:
            run_files.RUNS_DIR.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written ({error.strerror}); name another place with --out") from None
        else:
            return folder
