"""A trained classifier as a SavedModel: one folder that any TensorFlow program can use, without these scripts.

    model = tf.saved_model.load("DIR")
    answer = model(pictures)      # uint8 RGB (N, height, width, 3), of any size
    answer["probabilities"]       # float32 (N, classes)
    answer["class_names"]         # (classes,), in the same order
"""

import os
import pathlib
import shutil
import tempfile

import tensorflow as tf

from alexnet import pooled
from data.files import BadInput, check_writable
from data.images import SHORTER_SIDE


class Served(tf.Module):
    """From raw pictures to probabilities, in one graph, with the variables that this needs and no others."""

    def __init__(self, network, head):
        super().__init__()
        settings = head.settings
        kernel, bias = tf.Variable(head.kernel, name="kernel"), tf.Variable(head.bias, name="bias")
        names = tf.constant(head.class_names)
        self.needed = [kernel, bias, *needed_variables(network, settings["layer"])]

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="pictures")])
        def serve(pictures):
            pictures = cut(pictures, settings["picture_size"], settings["crop"])
            x = network.preprocess(pictures, training=True)
            features = pooled(network(x, layer=settings["layer"]))
            return {"probabilities": tf.nn.softmax(features @ kernel + bias), "class_names": names}

        self.serve = serve

    def __call__(self, pictures):
        return self.serve(pictures)


def needed_variables(network, layer):
    """Of networks from Keras all variables, of ours those up to the layer."""
    return list(network.variables) if network.card.application else network.variables_between(None, layer)


def cut(pictures, size, crop):
    """As `data.images` prepares pictures for training: (N, height, width, 3) -> whole numbers (N, size, size, 3)."""
    if crop:
        shape = tf.shape(pictures)
        shorter, longer = tf.reduce_min(shape[1:3]), tf.reduce_max(shape[1:3])
        scale = tf.where((size <= shorter) & (longer <= SHORTER_SIDE), 1.0, SHORTER_SIDE / shorter)
        side = tf.cast(tf.round(size / tf.cast(scale, tf.float32)), tf.int32)
        top, left = (shape[1] - side) // 2, (shape[2] - side) // 2
        pictures = pictures[:, top : top + side, left : left + side]
    pictures = tf.image.resize(pictures, (size, size), method="bilinear", antialias=True)
    return tf.round(pictures)


def export(network, head, folder):
    """Write the SavedModel to `folder`, whole or not at all. `BadInput` when something lies there already."""
    folder = pathlib.Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: is there already; name another folder with --export, or delete it")
    check_writable(folder.parent / f"{folder.name}.part")
    temporary = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        served = Served(network, head)
        tf.saved_model.save(served, str(temporary), signatures=served.serve)
        os.chmod(temporary, 0o755)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); free space or choose another place") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
