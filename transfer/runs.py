"""Runs: a folder for each training, from which it can be resumed and used.

    runs/train_feature_extraction-20260131-101500/
        settings.json       the flags, so that --resume needs none
        history.json        an entry an epoch; and whether the run has ended
        checkpoint/         variables and optimizers after the last epoch, to go on from (tf.train.Checkpoint)
        head.npz            the head with its class names and settings (see weights/heads.py), of the best epoch
        network-7.npz       the whole network of that epoch, where more than the head was trained; a weights file like
                            those in weights/

Each file is written whole or not at all, and in this order: history, network, head, checkpoint. Killed at any moment, a
run has lost the epoch it was in and nothing else.
"""

import json
import pathlib
import time

from common.files import BadInput, check_writable, written_whole
from weights import heads, reading

RUNS_DIR = pathlib.Path(__file__).resolve().parents[1] / "runs"
SETTINGS = "settings.json"
NEWEST = "newest"  # what --resume means without a folder
PATHS = {"training_file", "training_dir", "validation_dir", "test_file", "cache", "logdir", "out"}  # among the flags


class Run:
    """The folder of one training. `writes`: False in all workers but the chief, which only read."""

    def __init__(self, folder, head_settings=None, class_names=(), writes=True):
        self.folder, self.writes = folder, writes
        self.head_settings, self.class_names = head_settings, class_names
        self.manager = self.epoch = None

    def restore(self, variables, optimizers):
        """Set variables and optimizers to those of the last epoch that was kept. Returns the history up to there."""
        import tensorflow as tf

        if self.folder is None:  # a new run, of which the chief alone knows the place
            return []
        slots = [[variable.value for variable in optimizer.variables] for optimizer in optimizers]
        self.epoch = tf.Variable(0, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(epoch=self.epoch, variables=variables, optimizers=slots)
        self.manager = tf.train.CheckpointManager(checkpoint, str(self.folder / "checkpoint"), max_to_keep=1)
        for half in self.folder.glob(".*.part"):  # what a killed process was writing
            half.unlink()
        if not self.manager.latest_checkpoint:
            return []
        try:
            checkpoint.restore(self.manager.latest_checkpoint).assert_consumed()
            history = json.loads((self.folder / "history.json").read_text())["epochs"]
        except (tf.errors.OpError, AssertionError, ValueError, OSError, KeyError, TypeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BadInput(f"{self.folder}: cannot be resumed ({reason:.150}); start a new run") from None
        return history[: int(self.epoch.numpy())]

    def keep(self, classifier, history, best):
        """Keep the epoch that has just ended; as the result of the run when it is the best."""
        if not self.writes:
            return
        self.write_history(history)
        if best:
            self.keep_result(classifier, history[-1])
        self.epoch.assign(len(history))
        try:
            self.manager.save(checkpoint_number=len(history))
        except Exception as error:  # whatever TensorFlow makes of a full disk
            reason = str(error).strip().splitlines()[0]
            raise BadInput(f"{self.folder}: cannot be written ({reason:.150}); free space and --resume it") from None

    def end(self, history):
        """Note that the training has come to its end."""
        self.write_history(history, ended=True)

    def write_history(self, history, ended=False):
        with written_whole(self.folder / "history.json") as temporary:
            temporary.write_text(json.dumps({"ended": ended, "epochs": history}, indent=1))

    def keep_result(self, classifier, epoch):
        """Write the head, and the network if it was trained."""
        settings = self.head_settings | {"validation_accuracy": epoch["validation_accuracy"]}
        network = None
        if classifier.lower:
            network = self.folder / f"network-{epoch['epoch']}.npz"
            weights = {name: [each.numpy() for each in pair] for name, pair in classifier.network.weights.items()}
            reading.save(weights, network)
            settings |= {"weights": network.name, "fingerprint": reading.fingerprint(weights)}
        kernel, bias = classifier.folded()
        heads.save(heads.Head(kernel, bias, list(self.class_names), settings), self.folder / heads.FILE)
        for other in self.folder.glob("network-*.npz"):
            if other != network:
                other.unlink()

    def restore_result(self, classifier):
        """Give the classifier the weights that were kept: those of the best epoch."""
        head = heads.load(self.folder / heads.FILE)
        classifier.kernel.assign(head.kernel * classifier.spread)
        classifier.bias.assign(head.bias + classifier.mean @ head.kernel)
        if classifier.lower:
            card = classifier.network.card
            for name, pair in reading.load(card, self.folder / head.settings["weights"]).items():
                for variable, array in zip(classifier.network.weights[name], pair):
                    variable.assign(array)


def check_new(folder):
    """`BadInput` when a new run cannot be written there: told at once, not after minutes of work."""
    if (folder / SETTINGS).exists():
        raise BadInput(f"{folder}: holds a run already; continue it with --resume {folder}, or name another with --out")


def begin(args, script):
    """Make the folder of a new run and keep the flags in it. Returns the folder."""
    name = f"{'demo-' if args.demo else ''}{script}-{time.strftime('%Y%m%d-%H%M%S')}"
    others = len(list(RUNS_DIR.glob(f"{name}*")))  # started in the same second
    folder = (args.out or RUNS_DIR / (f"{name}-{others + 1}" if others else name)).absolute()
    check_new(folder)
    check_writable(folder / SETTINGS)
    flags = {name: str(value.absolute()) if name in PATHS and value else value for name, value in vars(args).items()}
    with written_whole(folder / SETTINGS) as temporary:
        temporary.write_text(json.dumps({"script": script, "flags": flags}, indent=1, sort_keys=True))
    return folder


def resumed(args, given, script):
    """Return (folder, the flags it was started with) of the run that `--resume` names, or of the newest.

    given: the flags of this command line that are not the defaults; BadInput when they are others than the run's.
    """
    if args.resume is not NEWEST:
        folder = pathlib.Path(args.resume).absolute()
    else:
        folder = newest(SETTINGS, args.demo, script)
        if folder is None:
            raise BadInput(f"--resume: {RUNS_DIR} holds no run of {script}.py; start one without --resume")
    settings = read_settings(folder)
    if settings["script"] != script:
        raise BadInput(f"{folder}: a run of {settings['script']}.py, not of {script}.py; resume it with that")
    flags = {
        name: pathlib.Path(value) if name in PATHS and value else value for name, value in settings["flags"].items()
    }
    for name in given:
        value = getattr(args, name).absolute() if name in PATHS else getattr(args, name)
        if value != flags.get(name):
            found = f"--{name} {getattr(args, name)}: {folder} was started with {flags.get(name)}"
            raise BadInput(f"{found}; leave the flag out to continue it, or start a new run")
    return folder, flags


def read_settings(folder):
    """settings.json of a run. `BadInput` when it is none."""
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        if isinstance(settings["script"], str) and isinstance(settings["flags"], dict):
            return settings
        reason = "of another kind"
    except FileNotFoundError:
        reason = "not there"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"damaged: {type(error).__name__}"
    raise BadInput(f"{folder}: no run, its {SETTINGS} is {reason}; give a folder that a training script wrote")


def newest(file, demo=False, script=""):
    """The folder of the last run in runs/ that has this file; None if there is none. A demo's runs are kept apart."""
    found = [path for path in RUNS_DIR.glob(f"{'demo-' if demo else ''}{script}*/{file}")]
    found = [path for path in found if demo == path.parent.name.startswith("demo-")]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None
