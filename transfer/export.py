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
from data.images import SHORTER_SIDE
from networks.network import pooled

PICTURES = tf.TensorSpec((None, None, None, 3), tf.uint8, name="pictures")


class Served(tf.Module):
    """From raw images to probabilities, in one graph, with the variables that this needs and no others."""

    def __init__(self, network, head):
        super().__init__()
        layer, size, crop = (head.settings[name] for name in ("layer", "picture_size", "crop"))
        self.kernel, self.bias = tf.Variable(head.kernel, name="kernel"), tf.Variable(head.bias, name="bias")
        self.class_names = head.class_names
        self.needed = needed_variables(network, layer)
        # A function, not the network itself, all of whose variables would be saved.
        self.features = lambda images: pooled(network(network.preprocess(cut(images, size, crop), True), layer))

    @tf.function(input_signature=[PICTURES], autograph=False)
    def __call__(self, images):
        """uint8 RGB (N, height, width, 3) -> {"probabilities": (N, classes), "class_names": (classes,)}."""
        probabilities = tf.nn.softmax(self.features(images) @ self.kernel + self.bias)
        return {"probabilities": probabilities, "class_names": tf.constant(list(self.class_names))}


def needed_variables(network, layer):
    """Of networks from Keras all variables, of ours those up to the layer."""
    return list(network.variables) if network.card.application else network.variables_between(None, layer)


def cut(images, size, crop):
    """As `data.images` prepares images for training: (N, height, width, 3) -> whole numbers (N, size, size, 3)."""
    if crop:
        shape = tf.shape(images)
        shorter, longer = tf.reduce_min(shape[1:3]), tf.reduce_max(shape[1:3])
        as_it_is = (size <= shorter) & (longer <= SHORTER_SIDE)
        side = tf.where(as_it_is, size, tf.cast(tf.round(size * shorter / max(SHORTER_SIDE, size)), tf.int32))
        top, left = (shape[1] - side) // 2, (shape[2] - side) // 2
        images = images[:, top : top + side, left : left + side]
    images = tf.image.resize(images, (size, size), method="bilinear", antialias=True)
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
