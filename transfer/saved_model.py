"""A trained classifier as a SavedModel: one folder that any TensorFlow program can use, without these scripts.

    model = tf.saved_model.load("DIR")
    answer = model(images)         # RGB (N, height, width, 3), 0-255, of any size; no images, no answers
    answer["probabilities"]        # float32 (N, classes)
    answer["class_names"]          # (classes,), in the same order

Images are uint8, or int32, int64 or floats (16, 32 or 64 bits) with the same values. Floats of which none is above 1
are taken to be 0-1, as many programs have them. Other values (negative numbers, as after subtracting a mean, or NaN)
are refused with an InvalidArgumentError. The signature `serving_default`, for servers and other languages, takes uint8;
its class_names are (N, classes), each row the same, for TensorFlow Serving cuts every answer into one per image.
"""

import os

import tensorflow as tf

from common.writing import check_new_folder, folder_written_whole
from data.images import Framing, framing_of
from networks.network import Network, pooled
from weights.heads import Head

IMAGES = [
    tf.TensorSpec((None, None, None, 3), kind, name="images")
    for kind in (tf.uint8, tf.int32, tf.int64, tf.float16, tf.float32, tf.float64)
]
TOLERANCE = 0.5  # of 255: resizing may go a little beyond 0 and 255


class Served(tf.Module):
    """From raw images to probabilities, in one graph, with the variables that this needs and no others."""

    def __init__(self, network: Network, head: Head) -> None:
        super().__init__()
        trained = head.provenance
        layer, framing = trained.layer, framing_of(trained)
        self.kernel, self.bias = tf.Variable(head.kernel, name="kernel"), tf.Variable(head.bias, name="bias")
        self.class_names = head.class_names
        self.needed = network.variables_between(None, layer, with_statistics=True)
        # Functions, not the network itself, all of whose variables would be saved.
        self.framed = lambda images: cut(checked(images), framing)
        self.features = lambda images: pooled(network(network.preprocess_features(images), layer))

    @tf.function(autograph=False)
    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """RGB (N, height, width, 3) -> {"probabilities": (N, classes), "class_names": (classes,)}."""
        framed = self.framed(images)
        count = tf.shape(framed)[0]
        blank = tf.zeros((tf.cast(count == 0, tf.int32), *framed.shape[1:]))  # some convolutions take no empty batch
        probabilities = self.probabilities(tf.concat([framed, blank], axis=0))[:count]
        return {"probabilities": probabilities, "class_names": tf.constant(self.class_names)}

    @tf.function(input_signature=IMAGES[:1], autograph=False)
    def rows(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same for servers: the class names once per image."""
        answer = self(images)
        return answer | {"class_names": tf.repeat([answer["class_names"]], tf.shape(images)[0], axis=0)}

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))], autograph=False)
    def probabilities(self, images: tf.Tensor) -> tf.Tensor:
        """Framed images -> (N, classes); one graph for all types of images."""
        return tf.nn.softmax(self.features(images) @ self.kernel + self.bias)


def checked(images: tf.Tensor) -> tf.Tensor:
    """uint8 as they are, other types as float32 0-255; the graph fails on other values. See above."""
    if images.dtype == tf.uint8:
        return images
    fractions, images = images.dtype.is_floating, tf.cast(images, tf.float32)
    if fractions:
        images = tf.where(tf.reduce_max(images) <= 1 + TOLERANCE / 255, 255 * images, images)
    fits = tf.reduce_all((images >= -TOLERANCE) & (images <= 255 + TOLERANCE))  # NaN does not
    found = ["images from", tf.reduce_min(images), "to", tf.reduce_max(images)]
    with tf.control_dependencies([tf.debugging.Assert(fits, [*found, "; expected RGB, 0 to 255, or floats 0 to 1"])]):
        return tf.clip_by_value(images, 0, 255)


def cut(images: tf.Tensor, framing: Framing) -> tf.Tensor:
    """What `data.images.frame` does, in a graph: (N, height, width, 3) -> whole numbers (N, size, size, 3).

    Pillow resizes along the rows, rounds, and resizes along the columns, and so does this: one number in a hundred
    differs from `frame`'s, by 1 or rarely 2. Recent Pillow takes the columns of some tall images first: there one in
    four differs by 1.
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
    across, down = (shares(shape[axis], size, size / seen[axis], -start[axis] * size / seen[axis]) for axis in (1, 0))
    images = tf.tensordot(tf.cast(images, tf.float32), across, [[2], [1]])  # (N, height, 3, size)
    images = tf.tensordot(tf.floor(images + 0.5), down, [[1], [1]])  # (N, 3, size, size), the last one from the top
    return tf.floor(tf.transpose(images, (0, 3, 2, 1)) + 0.5)  # rounded as Pillow does, halves upwards


def shares(length: tf.Tensor, size: int, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Bilinear resizing along one side, with antialiasing, as a matrix (size, length): a pixel of the result is this
    mix of the side's pixels. Pixel p of the side becomes p * scale + shift.

    A product with it is what `tf.raw_ops.ScaleAndTranslate` computes, which other tools cannot convert.
    """
    centres = (tf.range(size, dtype=tf.float32) + 0.5 - shift) / scale
    distance = tf.abs(tf.range(tf.cast(length, tf.float32)) + 0.5 - centres[:, None])
    triangle = tf.maximum(0.0, 1 - tf.minimum(scale, 1.0) * distance)
    return triangle / tf.reduce_sum(triangle, axis=1, keepdims=True)


def export(network: Network, head: Head, folder: str | os.PathLike) -> None:
    """Write the SavedModel to `folder`, whole or not at all. `BadInput` when something lies there already."""
    check_new_folder(folder, "--export")
    with folder_written_whole(folder, last="saved_model.pb") as temporary:
        served = Served(network, head)
        for images in IMAGES:
            served.__call__.get_concrete_function(images)
        tf.saved_model.save(served, str(temporary), signatures=served.rows)
