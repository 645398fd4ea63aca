"""Replace AlexNet's 1000-way layer by a 43-way one and name traffic signs.

    python feature_extraction.py                       # the course's construction and stop sign
    python feature_extraction.py my_sign.jpg           # your own
    python feature_extraction.py --head runs/my_run my_frog.jpg   # a run of your choice, not the newest
    python feature_extraction.py --serve               # a page in the browser: drop an image, see the answer
    python feature_extraction.py --export my_model     # a SavedModel for other programs
    python feature_extraction.py --export signs.tflite # one file for phones and small boards (LiteRT)
    python feature_extraction.py --demo                # drawn signs, the small AlexNet, nothing downloaded

The new layer, the head, sits on fc7: 4,096 features in, 43 classes out. `train_feature_extraction.py` trains it (and,
if you like, the layers below) and keeps it in a folder in runs/; this script uses the newest one there. Before any
training the head is random, and the script says so: run it, train, run it again.
"""

import argparse
import pathlib
import shlex
import time

from common.program import run, shown

from common.errors import BadInput
from common.flags import Parser, at_least, check_together
from data import images, traffic_signs
from transfer import answers, calibration, command_line, exports, flags, loading, novelty, serve, trained
from weights import cards, heads

ALEXNET = cards.ALEXNET  # before a training; afterwards the network that was trained on


def answer_untrained(args: argparse.Namespace) -> None:
    """A head before training: its features are right, its predictions are random."""
    print_untrained(args.demo)
    names, signs, problems = traffic_signs.find_signs(args.images, args.demo, args.seed)
    source = command_line.source_of(args.weights, args.demo, ALEXNET)
    classifier = untrained_classifier(source, args.seed, args.as_published)
    start = time.perf_counter()
    features = classifier.features(signs)  # fc7: (N, 4096)
    probabilities = classifier.head.probabilities(features)  # (N, 43)
    answers.show(names, [probabilities], classifier.class_names, args.top, start)
    images.raise_for(problems)


def answer_trained(args: argparse.Namespace, path: pathlib.Path) -> None:
    """The classifier that a training kept."""
    head = heads.load(path)
    print(f"{trained.description(head, path)}\n")
    if args.images or args.export or not traffic_signs.are_signs(head.class_names):
        names, found, problems = images.read_readable(images.expand(args.images), images.framing_of(head.provenance))
    else:
        names, found, problems = traffic_signs.find_signs([], args.demo, args.seed)
    if not (len(found) or problems or args.export):
        flag = " --demo" * args.demo + (f" --head {shlex.quote(args.head)}" if args.head else "")
        print(f"Name images to classify: python feature_extraction.py{flag} YOUR_IMAGE.jpg")
        return
    shown_to = calibration.find(path.parent, head, args.calibrate) if args.quantize == "int8" else None
    precision = "float32" if args.export else None  # other tools know no bfloat16
    weights = weights_for(head, args.weights, args.demo)
    classifier = trained.load(path, weights, args.as_published, head, precision=precision)
    if len(found):
        start = time.perf_counter()
        features = classifier.features(found)  # e.g. fc7: (N, 4096)
        known = novelty.load(path, features.shape[1])
        notes = [novelty.sentence(each) for each in novelty.percentiles(known, features)] if known else ()
        answers.show(names, [head.probabilities(features)], head.class_names, args.top, start, notes)
    if args.export:
        exports.write(classifier, args.export, shown_to)
    images.raise_for(problems)


def answer_in_browser(args: argparse.Namespace, path: pathlib.Path | None) -> None:
    """The same for images that are dropped on a page, until Ctrl-C."""
    with serve.listen(args.port) as server:
        if path is None:
            print_untrained(args.demo)
            source = command_line.source_of(args.weights, args.demo, ALEXNET)
            classifier = untrained_classifier(source, args.seed, args.as_published)
            known = None
        else:
            head = heads.load(path)
            print(f"{trained.description(head, path)}\n")
            weights = weights_for(head, args.weights, args.demo)
            classifier = trained.load(path, weights, args.as_published, head)
            known = novelty.load(path, len(head.kernel))
        serve.run(server, classifier, serve.about(classifier.head, path), known, args.top, not args.no_browser)


def untrained_classifier(source: str | None, seed: int, as_published: bool) -> trained.Trained:
    """AlexNet with a new head of 43 classes on its fc7. source: of its weights, as `loading.load_network` takes it."""
    network = loading.load_network(ALEXNET, source, seed=seed, as_published=as_published)
    framing = images.Framing(traffic_signs.SIGN_SIZE)
    origin = trained.provenance_of(network, ALEXNET.bottleneck, source, seed, framing=framing)
    head = heads.untrained(ALEXNET.bottleneck_size, traffic_signs.sign_names(), seed, origin)
    return trained.Trained(network, head, pathlib.Path())


def print_untrained(demo: bool) -> None:
    """That the head guesses, and what to do."""
    flag = " --demo" * demo
    print(f"The head is not trained yet, it guesses: run train_feature_extraction.py{flag} first.\n")


def weights_for(head: heads.Head, weights: str | None, demo: bool) -> str | None:
    """The weights that the flags name; None: those that the head remembers."""
    if head.provenance.weights is not None:
        return weights
    return command_line.source_of(weights, demo, cards.CARDS[head.provenance.network])  # a demo downloads nothing


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    flags.add_image_flags(parser, "your own images: signs cropped tightly, or whatever the classifier was trained on")
    flags.add_network_flags(parser)
    flags.add_as_published_flag(parser)
    flags.add_head_flag(parser)
    parser.add_argument("--export", metavar="PATH", type=pathlib.Path, help="write the classifier, usable without "
                        "these scripts: to a folder, as a SavedModel (raw RGB images in, probabilities and names "
                        "out), or to NAME.tflite for phones, or NAME.onnx for ONNX Runtime (framed RGB images in, "
                        "probabilities out)")  # fmt: skip
    parser.add_argument("--quantize", choices=("float16", "int8"), help="how NAME.tflite keeps weights: int8 makes "
                        "half the size of float16, and some answers differ (default float16)")  # fmt: skip
    parser.add_argument("--calibrate", metavar="DIR", type=pathlib.Path, help="with --quantize int8: images like those "
                        "that it was trained on (default: some of these, if they are still there)")  # fmt: skip
    parser.add_argument("--serve", action="store_true", help="open a page in the browser: drop an image on it, choose "
                        "or paste one, or use the camera")  # fmt: skip
    parser.add_argument("--port", type=at_least(0, most=65535), default=serve.PORT, help="of the page, on this machine "
                        f"alone; 0: any that is free (default {serve.PORT})")  # fmt: skip
    parser.add_argument("--no_browser", action="store_true", help="with --serve: print the page's address only")
    args = parser.parse_args()
    check_together(args, parser.parse_args([]), {"port": "serve", "no_browser": "serve"})
    return args


def main() -> None:
    args = parse_arguments()
    path = trained.find(args.head, args.demo)
    if args.serve and (args.images or args.export):
        flag = "--export" if args.export else shown(args.images[0])
        raise BadInput(f"--serve: images are given in the browser; leave out {flag}")
    exports.check(args.export, args.quantize, args.calibrate)
    if args.export and path is None:
        raise BadInput("--export: there is no trained head; train one first, or name one with --head")
    if args.serve:
        answer_in_browser(args, path)
    elif path is None:
        answer_untrained(args)
    else:
        answer_trained(args, path)


if __name__ == "__main__":
    run(main)
