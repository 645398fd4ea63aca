"""What the scripts keep on disk, and how to get rid of it.

    python -m transfer.clean                            # how much there is, and of what
    python -m transfer.clean --delete features images   # computed features, decoded images: made again when needed
    python -m transfer.clean --delete demo unfinished   # runs with --demo, runs that were not finished
    python -m transfer.clean --delete runs --keep 3     # all runs but the newest three

Downloads in data/ and weights/ are never deleted.
"""

import pathlib
import shutil
from collections.abc import Iterable

from common.program import run, shown

from common.errors import BadInput
from common.flags import Parser, at_least
from common.locks import is_held
from data import DATA_DIR, bottleneck_files
from data.picture_store import PICTURES_DIR
from transfer import run_files
from transfer.feature_store import FEATURES_DIR

BOTTLENECK_FILES = "*_bottleneck_features_*.p"
KINDS = {
    "features": "computed features",
    "images": "decoded images of your own",
    "bottleneck": "bottleneck features in data/, made here",
    "measurements": "what images.how_much has begun and not finished",
    "demo": "runs with --demo",
    "unfinished": "runs that were not finished",
    "runs": "all runs",
}


def folders() -> dict[str, pathlib.Path]:
    """The folders of the kinds that have one of their own; what is being written there has a lock beside it."""
    return {"features": FEATURES_DIR, "images": PICTURES_DIR, "measurements": run_files.MEASURED_DIR}


def find(kind: str, keep: int = 0) -> list[pathlib.Path]:
    """The files and folders of a kind; of "runs" all but the newest `keep`. Runs in training are left out.

    A run whose history is damaged may have finished, so it is not among the unfinished ones.
    """
    if folder := folders().get(kind):
        return sorted(folder.iterdir()) if folder.is_dir() else []
    if kind == "bottleneck":
        return [path for path in sorted(DATA_DIR.glob(BOTTLENECK_FILES)) if was_made_here(path)]
    found = sorted((path.parent for path in run_files.RUNS_DIR.glob(f"*/{run_files.SETTINGS}")), key=run_files.age)
    found = [folder for folder in found if not run_files.is_locked(folder)]
    if kind == "demo":
        return [folder for folder in found if run_files.is_demo(folder)]
    if kind == "unfinished":
        return [folder for folder in found if run_files.state(folder) not in ("", run_files.DAMAGED)]
    return found[: max(0, len(found) - keep)]


def was_made_here(path: pathlib.Path) -> bool:
    """Whether the features were made by these scripts; not the course's own, nor what cannot be read."""
    try:
        return bottleneck_files.made_from(path) is not None
    except BadInput:
        return False


def check_at_rest(kinds: Iterable[str]) -> None:
    """`BadInput` while what is to be deleted is being computed, or may be read again: by a run in training."""
    for path in run_files.RUNS_DIR.glob(f"*/{run_files.SETTINGS}"):
        if {"features", "images", "bottleneck"} & set(kinds) and run_files.is_locked(path.parent):
            raise BadInput(f"{shown(path.parent)}: is being trained, maybe on what would be deleted; wait for it")
    locks = [path for kind in folders().keys() & set(kinds) for path in find(kind) if path.suffix == ".lock"]
    locks += DATA_DIR.glob(f".{BOTTLENECK_FILES}.lock") if "bottleneck" in kinds else ()
    for lock in locks:
        if is_held(lock):  # by what has no run yet, or has one elsewhere
            raise BadInput(f"{shown(lock.parent)}: {lock.stem[1:]} is being written there; wait for it")


def size_of(paths: Iterable[pathlib.Path]) -> int:
    """Bytes of files, and of all in folders; links are not followed."""
    files = [file for path in paths for file in (path, *path.rglob("*")) if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files)


def delete(paths: Iterable[pathlib.Path]) -> None:
    """Delete files and folders."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def main() -> None:
    parser = Parser(__doc__, prog="python -m transfer.clean")
    parser.add_argument("--delete", nargs="+", choices=KINDS, default=[],
        help="; ".join(f"{kind}: {what}" for kind, what in KINDS.items()) + " (default: nothing)")  # fmt: skip
    parser.add_argument(
        "--keep", type=at_least(0), default=0, metavar="N", help="with --delete runs: keep the newest N"
    )
    args = parser.parse_args()
    if args.keep and "runs" not in args.delete:
        raise BadInput(f"--keep {args.keep}: spares finished runs; give --delete runs, or leave it out")
    check_at_rest(args.delete)
    for kind, what in KINDS.items():
        found = find(kind, args.keep if kind == "runs" else 0)
        size = size_of(found)
        if kind in args.delete:
            delete(found)
        print(f"{kind:12} {size / 1e6:10,.1f} MB  {what}{': deleted' * (kind in args.delete)}")
    print(f"in {shown(FEATURES_DIR)}, {shown(PICTURES_DIR)}, {shown(run_files.RUNS_DIR)}")
    for folder in find("runs"):
        if run_files.state(folder) == run_files.DAMAGED:
            damage = f"{run_files.DAMAGED}, so it may have finished"
            print(f"{shown(folder)}: {damage}: not among the unfinished; delete it by hand")


if __name__ == "__main__":
    run(main)
