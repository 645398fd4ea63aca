"""Make a small file of a network that was trained here: AlexNet in 8 MB instead of 244, see `weights.small`.

    python -m transfer.shrink runs/my_network --classes names.txt --images photos --out packed.npz

The first argument is a weights file, or the folder of a run that trained the whole network (`--case 4 --layer fc7`).
Its classifier is the run's head, another head on fc7 (`--head`), or the file's own fc8. The head's classes, or those
that `--classes` lists, are ImageNet's: by their names, by one of their synonyms, or by WordNet's numbers (n01443537),
which need `--synsets`, Caffe's synset_words.txt. `--images`: some of the images that the network was trained on, one
folder per class, so that what matters to them is kept; without them the same size costs some accuracy.

Output: the largest arrays, the file's size, the seconds it takes to expand, and the relative error of each layer's
kernel; on images that were not looked at before, how far the output of the dense layers is off, and how often the same
class is named, given the same feature maps. It takes a minute or two; where other jobs share the processor, set
OPENBLAS_NUM_THREADS=1.
"""

import argparse
import dataclasses
import hashlib
import pathlib
import re
import time
from collections.abc import Sequence

from common.program import run, shown, start_tensorflow

import numpy as np

from caffe_classes import class_names
from common.errors import BadInput
from common.files import open_regular
from common.flags import LARGEST_SEED, Parser, at_least, check_together
from common.rows import batches
from common.writing import check_new_file, written_whole
from data import own_images
from transfer import packing
from weights import cards, heads, reading
from weights.cards import Card
from weights.reading import Weights

SAMPLE = 3840  # images that are looked at; what AlexNet's fc6 sees of one takes 37 KB
CHECKED = 1000  # of these, images that only the result is judged on
LONGEST_LIST = 1_000_000  # bytes of a list of classes


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a text file, of its first LONGEST_LIST bytes, that are not empty; BadInput if it cannot be read."""
    with open_regular(path, "a list of classes, one per line") as file:
        text = file.read(LONGEST_LIST).decode("utf-8-sig", errors="replace")  # as Windows begins a text
    return [line.strip() for line in text.splitlines() if line.strip()]


def numbers_of(names: Sequence[str], synsets: Sequence[str] = ()) -> np.ndarray:
    """ImageNet's numbers, 0-999, of classes: (k,) int, in the order of the names.

    names: as `caffe_classes` has them, one of the synonyms that no other class has (case and underscores do not
    matter), or WordNet's numbers. synsets: the lines of Caffe's synset_words.txt, see `check_synsets`. Raises BadInput
    for a class that is not ImageNet's, and for one that is named twice.
    """
    whole, synonyms = {}, {}
    for number, name in enumerate(class_names):
        whole.setdefault(_plain(name), set()).add(number)
        for each in name.split(", "):
            synonyms.setdefault(_plain(each), set()).add(number)
    by_synset = {line.split()[0]: {number} for number, line in enumerate(synsets)}
    known, numbers = synonyms | whole | by_synset, []
    for name in names:
        found = known.get(_plain(name), ())
        if len(found) != 1:
            hint = ""
            if found:
                hint = "; give its WordNet number, with --synsets"
            elif re.fullmatch(r"n\d{8}", name) and not synsets:
                hint = "; WordNet's numbers need --synsets"
            raise BadInput(f"{name}: is {len(found) or 'none'} of ImageNet's classes, expected one{hint}")
        numbers += found
    if len(set(numbers)) < len(numbers):
        raise BadInput(f"two of the {len(numbers)} classes are the same one of ImageNet's; name each once")
    return np.array(numbers)


def check_synsets(lines: Sequence[str]) -> None:
    """`BadInput` unless line by line they name ImageNet's 1,000 classes in its order: "n01440764 tench, Tinca tinca".

    Other lists of WordNet's numbers have other orders: with them every class would get another one's name.
    """
    expected = "expected Caffe's synset_words.txt"
    if len(lines) != len(class_names):
        raise BadInput(f"--synsets: has {len(lines):,} lines; {expected}, with a line for each of 1,000 classes")
    for number, (line, name) in enumerate(zip(lines, class_names), 1):
        if not re.fullmatch(rf"n\d{{8}}\s+{re.escape(name)}", line):
            raise BadInput(f"--synsets: line {number:,} is {line!a:.60}; {expected}, where it names {name!r}")


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def network_of(path: pathlib.Path, card: Card) -> Weights:
    """The weights of a file, or of the one that a run's head names; the last layer may have any number of columns.

    BadInput for a file that holds others, and for a run without a network of its own.
    """
    if path.is_dir():
        name = heads.load(path).provenance.weights or ""
        if pathlib.Path(name).name != name or not (path / name).is_file():
            raise BadInput(f"{path}: has no network of its own; give a weights file, or a run that trained all layers")
        path = path / name
    last = list(card.shapes)[-1]
    with reading.opened(path, card) as layers:
        pair = layers.get(last)
        columns = pair[1].shape if isinstance(pair, list) and hasattr(pair[1], "shape") else card.shapes[last][-1:]
        shapes = card.shapes | {last: (*card.shapes[last][:-1], *columns)}
        return reading.checked(layers, dataclasses.replace(card, shapes=shapes), path)


def check_head(head: heads.Head, weights: Weights, card: Card) -> None:
    """`BadInput` unless the head was trained on what comes before the last layer of this very network."""
    origin, features = head.provenance, len(head.kernel)
    if origin.network != card.name:
        raise BadInput(f"--head: was trained on {cards.CARDS[origin.network].title}, expected {card.title}; give the "
                       "weights it was trained on, and --network_name")  # fmt: skip
    if features != list(card.shapes.values())[-1][0] or origin.layer != card.bottleneck:
        found = f"a head on {features:,} features of {origin.layer}"
        raise BadInput(f"--head: {found}, expected one on {card.bottleneck}; train one with --layer {card.bottleneck}")
    if origin.fingerprint != reading.fingerprint(weights):
        found = origin.weights or "the published ones"
        raise BadInput(f"--head: was trained on other weights ({found}); give those, or train a head on these")


def with_classifier(
    weights: Weights, card: Card, head: heads.Head | None, names: Sequence[str], synsets: Sequence[str]
) -> tuple[Weights, np.ndarray]:
    """The network, whose last layer has one column per known class in ImageNet's order, and the numbers of these, (k,).

    head: the classifier (None: the network's own). names: ImageNet's classes of its columns, in their order, or of a
    network's own 1,000 those to keep; without any, the head's names, or all. BadInput where these do not belong
    together.
    """
    last = list(card.shapes)[-1]
    kernel, bias = (head.kernel, head.bias) if head else weights[last]
    names = names or (head.class_names if head else [])
    numbers = numbers_of(names, synsets) if names else np.arange(len(class_names))
    if head:
        check_head(head, weights, card)
    if not head and kernel.shape[1] == len(class_names):
        chosen = numbers = np.sort(numbers)
    elif kernel.shape[1] == len(numbers):
        chosen = np.argsort(numbers)
        numbers = numbers[chosen]
    else:
        raise BadInput(f"{len(numbers)} classes are named, the classifier has {kernel.shape[1]} columns; name as many")
    return weights | {last: (np.ascontiguousarray(kernel[:, chosen]), bias[chosen])}, numbers


def inputs_of_dense(weights: Weights, card: Card, photos: np.ndarray) -> np.ndarray:
    """What the first dense layer sees of the images, uint8 (N, height, width, 3): float32 (N, features)."""
    start_tensorflow()
    from transfer import fast, features, loading

    network = loading.load_network(card, weights, precision="auto")
    first = next(name for name, shape in card.shapes.items() if len(shape) == 2)
    layer = network.before(network.layer_of(first))
    compute = fast.frozen(network, photos.shape[1:], layer)
    numbers = batches(range(len(photos)), features.FORWARD_BATCH)
    return np.concatenate([compute(photos[rows]).reshape(len(rows), -1) for rows in numbers])


def report(weights: Weights, ours: Weights, numbers: np.ndarray, inputs: np.ndarray | None) -> None:
    """Print how far the expanded network, `ours`, is from the original, whose last layer has the classes `numbers`.

    inputs: (N, features), what the first dense layer sees of images that were not packed with; None: there are none.
    """
    print("\nRelative errors of the kernels")
    *_, last = weights
    ours = ours | {last: tuple(array[..., numbers] for array in ours[last])}
    for layer, (kernel, _) in weights.items():
        print(f"{layer}: {np.linalg.norm(ours[layer][0] - kernel) / np.linalg.norm(kernel):.4f}")
    if inputs is None:
        return
    print(f"\nRelative errors of the dense layers' outputs, on {len(inputs):,} other images (convolutions as before)")
    seen = theirs = inputs
    for layer in (name for name, (kernel, _) in weights.items() if kernel.ndim == 2):
        seen, theirs = seen @ weights[layer][0] + weights[layer][1], theirs @ ours[layer][0] + ours[layer][1]
        print(f"{layer}: {np.linalg.norm(theirs - seen) / np.linalg.norm(seen - seen.mean(axis=0)):.4f}")
        if layer != last:
            seen, theirs = np.maximum(seen, 0), np.maximum(theirs, 0)
    print(f"The same class is named for {np.mean(seen.argmax(axis=1) == theirs.argmax(axis=1)):.3f} of them")


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__, prog="python -m transfer.shrink")
    add = parser.add_argument
    add("network", type=pathlib.Path, help="weights file, or the folder of a run that trained all layers")
    add("--out", type=pathlib.Path, required=True, metavar="FILE", help="the small file, a .npz")
    add("--network_name", choices=[card.name for card in cards.CARDS.values() if card.shapes], default="alexnet",
        help="which network it is (default alexnet)")  # fmt: skip
    add("--head", type=pathlib.Path, help="the classifier: a run's folder, or its head.npz (default: the network's "
        "own)")  # fmt: skip
    add("--classes", type=pathlib.Path, metavar="FILE", help="the known classes, one per line; of a head, in its order "
        "(default: the head's names)")  # fmt: skip
    add("--synsets", type=pathlib.Path, metavar="FILE", help="Caffe's synset_words.txt, if classes are WordNet's "
        "numbers")  # fmt: skip
    add("--images", type=pathlib.Path, metavar="DIR", help="images of its classes, one folder per class")
    add("--sample", type=at_least(own_images.FEWEST, most=100_000), default=SAMPLE,
        help=f"how many of them (default {SAMPLE})")  # fmt: skip
    add("--megabytes", type=at_least(0.001, float, 1000), default=9.5, help="the largest size (default 9.5)")
    add("--seed", type=at_least(0, most=LARGEST_SEED), default=0,
        help="random seed of the choice of images (default 0)")  # fmt: skip
    args = parser.parse_args()
    defaults = parser.parse_args([str(args.network), "--out", str(args.out)])
    check_together(args, defaults, {"sample": "images", "seed": "images"})
    return args


def main() -> None:
    args = parse_arguments()
    check_new_file(args.out, "--out")
    card = cards.CARDS[args.network_name]
    head_path = args.head or (args.network if args.network.is_dir() else None)
    head = heads.load(head_path) if head_path else None
    names = read_lines(args.classes) if args.classes else []
    synsets = read_lines(args.synsets) if args.synsets else []
    if args.synsets:
        check_synsets(synsets)
    weights = network_of(args.network, card)
    packable, numbers = with_classifier(weights, card, head, names, synsets)
    inputs = judged = None
    if args.images:
        photos = own_images.sample(args.images, card.framing, card.input_size, args.sample, args.seed)
        mixed = inputs_of_dense(weights, card, photos)
        inputs, judged = np.split(mixed, [-min(CHECKED, len(mixed) // 4)])
    arrays = packing.pack(packable, numbers, int(args.megabytes * 1e6), inputs)
    content = packing.archive(arrays)
    with written_whole(args.out) as temporary:
        temporary.write_bytes(content)

    for name, array in arrays.items():
        if array.size > 10_000:
            print(f"{name}: {array.dtype} {array.shape}")
    print(f"\n{shown(args.out)}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    start, processor = time.perf_counter(), time.process_time()
    expanded = reading.load(card, args.out)
    seconds, of_processor = time.perf_counter() - start, time.process_time() - processor
    print(f"{len(numbers)} classes; expanded in {seconds:.2f} seconds ({of_processor:.2f} of all processors)")
    report(packable, expanded, numbers, judged)


if __name__ == "__main__":
    run(main)
