"""Kill trainings at random moments, resume them, and compare what they become with one that was left alone.

    python tests/random_kills.py                        # 100 kills of the demo training: about 15 minutes on two cores
    python tests/random_kills.py --kills 10 -- --demo --case 2

What follows `--` goes to train_feature_extraction.py instead of its own choice. Each training starts with an empty
cache and is killed as by kill -9, and resumed, again and again, until it comes to its end or has been killed often
enough; then its head, its network and its losses must be those of the undisturbed one, to the last bit, and nothing
half written may be left in its folder. Prints a line per training; exit status 1 if one differs.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TRAINING = [
    "--demo", "--network", "googlenet", "--image_size", "32", "--per_class", "4", "--validation_per_class", "1",
    "--batch_size", "32", "--precision", "float32", "--epochs", "12",
]  # fmt: skip
MOST_RESUMED = 8  # times a training is killed at most: each resumption computes a little again


def start(arguments: list[str], log: pathlib.Path) -> int:
    """Start the script in a fork of this process, which has imported TensorFlow already: 4 s less each time."""
    child = os.fork()
    if child:
        return child
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.setsid()
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")
    sys.argv = ["train_feature_extraction.py", *arguments]
    try:
        from common.program import run

        import train_feature_extraction as script

        run(script.main)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 70
    sys.stdout.flush()
    os._exit(status)


def ended_within(child: int, seconds: float) -> int | None:
    """The exit status of a child that ends within these seconds; None when it had to be killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def result(folder: pathlib.Path) -> dict:
    """All that must not depend on kills: {name: array or number}."""
    history = json.loads((folder / "history.json").read_text())
    found = {"ended": history["ended"]}
    for epoch in history["epochs"]:
        found |= {f"epoch {epoch['epoch']} {name}": value for name, value in epoch.items() if name != "seconds"}
    for path in folder.glob("*.npz"):
        with np.load(path) as arrays:
            found |= {f"{path.name}/{name}": arrays[name].tobytes() for name in arrays.files if name != "settings"}
    return found


def left_over(folder: pathlib.Path) -> list[str]:
    """What killed runs have left and the last one should have cleared away."""
    return [path.name for path in folder.rglob("*") if path.suffix in (".part", ".lock") or "temp" in path.name]


def trainings(place: pathlib.Path, flags: list[str], kills: int, seconds: float) -> Iterator[tuple[pathlib.Path, int]]:
    """Yield (its folder, its kills) of each training that has come to its end, until there were `kills` kills."""
    number = 0
    while kills > 0:
        number += 1
        folder, killed = place / f"run{number}", 0
        flags_here = [*flags, "--cache", str(place / f"cache{number}")]
        while True:
            begun = (folder / "settings.json").exists()
            arguments = ["--resume", str(folder)] if begun else [*flags_here, "--out", str(folder)]
            may_kill = killed < MOST_RESUMED and kills > 0
            child = start(arguments, place / f"run{number}.log")
            status = ended_within(child, random.uniform(0, seconds) if may_kill else 3600)
            if status is None:
                killed, kills = killed + 1, kills - 1
            elif status == 0:
                break
            else:
                raise SystemExit(f"{folder}: exit status {status}\n{(place / f'run{number}.log').read_text()[-2000:]}")
        yield folder, killed
        shutil.rmtree(folder)
        shutil.rmtree(place / f"cache{number}", ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("flags", nargs="*", default=TRAINING, help="of the training")
    args = parser.parse_args()
    random.seed(args.seed)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from common.program import stderr_kept_back

    with stderr_kept_back():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401  Imported, not started: its threads would not survive a fork.
    place = pathlib.Path(tempfile.mkdtemp(prefix="random-kills-"))
    begin = time.monotonic()
    left_alone = place / "undisturbed"
    child = start([*args.flags, "--cache", str(place / "cache0"), "--out", str(left_alone)], place / "undisturbed.log")
    status = ended_within(child, 3600)
    if status:
        sys.exit(f"the undisturbed training: exit status {status}\n{(place / 'undisturbed.log').read_text()[-2000:]}")
    seconds, expected, total, wrong = time.monotonic() - begin, result(left_alone), 0, 0
    print(f"undisturbed: {seconds:.1f} seconds, {len(expected)} values", flush=True)
    for folder, killed in trainings(place, args.flags, args.kills, seconds):
        found = result(folder)
        different = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        different += left_over(folder)
        total, wrong = total + killed, wrong + bool(different)
        print(f"{folder.name}: {killed} kills, {'DIFFERENT: ' + ', '.join(different[:5]) if different else 'the same'}",
              flush=True)  # fmt: skip
    print(f"{total} kills in {(time.monotonic() - begin) / 60:.1f} minutes, {wrong} trainings differ")
    shutil.rmtree(place)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
