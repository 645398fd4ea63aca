"""A trained classifier as a SavedModel: one folder that any TensorFlow program can use, without these scripts.

model = tf.saved_model.load("DIR")
answer = model(images)      # uint8 RGB (N, height, width, 3), of any size
answer["probabilities"]       # float32 (N, classes)
answer["class_names"]         # (classes,), in the same order
"""

import os
import pathlib
import shutil
import tempfile

import tensorflow as tf

from common.files import BadInput, check_writable
from data.images import Framing, kept_framing
from networks.network import pooled

PICTURES = tf.TensorSpec((None, None, None, 3), tf.uint8, name="pictures")


class Served(tf.Module):
    """From raw images to probabilities, in one graph, with the variables that this needs and no others."""

    def __init__(self, network, head):
        super().__init__()
        layer, framing = head.settings["layer"], kept_framing(head.settings)
        self.kernel, self.bias = tf.Variable(head.kernel, name="kernel"), tf.Variable(head.bias, name="bias")
        self.class_names = head.class_names
        self.needed = needed_variables(network, layer)
        # A function, not the network itself, all of whose variables would be saved.
        self.features = lambda images: pooled(network(network.preprocess(cut(images, framing), True), layer))

    @tf.function(input_signature=[PICTURES], autograph=False)
    def __call__(self, images):
        """uint8 RGB (N, height, width, 3) -> {"probabilities": (N, classes), "class_names": (classes,)}."""
        probabilities = tf.nn.softmax(self.features(images) @ self.kernel + self.bias)
        return {"probabilities": probabilities, "class_names": tf.constant(list(self.class_names))}


def needed_variables(network, layer):
    """Of networks from Keras all variables, of ours those up to the layer."""
    return list(network.variables) if network.card.application else network.variables_between(None, layer)


def cut(images: tf.Tensor, framing: Framing) -> tf.Tensor:
    """What `data.images.frame` does, in a graph: (N, height, width, 3) -> whole numbers (N, size, size, 3).

    Some numbers differ by 1 from `frame`'s, as Pillow rounds between its two passes, along rows and along columns.
    """
    size, resized = framing.size, max(framing.resized, framing.size)
    shape = tf.shape(images)[1:3]
    height, width = shape[0], shape[1]
    shorter, longer = tf.minimum(height, width), tf.maximum(height, width)
    fits = (size <= shorter) & (longer <= resized)
    if framing.how == "whole":
        seen, start = tf.cast(shape, tf.float32), tf.zeros(2)
    elif framing.how == "squeeze":
        # `size` of `resized` pixels of each side, and `size` pixels of an image that fits
        margin = (resized - size) // 2
        part = tf.cast(shape, tf.float32) / resized
        seen = tf.where(fits, float(size), size * part)
        start = tf.where(fits, tf.cast((shape - size) // 2, tf.float32), margin * part)
    else:
        side = tf.where(fits, size, tf.cast(tf.round(size / (resized / shorter)), tf.int32))
        seen, start = tf.cast(tf.stack([side, side]), tf.float32), tf.cast((shape - side) // 2, tf.float32)
        seen = tf.maximum(seen, 0.001)  # an image 1 pixel wide
    scale = size / seen
    images = tf.raw_ops.ScaleAndTranslate(
        images=images, size=(size, size), scale=scale, translation=-start * scale, kernel_type="triangle"
    )
    return tf.round(images)


def export(network, head, folder):
    """Write the SavedModel to `folder`, whole or not at all. `BadInput` when something lies there already."""
    folder = pathlib.Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: is there already; name another folder with --export, or delete it")
    check_writable(folder.parent / f"{folder.name}.part")
    temporary = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        served = Served(network, head)
        tf.saved_model.save(served, str(temporary), signatures=served.__call__)
        os.chmod(temporary, 0o755)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); free space or choose another place") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
