"""How to train: which of the four cases of transfer learning, and the recipe.

case = preset(3, cards.GOOGLENET)                      # fine-tuning
recipe = recipe_for(case, cards.GOOGLENET, epochs=8)   # everything else follows from the case
"""

from typing import Any, NamedTuple

from common.errors import BadInput
from weights.cards import Card

HEAD_BATCH, FINE_TUNING_BATCH = 128, 32  # images per step: small batches make the most of few images
FINE_TUNING_PATIENCE = 3  # epochs without a lower validation loss
LEAST_VALIDATED = 1000  # validation images per epoch of fine-tuning, however few are trained on


class Case(NamedTuple):
    """Where the head sits, and what is trained below it."""

    layer: str  # the head's input
    train: str = "head"  # "head", "all", or the name of a layer: train from that one up
    from_scratch: bool = False  # the network begins with random weights

    @property
    def fine_tuning(self) -> bool:
        """Whether more than the head is trained."""
        return self.train != "head"


class Recipe(NamedTuple):
    """How to train. Rates are those of Adam; a value of 0 switches its feature off."""

    epochs: int = 10
    batch_size: int = HEAD_BATCH  # images per step, over all devices together
    learning_rate: float = 0.001  # of the head
    lower_learning_rate: float = 0.0  # of the layers below it
    l2: float = 0.0  # weight of a penalty on the head's squared kernel
    weight_decay: float = 0.0  # of the layers below the head
    patience: int = 0  # stop after this many epochs without a lower validation loss
    keep_last: bool = False  # the last epoch is the result; else, of fine-tuning, that of the lowest validation loss
    head_epochs: int = 0  # of the head alone, before the layers below it join
    augment: bool = False
    progressive_resizing: bool = False  # the first epochs see smaller images, see `schedules.image_sizes`
    mirror: tuple[int, ...] = ()  # augmentation mirrors a random half of the images; see `augmentation.mirrored`
    relight: bool = False  # augmentation exposes a random half of them anew, see `augmentation.other_light`
    random_crop: float = 0.0  # augmentation cuts out squares, from this share of the side up to all of it
    dropout: bool = False
    standardize: bool = True  # a head that is trained alone sees features minus their mean, divided by their spread
    label_smoothing: float = 0.0  # share of each label that is spread over all classes
    teacher_share: float = 0.0  # of the loss: how far the network agrees with a teacher, see `transfer.teacher`
    temperature: float = 2.0  # what its and the teacher's logits are divided by first
    decay_epochs: int = 0  # of fine-tuning: hold the rates until the last of these epochs; 0: they fall from the start
    ema: float = 0.0  # of fine-tuning: what one step leaves of the weights' moving averages, which are the result
    validated: int = 0  # validate on at most this many images per epoch
    seed: int = 0


def preset(number: int, card: Card) -> Case:
    """Case 1, 2, 3 or 4: new data few or many, similar to ImageNet's or different."""
    return {
        1: Case(card.bottleneck),  # few, similar: a new head on frozen features
        2: Case(card.early_layer),  # few, different: a head on an early layer
        3: Case(card.bottleneck, train="all"),  # many, similar: fine-tuning
        4: Case(card.bottleneck, train="all", from_scratch=True),  # many, different: train everything
    }[number]


def recipe_for(case: Case, card: Card, training_images: int = 0, **chosen: Any) -> Recipe:
    """The recipe of a case; `chosen` are fields of `Recipe` with other values than its defaults (None: the default).

    training_images: how many there are; after each epoch, fine-tuning validates on a quarter as many, but on
    1,000 at least.
    """
    chosen = {name: value for name, value in chosen.items() if value is not None}
    rate = chosen.get("learning_rate", Recipe().learning_rate)
    defaults = {}
    if case.fine_tuning:
        defaults = {
            "batch_size": FINE_TUNING_BATCH,
            "lower_learning_rate": rate * card.lower_share[case.from_scratch],
            "weight_decay": 0.05 if case.from_scratch else 0.0,
            "patience": 0 if chosen.get("keep_last") else FINE_TUNING_PATIENCE,
            "head_epochs": 0 if case.from_scratch else 2,  # a new head's first, wild gradients would spoil the layers
            "augment": True,
            "dropout": True,
            "validated": max(training_images // 4, LEAST_VALIDATED),  # under a tenth of an epoch
        }
    return Recipe(**defaults | chosen)


def check_layers(case: Case, layer_names: list[str], title: str) -> None:
    """`BadInput` for a layer that the network `title` lacks, or that lies above the head."""
    names = [name for name in layer_names if name != "prob"]  # a head on probabilities learns nothing new
    if case.layer not in names:
        raise BadInput(f"--layer {case.layer}: {title} has no such layer; there are {', '.join(names)}")
    below = names[: names.index(case.layer) + 1]
    if case.train not in ("head", "all", *below):
        raise BadInput(f"--train {case.train}: expected head, all, or a layer up to {case.layer}: {', '.join(below)}")


def check_decay(decay_epochs: int, epochs: int) -> None:
    """`BadInput` where the learning rate would fall from the start, and never be what was asked for."""
    if decay_epochs > epochs:
        raise BadInput(f"--decay_epochs {decay_epochs}: of {epochs} epochs, so the learning rate would never be "
                       "reached; give more --epochs, or let it fall over fewer")  # fmt: skip
