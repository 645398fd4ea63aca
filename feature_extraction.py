"""Replace AlexNet's 1000-way layer by a 43-way one and name traffic signs.

    python feature_extraction.py                       # the course's construction and stop sign
    python feature_extraction.py my_sign.jpg           # your own
    python feature_extraction.py --head weights/cifar10-head.npz frog.jpg
    python feature_extraction.py --demo                # drawn signs, random weights, nothing downloaded

The new layer, the head, sits on fc7: 4,096 features in, 43 classes out. `train_feature_extraction.py` trains it and
keeps it in weights/, and this script uses what it finds there. Before that the head is a random one and says so:
run this script first, train, run it again.
"""

import argparse
import pathlib
import time

from scipy.special import softmax

from data import traffic_signs
from data.files import BadInput
from data.program import run
from imagenet_inference import load_network, print_top, shown
from traffic_sign_inference import add_sign_flags, find_signs
from weights import cards, heads, reading

LAYER = cards.ALEXNET.bottleneck  # fc7, the last layer before ImageNet's classes


def find_head(args):
    """The head that `--head` names, else the one last trained on signs, else an untrained one, which is announced."""
    path = pathlib.Path(args.head) if args.head else heads.default_path("traffic-signs", args.demo)
    if args.head or path.exists():
        head = heads.load(path)
        trained_on, accuracy = head.settings["trained_on"], head.settings["validation_accuracy"]
        print(f"Head: {shown(path)}, {len(head.class_names)} classes, trained on {trained_on}, accuracy {accuracy:.3f}\n")
        return head
    demo = " --demo" * args.demo
    print(f"The head is not trained yet, its answers mean nothing: run train_feature_extraction.py{demo} first.\n")
    return heads.untrained(cards.ALEXNET.bottleneck_size, traffic_signs.sign_names(), args.seed)


def load_network_of(head, args):
    """The network a head was trained on; `BadInput` when these are other weights: its answers would be noise."""
    trained = head.settings
    if not trained:
        return load_network(args)
    if args.as_published and not trained["as_published"]:
        raise BadInput("--as_published: the head was trained without it; train one with it, or leave the flag out")
    args.network, args.seed, args.precision = trained["network"], trained["seed"], trained["precision"]
    args.as_published, args.weights = trained["as_published"], args.weights or trained["weights"]
    network = load_network(args, features_only=True, image_size=trained["image_size"])
    if reading.fingerprint(network.weights) != trained["fingerprint"]:
        raise BadInput(
            f"{args.weights or ('random weights' if args.demo else 'the published weights')}: not the weights this head was trained on, which were "
            f"{trained['weights'] or 'the published ones'}; name those with --weights, or train a new head"
        )
    return network


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sign_flags(parser)
    parser.add_argument("--head", help="a trained head, when you want another one than the last trained on signs")
    return parser.parse_args()


def main():
    args = parse_arguments()
    head = find_head(args)
    names, signs = find_signs(args)
    network = load_network_of(head, args)
    start = time.perf_counter()
    features = network.activations(signs, layer=head.settings.get("layer", LAYER)).numpy()  # (N, 4096)
    probabilities = softmax(head.logits(features), axis=1)  # (N, classes)
    for number, row in enumerate(probabilities):
        print_top(number, names[number], row, head.class_names, args.top)
    print(f"Time: {time.perf_counter() - start:.3f} seconds")


if __name__ == "__main__":
    run(main)
