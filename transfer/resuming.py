"""What --resume takes from a run and what from the command line, and the flags as a run keeps them."""

import argparse
import copy
import pathlib
from typing import NoReturn

from common.errors import BadInput
from common.flags import spelled
from data import traffic_signs
from transfer import feature_store, run_files
from transfer.recipe import check_decay, preset
from weights import reading
from weights.cards import ALEXNET

# Flags that are paths. Those that are written to, or read, are taken from a foreign run only when they are given again.
PATHS = {"training_file", "validation_file", "training_dir", "validation_dir", "test_file", "cache", "logdir", "out",
         "teacher", "teacher_weights"}  # fmt: skip
DEFAULTS = {traffic_signs.TRAIN_FILE, feature_store.FEATURES_DIR}  # not kept: they move with these scripts
IMAGES = {"training_file", "validation_file", "training_dir", "validation_dir"}  # may have been moved: see `Run.check`
CHANGEABLE = IMAGES | {"epochs", "patience", "teacher", "teacher_weights"}  # --resume takes them, the run keeps them
OPEN_ON_RESUME = CHANGEABLE | {"resume", "logdir", "plot", "test_file", "cache", "no_cache", "weights", "demo"}


def as_kept(args: argparse.Namespace) -> dict:
    """The flags as settings.json keeps them: paths absolute, and as text; without those of DEFAULTS."""
    kept = {}
    for name, value in vars(args).items():
        if name == "weights" and value and value not in reading.NAMED:
            kept[name] = str(pathlib.Path(value).absolute())
        elif name in PATHS and value:
            kept[name] = str(value.absolute())
        elif name != "resume":
            kept[name] = value
    return {name: value for name, value in kept.items() if name not in PATHS or value not in map(str, DEFAULTS)}


def changeable(args: argparse.Namespace) -> dict:
    """Those of the kept flags that --resume may have changed; None for one that is a default which is not kept."""
    kept = as_kept(args)
    return {name: kept.get(name) for name in CHANGEABLE & vars(args).keys()}


def given(parser: argparse.ArgumentParser) -> set[str]:
    """The names of the flags that stand on the command line, even with their default values."""
    absent = object()  # argparse leaves what is there already, so this remains of each flag that is not given
    only = parser.parse_args(namespace=argparse.Namespace(**dict.fromkeys(vars(parser.parse_args([])), absent)))
    return {name for name, value in vars(only).items() if value is not absent}


def _is_same(value: object, kept: object) -> bool:
    """Whether two values of a flag mean the same; paths may be spelled in two ways."""
    return value == kept or (isinstance(value, pathlib.Path) and kept is not None and value.resolve() == kept.resolve())


def resumed(
    folder: pathlib.Path, script: str, args: argparse.Namespace, typed: set[str], parser: argparse.ArgumentParser
) -> dict:
    """The flags of a run that is resumed: its own, and those of the command line (`typed`) that may differ."""
    settings = run_files.read_settings(folder)
    if settings["script"] != script:
        raise BadInput(f"{folder}: a run of {settings['script']}.py, not of {script}.py; resume it with that")
    defaults = parser.parse_args([])
    flags = {name: value for name, value in settings["flags"].items() if hasattr(defaults, name) and name != "resume"}
    flags = checked(folder, flags, parser)
    for name in typed - OPEN_ON_RESUME:
        value, kept = getattr(args, name), flags.get(name, getattr(defaults, name))
        if not _is_same(value, kept):
            began = "without it" if kept is None or kept is False else f"with {kept}"
            raise BadInput(f"{spelled(name, value)}: {folder} was started {began}; leave the flag out to continue it, "
                           "or start a new run")  # fmt: skip
    if "teacher" in typed and not flags.get("teacher"):
        raise BadInput(f"--teacher {args.teacher}: {folder} was started without one; leave it out, or start a new run")
    finished = run_files.read_history(folder)["epochs"]
    if "epochs" in typed and args.epochs < len(finished):
        raise BadInput(
            f"--epochs {args.epochs}: {folder} has {len(finished)} epochs already; give more, or leave it out"
        )
    if "epochs" in typed:
        check_decay(flags.get("decay_epochs") or 0, args.epochs)
        if finished:
            before = flags.get("epochs", defaults.epochs)
            print(other_length(args.epochs, before, len(finished), flags), end="", flush=True)
    if finished and "patience" in typed:
        check_patience(folder, args.patience, flags)
    if not run_files.begun_here(folder):
        check_foreign(folder, flags, typed, defaults)
    if "cache" in typed:
        flags["no_cache"] = False
    return flags | {name: getattr(args, name) for name in typed & OPEN_ON_RESUME}


def checked(folder: pathlib.Path, flags: dict, parser: argparse.ArgumentParser) -> dict:
    """The flags of a run's settings.json, each as the command line takes it; `BadInput` for what it would refuse."""

    def refuse(message: str) -> NoReturn:
        raise BadInput(f"{folder / run_files.SETTINGS}: {message}; the file is damaged, start a new run")

    reader, words = copy.copy(parser), []
    reader.error = refuse  # in place of the usage and exit status 2
    for name, value in flags.items():
        if value in (None, False) and value is parser.get_default(name):
            continue
        if not isinstance(value, (str, int, float)) or value is False or "\0" in str(value):
            refuse(f"argument --{name}: it is {value!a:.60}")
        words.append(f"--{name}" if value is True else f"--{name}={value}")
    read = vars(reader.parse_args(words))
    return {name: read[name] for name in flags}


def check_patience(folder: pathlib.Path, patience: int, flags: dict) -> None:
    """`BadInput` when another epoch would become the result than the one that the run has kept.

    Fine-tuning keeps the best epoch, a head alone does so only with patience.
    """
    if not fine_tuned(flags) and bool(patience) != bool(flags.get("patience")):
        kept = "best" if flags.get("patience") else "last"
        raise BadInput(f"--patience {patience}: {folder} has kept its {kept} epoch only; leave the flag out, or "
                       "start a new run")  # fmt: skip


def other_length(epochs: int, before: int, finished: int, flags: dict) -> str:
    """A line where a run of `before` epochs takes other steps from here on because it is to have `epochs`; else ""."""
    held = flags.get("decay_epochs") and finished <= min(epochs, before) - flags["decay_epochs"]
    if epochs == before or held or not fine_tuned(flags):
        return ""
    what = "size of the images and learning rate are" if flags.get("progressive_resizing") else "the learning rate is"
    return f"From here on {what} as in a run of {epochs} epochs, not {before}\n"


def fine_tuned(flags: dict) -> bool:
    """Whether a run with these flags trains more than the head."""
    return (flags.get("train") or preset(flags.get("case") or 1, ALEXNET).train) != "head"  # whatever the network


def check_foreign(folder: pathlib.Path, flags: dict, typed: set[str], defaults: argparse.Namespace) -> None:
    """`BadInput` for paths that a run from elsewhere names and that the command line does not repeat."""
    for name in sorted((PATHS - {"out"} | {"weights"}) & flags.keys()):  # out: the folder itself
        value = flags[name]
        if not value or value in reading.NAMED or name in typed or value == getattr(defaults, name):
            continue
        if not pathlib.Path(value).resolve().is_relative_to(folder.resolve()):
            raise BadInput(f"{folder}: was not begun on this machine and names --{name} {value}; give that flag again "
                           "if you trust it")  # fmt: skip
