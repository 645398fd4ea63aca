"""A pretrained AlexNet without a training: its layers imitate GoogLeNet's, by least squares, one after the other.

    python -m transfer.distill photos --teacher_weights weights/bvlc_googlenet.caffemodel --out alexnet.npz
    python train_feature_extraction.py --weights alexnet.npz        # it is an AlexNet like any other

Both networks look at the same photos, and both make maps with a window every 8 and every 16 pixels. Layer by layer,
from conv2 to conv5, AlexNet gets the kernels with which its map comes nearest to some channels of GoogLeNet's: linear
regression from what the layer sees, millions of windows, to what the teacher sees there. conv1 takes over GoogLeNet's
64 first filters. fc6 and fc7 carry 1,024 numbers that imitate GoogLeNet's last features, beside random ones, and fc8 is
its classifier. No label is needed, and no gradient: every layer is fitted once, to all photos at the same time, which
takes minutes where training from scratch takes days. (Layer-wise imitation: Romero and others, "FitNets: hints for thin
deep nets", 2015.)

Output: for each layer, how much of the teacher's variance its first fit explains on these photos (R2), of fc6 on a
fifth that was held out, and the seconds.
"""

import argparse
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from common.program import run, shown, start_tensorflow

import numpy as np
from tqdm import tqdm

from common.flags import LARGEST_SEED, Parser, at_least
from common.writing import check_new_file
from data import own_images
from transfer.least_squares import Sums, most_different, ridge_regression
from weights import reading
from weights.cards import ALEXNET, GOOGLENET

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` and mistakes are answered without
    from googlenet import GoogLeNet

# AlexNet's layer, what it reads, the teacher's layer that it imitates, the side of its map, windows that are looked at
# in each photo.
LAYERS = (
    ("conv2", "pool1", "inception_3b", 27, 44),
    ("conv3", "pool2", "inception_4a", 13, 50),
    ("conv4", "conv3", "inception_4c", 13, 50),
    ("conv5", "conv4", "inception_4e", 13, 50),
)
FIRST = ("norm2", 55, 36)  # the last three for those filters of conv1 that GoogLeNet does not have
SHIFT = 3  # the middles of AlexNet's windows lie at 8k + 9 pixels, GoogLeNet's at 8k + 6
BATCH = 50
BRIGHT = 80.0  # root mean square of conv1's own filters' output, about that of GoogLeNet's, in units of pixels
LEAST_CROP = 0.5  # photos are shown at up to twice their size, since things come in all sizes

Weights = dict[str, tuple[np.ndarray, np.ndarray]]


def distill(photos: np.ndarray, teacher_weights: Weights | str, seed: int = 0) -> Weights:
    """The weights of an AlexNet that imitates GoogLeNet on the photos, uint8 (N, H, W, 3).

    teacher_weights: {layer: (kernel, bias)}, or a file; BadInput as `weights.reading.load` raises it.
    """
    from googlenet import GoogLeNet

    rng = np.random.default_rng(seed)
    teacher = GoogLeNet.load(GOOGLENET, teacher_weights)
    random = reading.random_weights(ALEXNET, seed)
    weights = dict(random)
    inputs, places, targets = looks(photos, teacher, rng)
    weights["conv1"] = first_layer(inputs, targets[FIRST[0]], places[FIRST[0]], teacher, rng)
    below = None
    for layer, reads, imitated, *_ in LAYERS:
        inputs = through(weights, inputs, below, reads)
        weights[layer] = convolution(layer, inputs, targets[imitated], places[imitated])
        below = reads
    inputs = through(weights, inputs, below, "pool5")
    weights |= dense_layers(np.concatenate(inputs), np.concatenate(targets["pool5"]), random, teacher)
    return weights


def looks(photos: np.ndarray, teacher: "GoogLeNet", rng: np.random.Generator) -> tuple[list, dict, dict]:
    """What both networks see: AlexNet's input and the teacher's maps, a batch at a time.

    Returns (inputs, places, targets): lists of one array per batch of n photos, the latter two by the teacher's layers.
    inputs: float16 (n, 227, 227, 3). places: (count,) int; a window is row * columns + column. targets: float16 (n,
    count, channels), and under "pool5" the teacher's features (n, 1024).
    """
    import tensorflow as tf

    from networks.network import preprocess
    from transfer import augmentation

    chance = rng.random((len(photos), augmentation.EXPOSED), dtype=np.float32)
    mapped = {imitated: (side, count) for *_, imitated, side, count in (FIRST, *LAYERS)}
    names = [name for name in teacher.layer_names if name in (*mapped, "pool5")]

    @tf.function(autograph=False)
    def both(images: tf.Tensor, chance: tf.Tensor) -> tuple[tf.Tensor, list]:
        flipped = augmentation.random_half(chance)
        x = augmentation.random_crops(images, chance, ALEXNET.input_size, LEAST_CROP, flipped)
        x = preprocess(x, ALEXNET)
        maps, below, y = [], None, x[:, SHIFT:, SHIFT:]
        for name in names:
            y = teacher(y, name, after=below)
            maps.append(y)
            below = name
        return x, maps

    inputs, places, targets = [], {name: [] for name in mapped}, {name: [] for name in names}
    for rows in progress(range(0, len(photos), BATCH), "the teacher"):
        x, maps = both(photos[rows : rows + BATCH], chance[rows : rows + BATCH])
        inputs.append(x.numpy().astype(np.float16))
        for name, found in zip(names, maps):
            found = found.numpy()
            if name in mapped:
                side, count = mapped[name]
                chosen = rng.permutation(side * side)[:count]
                places[name].append(chosen)
                found = found[:, :side, :side].reshape(len(found), side * side, -1)[:, chosen]
            targets[name].append(found.astype(np.float16))
    return inputs, places, targets


def first_layer(
    inputs: list, targets: list, places: list, teacher: "GoogLeNet", rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """conv1: GoogLeNet's 64 filters of 7 x 7 in the middle of 11 x 11, and 32 that say most about its second layer.

    inputs, targets, places: from `looks`. Returns float32 (11, 11, 3, 96) and (96,).
    """
    kernel, bias = np.zeros((11, 11, 3, 96), np.float32), np.zeros(96, np.float32)
    own = [each.numpy() for each in teacher.weights["conv1/7x7_s2"]]
    kernel[2:9, 2:9, :, :64], bias[:64] = own
    sums = Sums()
    for x, y in windows(inputs, targets, places, 11, stride=4, padding="VALID"):
        sums.add(x, y)
    solution = sums.solve(ridge=1e-2)
    explained = sums.explained(solution)
    scale = 1 / np.sqrt(np.diag(explained) + 1e-9)
    chosen = most_different(explained * np.outer(scale, scale), 96 - 64)
    solution = solution[:, chosen] * (BRIGHT * scale[chosen])
    kernel[..., 64:], bias[64:] = solution[:-1].reshape(11, 11, 3, -1), solution[-1]
    mixed = rng.permutation(96)  # conv2's two groups see one half each
    return np.ascontiguousarray(kernel[..., mixed]), bias[mixed]


def convolution(layer: str, inputs: list, targets: list, places: list) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias with which a layer's output comes nearest to as many of the teacher's channels as it has.

    Each group of a layer sees a part of the inputs only. It takes the channels that it can imitate best, and that say
    something different each. Where the teacher's channel is 0, its ReLU hid a negative number, so that any negative
    output is as good: the second fit asks for no more.

    inputs: float16 (n, h, w, c) per batch, what the layer reads; targets: float16 (n, count, channels); places:
    (count,) int, both from `looks`. Returns float32 (side, side, c / groups, outputs) and (outputs,).
    """
    start, (side, _, seen, outputs) = time.perf_counter(), ALEXNET.shapes[layer]
    groups = inputs[0].shape[-1] // seen
    spread = np.sqrt(np.mean([np.mean(np.float32(each) ** 2, axis=(0, 1)) for each in targets], axis=0)) + 1e-6
    taken, kernels, biases, quality = [], [], [], []
    for group in range(groups):
        part = slice(group * seen, (group + 1) * seen)
        sums = Sums()
        for x, y in windows(inputs, targets, places, side, part):
            sums.add(x, y / spread)
        solution = sums.solve()
        explained = sums.explained(solution)
        chosen = most_different(explained, outputs // groups, taken)
        taken += chosen
        solution = solution[:, chosen].astype(np.float32)
        again = Sums()
        for x, y in windows(inputs, targets, places, side, part):
            y = (y / spread)[:, chosen]
            again.add_targets(x, np.where(y > 0, y, np.minimum(x @ solution, 0)))
        again.inputs = sums.inputs
        solution = again.solve().astype(np.float32)
        quality += list(sums.share_explained(explained)[chosen])
        kernels.append(solution[:-1].reshape(side, side, seen, -1))
        biases.append(solution[-1])
    print(f"{layer}: R2 {np.mean(quality):.3f}, {time.perf_counter() - start:.0f} seconds", flush=True)
    return np.concatenate(kernels, axis=-1), np.concatenate(biases)


def dense_layers(inputs: np.ndarray, features: np.ndarray, random: Weights, teacher: "GoogLeNet") -> Weights:
    """fc6: the teacher's features from pool5, beside random ones; fc7 hands them on; fc8 is the teacher's classifier.

    inputs: (N, 6, 6, 256). features: (N, 1024). random: an AlexNet's weights. Returns those of the three layers.
    """
    start, count = time.perf_counter(), features.shape[1]
    inputs, features = np.float32(inputs).reshape(len(inputs), -1), np.float32(features)
    spread = np.sqrt(np.mean(features**2, axis=0)) + 1e-6
    kernel, bias, quality = ridge_regression(inputs, features / spread)
    print(f"fc6: R2 {quality:.3f} of photos that were held out, {time.perf_counter() - start:.0f} seconds", flush=True)
    fc6, fc7, fc8 = (random[layer][0].copy() for layer in ("fc6", "fc7", "fc8"))
    zeros = np.zeros(fc6.shape[1], np.float32)
    fc6[:, :count] = kernel
    fc7[:, :count], fc7[:count, :count] = 0, np.eye(count)
    classifier, offsets = (each.numpy() for each in teacher.weights["loss3/classifier"])
    fc8[:], fc8[:count] = 0, classifier.reshape(count, -1) * spread[:, None]
    return {"fc6": (fc6, np.concatenate([bias, zeros[count:]])), "fc7": (fc7, zeros), "fc8": (fc8, offsets)}


def windows(
    inputs: list, targets: list, places: list, side: int, part: slice = slice(None), stride: int = 1,
    padding: str = "SAME",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """(x, y), float32, for each batch: what a kernel of `side` x `side` sees at its windows, then 1; the targets.

    inputs: (n, h, w, c) per batch, of whose channels `part` is seen; targets: (n, count, channels); places: (count,)
    int, windows as row * columns + column of the kernel's output. x (n * count, side * side * channels seen + 1), y
    (n * count, channels).
    """
    import tensorflow as tf

    for batch, target, chosen in zip(inputs, targets, places):
        x = tf.cast(batch[..., part], tf.float32)
        x = tf.image.extract_patches(x, (1, side, side, 1), (1, stride, stride, 1), (1, 1, 1, 1), padding)
        x = tf.gather(tf.reshape(x, (len(batch), -1, x.shape[-1])), chosen, axis=1).numpy()
        x = x.reshape(-1, x.shape[-1])
        yield np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1), np.float32(target).reshape(len(x), -1)


def through(weights: Weights, inputs: list, after: str | None, layer: str) -> list:
    """The output of AlexNet's `layer`, float16, for batches (n, height, width, channels) of the output of `after`.

    after: None: of its input.
    """
    import tensorflow as tf

    from alexnet import AlexNet

    network = AlexNet(weights)
    step = tf.function(lambda x: network(x, layer, after=after), autograph=False)
    return [step(tf.cast(each, tf.float32)).numpy().astype(np.float16) for each in progress(inputs, layer)]


def progress(items: Sequence, title: str) -> Iterator:
    """The items, with a bar where somebody looks."""
    return tqdm(items, title, unit="batch", leave=False, delay=2, disable=None)


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__, prog="python -m transfer.distill")
    add = parser.add_argument
    add("photos", type=pathlib.Path, help="photos of all kinds of things, one folder per class")
    add("--teacher_weights", metavar="FILE", help="GoogLeNet's weights, if they are not in weights/")
    add("--count", type=at_least(10 * BATCH), default=3000, help="photos that are looked at, chosen at random; each "
        "takes 0.7 MB of memory (default 3000)")  # fmt: skip
    add("--seed", type=at_least(0, most=LARGEST_SEED), default=0, help="random seed (default 0)")
    add("--out", type=pathlib.Path, required=True, metavar="FILE", help="the weights file, a .npz")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    check_new_file(args.out, "--out")  # not after ten minutes
    teacher = reading.load(GOOGLENET, args.teacher_weights)
    photos = own_images.sample(args.photos, GOOGLENET.framing, GOOGLENET.input_size, args.count, args.seed)
    start_tensorflow()
    start = time.perf_counter()
    weights = distill(photos, teacher, args.seed)
    reading.save(weights, args.out)
    print(f"{len(photos):,} photos, {(time.perf_counter() - start) / 60:.1f} minutes. Kept in {shown(args.out)}")


if __name__ == "__main__":
    run(main)
