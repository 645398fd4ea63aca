"""The end of every training script: the report on the result, and what to do next."""

import functools
import pathlib
import shlex
from collections.abc import Callable, Sequence

from common.program import shown

import numpy as np

from common.errors import BadInput
from common.writing import check_writable
from data import datasets, splits, traffic_signs
from data.datasets import Dataset
from data.splits import Split
from networks.network import Network
from transfer import augmentation, clean, evaluation, feature_store, novelty, plots, run_files, seen, trained
from transfer.cases import Outcome
from transfer.classifier import head_inputs, predict
from transfer.devices import Devices
from transfer.runs import Run
from weights import heads

KNOWN_IMAGES = 2000  # of training and of validation each ...
LEAST_KNOWN = 5  # ... and at least so many training images per class: without any, its images pass for strange ones
TEST = "test"  # how the names of its tables and plots begin
MENTIONED = 2e9  # bytes of kept features


def conclude(
    run: Run,
    outcome: Outcome,
    split: Split,
    devices: Devices,
    plot: bool = False,
    network: Network | None = None,
    two_views: bool = False,
) -> None:
    """Mark the run as finished and report how good its result is on the validation images; tables go into its folder.

    plot: curves, the confusion matrix, the most confident mistakes and, of a `network` that is given and a part of the
    result, the filters of the first layer, as well. two_views: see `second_view`; only where the classifier takes
    images. Each worker computes its share, the chief reports.
    """
    if devices.chief:
        run.end(outcome.history, outcome.kept)
        run.restore_result(outcome.classifier)
    devices.copy_from_chief(outcome.classifier.variables_of_training)
    takes_images = outcome.inputs is split.dataset.images
    view, told = None, ""
    if two_views and takes_images:
        view, told = second_view(split.dataset.class_names, outcome.classifier.network.image_size)
    elif two_views:
        told = "Each image seen once: its features are stored\n"
    probabilities = predict(outcome.classifier, outcome.inputs, split.validation, devices, second_view=view)
    if not devices.chief:
        return
    print(f"{choice(outcome)}\n")
    print(told, end="")
    judged = evaluation.report(split, probabilities, run.folder, plot, "validation")
    if not view:  # `feature_extraction.py` takes one view, and tells how good the classifier is with it
        run.remember(judged.accuracy)
    if devices.workers == 1:  # else the features of some images are elsewhere
        keep_known(run, outcome, split)
    if plot:
        plot_training(run.folder, outcome, network)


def plot_training(folder: pathlib.Path, outcome: Outcome, network: Network | None) -> None:
    """Curves of loss and accuracy, and the filters of the network's first layer."""
    phases = (("head", outcome.head_history), ("layers", outcome.history))
    history = [epoch | {"phase": phase} for phase, epochs in phases for epoch in epochs]
    plots.curves(history, folder / "curves.png", kept=outcome.kept)
    if network and outcome.kept:  # where the head alone is, the network has been trained further than what is kept
        first_kernel = np.asarray(next(iter(network.weights.values()))[0])
        plots.filters(first_kernel, folder / "filters.png")


def second_view(class_names: Sequence[str], size: int) -> tuple[Callable, str]:
    """How images are looked at the second time, at `size` pixels, and a line that says so.

    Closer; and mirrored, if of a known data set each class is its own mirror image.
    """
    mirror = datasets.mirror_of(class_names) == tuple(range(len(class_names)))
    told = f"Each image seen twice, the second time {augmentation.CLOSER - 1:.0%} closer{' and mirrored' * mirror}; "
    return functools.partial(augmentation.closer, size=size, mirror=mirror), told + "probabilities averaged\n"


def keep_known(run: Run, outcome: Outcome, split: Split) -> None:
    """Keep what the training images look like to the head, so that it can tell when an image is unlike them.

    Of images that would have to go through the network again, KNOWN_IMAGES of either part are enough.
    """
    unseen = split.validation[~np.isin(split.validation, split.training)]
    features, labels, rows = outcome.inputs, split.dataset.labels, (split.training, unseen)
    if outcome.classifier.network:
        rows = (split.training, splits.some(unseen, KNOWN_IMAGES, seed=0))
        if len(split.training) > KNOWN_IMAGES:
            per_class = max(LEAST_KNOWN, KNOWN_IMAGES // len(split.dataset.class_names))
            rows = (splits.few(split.training, labels, per_class, seed=0), rows[1])
        features = head_inputs(outcome.classifier, outcome.inputs, np.concatenate(rows))
        labels = labels[np.concatenate(rows)]
        rows = np.split(np.arange(len(labels)), [len(rows[0])])
    novelty.save(novelty.fit(features, labels, *rows), run.folder / heads.FILE)


def choice(outcome: Outcome) -> str:
    """A sentence: which epoch's weights are the result, and why."""
    losses = [epoch["validation_loss"] for epoch in outcome.history]
    if not outcome.kept:
        loss = outcome.head_history[-1]["validation_loss"]
        return (
            f"Kept: the head as it was before fine-tuning (validation loss {loss:.3f}); no epoch of fine-tuning was "
            f"better ({min(losses, default=np.inf):.3f})"
        )
    loss = losses[outcome.kept - 1]
    if loss > min(losses):
        best = int(np.argmin(losses)) + 1
        lowest = f"lowest {losses[best - 1]:.3f}, epoch {best}"
        advice = "" if outcome.classifier.lower else ": --patience would keep that"
        return f"Kept: the last epoch, {outcome.kept} (validation loss {loss:.3f}; {lowest}{advice})"
    return f"Kept: epoch {outcome.kept} of {len(losses)}, with the lowest validation loss ({loss:.3f})"


def judge(
    folder: pathlib.Path,
    test: Dataset,
    weights: str | None,
    cache: pathlib.Path | None,
    plot: bool = False,
    two_views: bool = False,
    test_dir: pathlib.Path | None = None,
) -> None:
    """Report how good the classifier kept in a folder (or a head file) is on test images of the same classes.

    weights, cache: as in `trained.load` and `Trained.probabilities_of_many`. two_views: see `second_view`. test_dir:
    where the images lie, if they are the user's own.
    """
    path = trained.find(folder)
    head = heads.load(path)
    if list(test.class_names) != head.class_names:
        raise BadInput(f"{test.name}: its classes are not the {len(head.class_names)} of {shown(path)}; give images of "
                       "the same classes, or another classifier with --head")  # fmt: skip
    check_writable(path.parent / f"{TEST}-per_class.csv", "copy the run, and name the copy with --head")
    classifier = trained.load(path, weights, head=head)  # before images are hashed: a run in training goes on meanwhile
    trained_on = seen.count(path, head, test, test_dir)
    view, told = second_view(test.class_names, classifier.network.image_size) if two_views else (None, "")
    probabilities = classifier.probabilities_of_many(test.images, cache, view)
    print(told, end="")
    evaluation.report(splits.for_test(test, trained_on), probabilities, classifier.folder, plot, TEST)


def judge_signs(
    folder: pathlib.Path,
    test_file: pathlib.Path,
    weights: str | None,
    cache: pathlib.Path | None,
    plot: bool = False,
    two_views: bool = False,
) -> None:
    """`judge` on the signs in `test_file`. weights: those that the user gave the network that training began with."""
    origin = heads.load(folder / heads.FILE).provenance
    if origin.weights in [each.name for each in folder.glob("network-*.npz")]:  # layers were trained, and kept
        weights = None
    judge(folder, traffic_signs.load_test(test_file), weights, cache, plot, two_views)


def next_step(folder: pathlib.Path, demo: bool, class_names: Sequence[str]) -> str:
    """Lines for people: large features that are kept, where the run is, and the command that uses it."""
    signs = traffic_signs.are_signs(class_names)  # of these the script has two, if it is given no image
    image = "" if signs else " YOUR_IMAGE.jpg"
    found = run_files.newest(heads.FILE, demo)  # what the command takes by itself: nothing outside runs/
    head = "" if found and found.samefile(folder) else f" --head {shlex.quote(shown(folder))}"
    command = f"python feature_extraction.py{' --demo' * demo}{head}{image}"
    return f"{large_features()}Kept in {shown(folder)}\nNext: {command}"


def large_features() -> str:
    """A line on how much space the kept features take, and how to get rid of them; "" where it is little."""
    folder = feature_store.FEATURES_DIR
    size = clean.size_of([folder]) if folder.is_dir() else 0
    told = f"{shown(folder)} holds {size / 1e9:.1f} GB; python -m transfer.clean tells and deletes\n"
    return told if size > MENTIONED else ""
