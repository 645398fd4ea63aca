"""From a card to a network with its weights, ready to compute."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

from common.program import start_tensorflow

from common.errors import BadInput
from weights import reading
from weights.cards import Card

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` and mistakes are answered without
    import tensorflow as tf

    from networks.network import Network
    from weights.reading import Weights


def load_network(
    card: Card,
    source: str | Weights | None = None,
    *,
    seed: int = 0,
    image_size: int | None = None,
    precision: str = "float32",
    as_published: bool = False,
    classifier: bool = True,
    trains: bool = False,
    from_scratch: bool = False,
) -> Network:
    """The network of a card; random and small weights are announced.

    source: a weights file, "small", "random", or None for the published weights, which are fetched when absent; of
    AlexNet and GoogLeNet also the weights themselves, {layer: (kernel, bias)}.
    image_size: side of its input in pixels, if not the card's. precision: "float32", "bfloat16" or "auto".
    as_published: as the course of 2017 computed it. classifier: with ImageNet's classes, not features alone. trains:
    its layers will be trained, so that fast gradients count. from_scratch: the random weights are meant. BadInput for
    weights that cannot be read or fetched, and for an `image_size` or `as_published` that the network does not take.
    """
    if as_published and not card.course_version:
        raise BadInput(f"--as_published: the course has no hand-built {card.title}; leave the flag out")
    start_tensorflow()
    source = "random" if from_scratch else source
    if from_scratch:
        print(f"From scratch (seed {seed}): all layers of {card.title} begin with random weights.\n")
    elif source == "random":
        print(f"Random weights (seed {seed}): {card.title} has learned nothing, its predictions are meaningless.\n")
    elif source == "small":
        reading.small_path(card)
        print(f"Weights: {card.small.title}\n")
    settings = {"as_published": True} if as_published else {}
    if trains and not card.application:
        from transfer import fast

        settings["normalize"] = fast.normalize  # its gradient is faster, too
    module, name = card.module.rsplit(".", 1)
    dtype = compute_dtype(precision)
    return getattr(importlib.import_module(module), name).load(
        card, source, seed, image_size, dtype, features_only=not classifier, **settings
    )


def compute_dtype(precision: str) -> tf.DType:
    """TensorFlow's type to compute features and gradients in, for "float32", "bfloat16" or "auto".

    bfloat16 keeps float32's range with 3 digits, enough for features, and is about twice as fast where the hardware
    multiplies it: GPUs from Nvidia's Ampere on, processors with AVX-512 BF16 or AMX. Elsewhere it would be slower.
    """
    import tensorflow as tf

    if precision == "float32":  # and not what GPUs from Ampere on make of it, with 10 of its 23 bits
        tf.config.experimental.enable_tensor_float_32_execution(False)
    if precision == "auto":
        precision = "bfloat16" if _multiplies_bfloat16() else "float32"
    return tf.as_dtype(precision)


def _multiplies_bfloat16() -> bool:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    try:
        with open("/proc/cpuinfo") as file:  # Linux
            return bool(re.search(r"^flags.*\b(avx512_bf16|amx_bf16)\b", file.read(), re.MULTILINE))
    except OSError:
        return False
