"""A trained classifier as a .tflite file: for phones and small boards, where LiteRT (TensorFlow Lite) runs it.

    interpreter = Interpreter("signs.tflite")      # of the package ai-edge-litert; on phones Java, Kotlin, Swift ...
    classify = interpreter.get_signature_runner()
    answer = classify(images=image[None])          # uint8 (1, size, size, 3), red, green, blue, framed as in training
    answer["probabilities"]                        # float32 (1, classes), in the order of signs.labels.txt

Weights are kept in float16: half the size, the same answers. Or in int8, and most layers compute in int8 as well, which
makes a quarter of the size; where on its scale each layer's numbers lie is measured on images that it is calibrated on.
Only LiteRT's own operations are used.
"""

import pathlib
import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from common.program import stderr_kept_back

import numpy as np
import tensorflow as tf

from common.errors import printable
from common.writing import check_new_file, written_whole
from networks.network import Network, pooled
from transfer.saved_model import Served
from weights.heads import Head

KEPT = "float"  # prefix of the operations that int8 leaves in float32
TIMED = 20  # images that float16 is timed on, after one that is not counted; int8 is on those of the calibration


class Exported(NamedTuple):
    """What was written."""

    size: int  # bytes of the model
    milliseconds: float  # per image, on one thread of this machine
    answers: np.ndarray | None  # (N,) the model's answers for the images it was calibrated on


def export(
    network: Network, head: Head, path: pathlib.Path, labels: pathlib.Path, calibration: np.ndarray | None = None
) -> Exported:
    """Write the model to `path` and its class names, a line each, to `labels`; both whole or not at all.

    network: computing in float32. calibration: uint8 (N, size, size, 3), framed training images: int8; None: float16.
    `BadInput` when one of the files is there already or cannot be written.
    """
    for file in (path, labels):
        check_new_file(file, "--export")
    with stderr_kept_back():
        model = converted(network, head, calibration)
        size = head.provenance.size
        images = np.zeros((TIMED, size, size, 3), np.uint8) if calibration is None else calibration
        probabilities, milliseconds = answers_of(model, images)
    with written_whole(path) as whole, written_whole(labels) as names:
        whole.write_bytes(model)
        names.write_text("".join(f"{printable(name)}\n" for name in head.class_names), encoding="utf-8")
    answers = None if calibration is None else probabilities.argmax(axis=1)
    return Exported(len(model), milliseconds, answers)


def converted(network: Network, head: Head, calibration: np.ndarray | None) -> bytes:
    """The content of a .tflite file, see `export`."""
    model = Served(network, head)
    function = classifying(network, model, head).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibration is None:
        converter.target_spec.supported_types = [tf.float16]
        return converter.convert()

    def samples() -> Iterator[list[np.ndarray]]:
        return ([image[None]] for image in calibration)

    # The converter itself quantizes all it can. "Selective quantization" is a feature of its debugger.
    converter.representative_dataset = samples
    tools = tf.lite.experimental
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `interpreter`
        debugger = tools.QuantizationDebugger(converter=converter, debug_dataset=samples)
        tensors = interpreter(debugger.quant_model).get_tensor_details()
        kept = [tensor["name"] for tensor in tensors if tensor["name"].startswith(f"{KEPT}/")]
        debugger.options = tools.QuantizationDebugOptions(denylisted_nodes=kept, denylisted_ops=["SOFTMAX"])
    return debugger.get_nondebug_quantized_model()


def classifying(network: Network, model: Served, head: Head) -> tf.types.experimental.PolymorphicFunction:
    """A graph: framed images uint8 (1, size, size, 3) -> {"probabilities": (1, classes)}.

    One scale of 256 steps does not suit the first layer: its largest outputs are a hundred times its usual ones, until
    they are normalised. Kept in float32, as the softmax is, it costs no time and halves the answers that int8 changes.
    """
    size, layer = head.provenance.size, head.provenance.layer
    names = network.names_between(None, layer)
    normalised = [number for number, name in enumerate(names) if name.startswith("norm")]
    first = names[normalised[0] - 1 if normalised else 0]

    @tf.function(input_signature=[tf.TensorSpec((1, size, size, 3), tf.uint8, name="images")], autograph=False)
    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope(KEPT):  # int8 would give the input and the output of `tf.reverse` different scales
            x = network(network.preprocess_features(images), first)
        features = pooled(network(x, layer, after=first))
        return {"probabilities": tf.nn.softmax(features @ model.kernel + model.bias)}

    return classify


def interpreter(model: bytes) -> tf.lite.Interpreter:
    """What runs a model: TensorFlow's copy of LiteRT's interpreter, on one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ai-edge-litert's is to replace it, which TensorFlow does not bring along
        return tf.lite.Interpreter(model_content=model, num_threads=1)


def answers_of(model: bytes, images: np.ndarray) -> tuple[np.ndarray, float]:
    """uint8 (N, size, size, 3) -> probabilities (N, classes), and the median of the milliseconds per image."""
    classify = interpreter(model).get_signature_runner()
    classify(images=images[:1])  # the first one prepares the memory
    found, seconds = [], []
    for image in images:
        start = time.perf_counter()
        found.append(classify(images=image[None])["probabilities"][0])
        seconds.append(time.perf_counter() - start)
    return np.stack(found), 1000 * float(np.median(seconds))
