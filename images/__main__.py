"""Draw the README's pictures, into images/.

    python -m images                                         # those that need nothing: a minute
    python -m images --weights weights/bvlc_googlenet.caffemodel    # and what GoogLeNet says, five bars each
    python -m images --run runs/train_feature_extraction-20261125-171330     # and the loss of a training
    python -m images --only four_cases layers --out /tmp     # some of them, elsewhere

Output: a line per picture, `four_cases.png: 23 kB`, or what it lacks. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from common.program import run, shown

import numpy as np

from caffe_classes import class_names
from common.flags import Parser
from data import drawn_signs, images, splits, traffic_signs
from data.decoding import read
from data.traffic_signs import sign_names
from images import canvas, diagrams, how_much, measured, predictions
from transfer import run_files
from transfer.recipe import preset, recipe_for
from weights.cards import ALEXNET, GOOGLENET

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` and mistakes are answered without
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from networks.network import Network

FOLDER = pathlib.Path(__file__).resolve().parent
FILES = {  # picture: file
    "four_cases": "four_cases.png", "layers": "alexnet.png", "new_head": "new_head.png", "signs": "drawn_signs.png",
    "mistakes": "mistakes.png", "photo": "photo.jpg", "stop_sign": "stop_sign.png", "loss": "loss.png",
    "how_much": "how_much.png",
}  # fmt: skip
STOP_SIGN_SIZES = 32, 227  # pixels: of the course's signs, and of AlexNet's input
SHOWN = 6  # mistakes


def lacking(weights: str | None, folder: pathlib.Path | None) -> dict[str, str]:
    """{picture: what it needs and has not}."""
    lacks = {} if weights else dict.fromkeys(("photo", "stop_sign"), "needs GoogLeNet's weights: --weights FILE")
    if not folder:
        lacks["loss"] = "needs a training: --run RUN"
    if not how_much.RESULTS.exists():
        lacks["how_much"] = f"needs {shown(how_much.RESULTS)}: python -m images.how_much"
    return lacks


def makers(weights: str | None, folder: pathlib.Path | None) -> dict[str, Callable[[], Figure | Image]]:
    """{picture: a function that draws it}. weights: of GoogLeNet. folder: of a run."""
    return {
        "four_cases": lambda: diagrams.four_cases(ALEXNET, below_the_head(random_network())),
        "layers": lambda: diagrams.layers(random_network()),
        "new_head": lambda: diagrams.new_head(ALEXNET, below_the_head(random_network()), len(sign_names())),
        "signs": lambda: predictions.drawn_signs(drawn_signs.draw(per_class=1)[0]),
        "mistakes": lambda: predictions.mistakes(*demo_mistakes(random_network())),
        "photo": lambda: photo(weights),
        "stop_sign": lambda: stop_sign(weights),
        "loss": lambda: measured.loss(run_files.read_history(folder)["epochs"], run_files.read_history(folder)["kept"]),
        "how_much": lambda: measured.how_much(measured_with(GOOGLENET.name)),
    }


def measured_with(network: str) -> list[dict]:
    """The points of one network, for accuracy against images per class."""
    return [each for each in how_much.measured(how_much.RESULTS).values() if each["network"] == network]


@functools.cache
def random_network() -> Network:
    """AlexNet, for its layers and their shapes, which do not depend on its weights."""
    from transfer import loading

    return loading.load_network(ALEXNET, "random", precision="auto")


def below_the_head(network: Network) -> list[str]:
    """The layers up to the one whose output a new head gets by default."""
    return network.names_between(None, network.card.bottleneck)


@functools.cache
def googlenet(weights: str) -> Network:
    from transfer import loading

    return loading.load_network(GOOGLENET, weights)


def photo(weights: str) -> Figure:
    """scikit-learn's photo of a temple, seen as `imagenet_inference.py` sees photos."""
    path, framing = images.sample_photos()[0], images.as_trained(GOOGLENET.framing, *[GOOGLENET.input_size] * 2)
    probabilities = googlenet(weights).activations(images.read_all([path], framing)).numpy()  # (1, 1000)
    return predictions.photo(read(path), probabilities[0], class_names)


def stop_sign(weights: str) -> Figure:
    signs = [predictions.drawn_stop_sign(size)[None] for size in STOP_SIGN_SIZES]
    probabilities = [googlenet(weights).activations(sign).numpy()[0] for sign in signs]
    return predictions.stop_sign(STOP_SIGN_SIZES, probabilities, class_names)


def demo_mistakes(network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The most confident mistakes of `train_feature_extraction.py --demo --case 2 --weights random`, one of each sign.

    Returns (images uint8 (n, 32, 32, 3), labels (n,), probabilities (n, 43), names).
    """
    from transfer import cases, devices, evaluation, features, trained
    from transfer.classifier import predict

    here, case = devices.find(), preset(2, network.card)
    split = splits.split(traffic_signs.drawn(), "track", seed=0)
    signs, labels, names = split.dataset.images, split.dataset.labels, split.dataset.class_names
    origin = trained.provenance_of(network, case.layer, "random", seed=0)
    vectors = features.frozen_features(network, signs, case.layer, origin, cache=None)
    outcome = cases.train_head(vectors, split, recipe_for(case, network.card), here)
    probabilities = predict(outcome.classifier, outcome.inputs, split.validation, here)
    wrong = evaluation.evaluate(labels[split.validation], probabilities, names).mistakes
    firsts = np.unique(labels[split.validation[wrong]], return_index=True)[1]
    chosen = wrong[np.sort(firsts)[:SHOWN]]
    rows = split.validation[chosen]
    return signs[rows], labels[rows], probabilities[chosen], names


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__, prog="python -m images")
    parser.add_argument("--weights", metavar="FILE", help="GoogLeNet's weights (.npz, .npy, .caffemodel)")
    parser.add_argument("--run", type=pathlib.Path, metavar="RUN", help="the folder of a training, for its loss")
    parser.add_argument("--only", nargs="+", choices=FILES, default=list(FILES), help="pictures (default: all)")
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER, metavar="DIR", help="folder (default images/)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.run:
        run_files.read_settings(args.run)  # tells a folder that is no run
    lacks, draw = lacking(args.weights, args.run), makers(args.weights, args.run)
    for name in args.only:
        path = args.out / FILES[name]
        if name in lacks:
            print(f"{path.name}: left out, {lacks[name]}")
            continue
        with contextlib.redirect_stdout(io.StringIO()):  # what loading and training print
            picture = draw[name]()
        canvas.save(picture, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    run(main)
