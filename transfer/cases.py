"""The four cases of transfer learning at work: train a head on frozen features, or the layers below it as well.

outcome = train_head(features, split, recipe, devices)                        # cases 1 and 2
outcome = fine_tune(network, split, case, recipe, devices, run)               # cases 3 and 4
probabilities = classifier.predict(outcome.classifier, outcome.inputs, split.validation, devices)
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data import splits
from data.splits import Split
from networks.network import Network, pooled_size
from transfer import feature_store, loop
from transfer.classifier import Classifier
from transfer.devices import Devices
from transfer.features import mean_and_spread, shared_features
from transfer.recipe import Case, Recipe
from transfer.runs import Run
from transfer.schedules import image_sizes
from weights import heads

Report = Callable[[dict], None]


class Outcome(NamedTuple):
    """The result of a training."""

    classifier: Classifier  # without a run, with the result's weights; else `Run.restore_result` gives it them
    inputs: Any  # what it takes: inputs[rows]
    history: list[dict]  # the epochs
    kept: int  # number of the epoch that is the result; 0: the head alone, before fine-tuning
    head_history: list[dict] = []  # the epochs of the head alone


def describe(split: Split, recipe: Recipe) -> None:
    """Print how many images there are, and what one should know about them."""
    training, validation = len(split.training), len(split.validation)
    watched = f" ({recipe.validated:,} of them after each epoch)" if 0 < recipe.validated < validation else ""
    print(f"Training on {training:,} images, validating on {validation:,}{watched}")
    for note in splits.notes(split):
        print(note)
    print(flush=True)


def train_head(
    features: Any,
    split: Split,
    recipe: Recipe,
    devices: Devices,
    run: Run | None = None,
    *,
    report: Report | None = None,
    logdir: pathlib.Path | None = None,
    teacher: Any = None,
) -> Outcome:
    """Softmax regression on features (N, D), whose rows are those of `split.dataset`.

    The head sees the features minus their mean and divided by their spread: networks differ in the scale of their
    features, and one that is always about 5 would drown another that varies by 0.1. The course trained without this
    (`recipe.standardize`). teacher: see `transfer.teacher`, for `recipe.teacher_share`.
    """
    head = heads.untrained(features.shape[1], split.dataset.class_names, recipe.seed)
    mean, spread = mean_and_spread(features, split.training, devices) if recipe.standardize else (0.0, 1.0)
    with devices.strategy.scope():
        classifier = Classifier(head, mean, spread)
    examples = loop.Examples(features, split.dataset.labels, split.training, split.validation, teacher)
    history, kept = loop.train(classifier, examples, recipe, devices, run, report=report, logdir=logdir)
    return Outcome(classifier, features, history, kept)


def fine_tune(
    network: Network,
    split: Split,
    case: Case,
    recipe: Recipe,
    devices: Devices,
    run: Run,
    *,
    report: Report | None = None,
    cache: pathlib.Path | None = feature_store.FEATURES_DIR,
    logdir: pathlib.Path | None = None,
    teacher: Any = None,
) -> Outcome:
    """Train the network from the layer `case.train` upwards, and the head.

    The head comes first, alone (`recipe.head_epochs`): its result is epoch 0, which the epochs of all layers have to
    beat. Validation looks at `recipe.validated` images at most, the same in every epoch. teacher: see
    `transfer.teacher`, for `recipe.teacher_share`.
    """
    images, labels, names = split.dataset.images, split.dataset.labels, split.dataset.class_names
    watched = split._replace(validation=splits.some(split.validation, recipe.validated, recipe.seed))
    alone = None
    if recipe.head_epochs:
        features = shared_features(network, images, case.layer, run.provenance, devices, cache=cache)
        alone = head_first(features, watched, recipe, devices, run, report=report, logdir=logdir, teacher=teacher)

    first = network.layer_names[0] if case.train == "all" else case.train
    below = network.before(first)
    inputs, after = images, None
    if below and not (recipe.augment or recipe.progressive_resizing):  # frozen layers always see the same images
        inputs, after = shared_features(network, images, below, run.provenance, devices, cache=cache, pool=False), below
    head, mean, spread = heads.untrained(pooled_size(network.output_shape(case.layer)), names, recipe.seed), 0.0, 1.0
    if alone:
        head = head._replace(kernel=alone.classifier.kernel.numpy(), bias=alone.classifier.bias.numpy())
        mean, spread = alone.classifier.mean, alone.classifier.spread
    with devices.strategy.scope():
        classifier = Classifier(head, mean, spread, network, case.layer, after, first)
    print(parameters(classifier), flush=True)
    if recipe.progressive_resizing:
        sizes = image_sizes(network.image_size, recipe.epochs)
        print(f"Image size by epoch, in pixels: {', '.join(map(str, sizes))}\n", flush=True)

    examples = loop.Examples(inputs, labels, watched.training, watched.validation, teacher)
    to_beat = alone.history[-1]["validation_loss"] if alone else np.inf
    history, kept = loop.train(
        classifier, examples, recipe, devices, run, report=report, logdir=logdir, to_beat=to_beat
    )
    if alone and not kept:
        return alone._replace(history=history, kept=0, head_history=alone.history)
    return Outcome(classifier, inputs, history, kept, alone.history if alone else [])


def head_first(
    features: Any,
    split: Split,
    recipe: Recipe,
    devices: Devices,
    run: Run,
    *,
    report: Report | None,
    logdir: pathlib.Path | None,
    teacher: Any,
) -> Outcome:
    """As `train_head`, for `recipe.head_epochs` before those of all layers; the result is kept in the run.

    A run that goes on after an epoch has done that: its checkpoint has the head's weights, and only the mean and the
    spread of the features are computed again.
    """
    recipe, log = of_head_alone(recipe), logdir and logdir / "head"
    if run.kept_head():
        recipe, log = recipe._replace(epochs=0), None
    else:
        print(f"First the head alone, {recipe.epochs} epochs:\n", flush=True)
    outcome = train_head(features, split, recipe, devices, report=report, logdir=log, teacher=teacher)
    return outcome._replace(history=run.keep_head(outcome.classifier, outcome.history))


def of_head_alone(recipe: Recipe) -> Recipe:
    """For the epochs of the head before those of all layers: on features, so without what changes images."""
    return recipe._replace(
        epochs=recipe.head_epochs, augment=False, dropout=False, patience=0, progressive_resizing=False
    )


def parameters(classifier: Classifier) -> str:
    """A sentence: how many parameters are trained, and how many are frozen."""
    network, layer = classifier.network, classifier.layer
    groups = (classifier.head, classifier.lower, network.variables_between(None, layer))
    head, lower, below = [sum(int(variable.shape.num_elements()) for variable in group) for group in groups]
    return f"Trained: {head + lower:,} parameters ({head:,} of them in the head). Frozen: {below - lower:,}\n"
