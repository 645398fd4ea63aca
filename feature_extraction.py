"""Replace AlexNet's 1000-way layer by a 43-way one and name traffic signs.

    python feature_extraction.py                       # the course's construction and stop sign
    python feature_extraction.py my_sign.jpg           # your own
    python feature_extraction.py --head runs/my_run my_frog.jpg   # a run of your choice, not the newest
    python feature_extraction.py --export my_model     # a SavedModel for other programs
    python feature_extraction.py --demo                # drawn signs, random weights, nothing downloaded

The new layer, the head, sits on fc7: 4,096 features in, 43 classes out. `train_feature_extraction.py` trains it (and,
if you like, the layers below) and keeps it in a folder in runs/; this script uses the newest it finds there. Before
that the head is a random one and says so: run this script first, train, run it again.
"""

import argparse
import pathlib
import time

from scipy.special import softmax

from common.files import BadInput
from common.program import run
from data import images, traffic_signs
from imagenet_inference import load_network, print_top, shown
from traffic_sign_inference import add_sign_flags
from transfer import runs
from weights import cards, heads, reading

LAYER = cards.ALEXNET.bottleneck  # fc7, the last layer before ImageNet's classes


def find_head(args):
    """(head, its file): what `--head` names, else that of the newest run; else an untrained one, which is announced."""
    path = pathlib.Path(args.head) if args.head else runs.newest(heads.FILE, args.demo)
    if path:
        head = heads.load(path)
        trained_on, accuracy = head.settings["trained_on"], head.settings["validation_accuracy"]
        print(
            f"Head: {shown(path)}, {len(head.class_names)} classes, trained on {trained_on}, accuracy {accuracy:.3f}\n"
        )
        return head, path / heads.FILE if path.is_dir() else path
    demo = " --demo" * args.demo
    print(f"The head is not trained yet, its answers mean nothing: run train_feature_extraction.py{demo} first.\n")
    return heads.untrained(cards.ALEXNET.bottleneck_size, traffic_signs.sign_names(), args.seed), None


def load_network_of(head, path, args):
    """The network a head was trained on; `BadInput` when these are other weights: its answers would be noise."""
    trained = head.settings
    if not trained:
        return load_network(args)
    if args.as_published and not trained["as_published"]:
        raise BadInput("--as_published: the head was trained without it; train one with it, or leave the flag out")
    args.network, args.seed, args.precision = trained["network"], trained["seed"], trained["precision"]
    args.as_published = trained["as_published"]
    if not args.weights and trained["weights"]:
        args.weights = trained["weights"]
        if args.weights != "random":
            args.weights = str(path.parent / args.weights)  # a network that was trained lies beside its head
    network = load_network(args, features_only=True, image_size=trained["image_size"])
    if reading.fingerprint(network.weights) != trained["fingerprint"]:
        raise BadInput(
            f"{args.weights or ('random weights' if args.demo else 'the published weights')}: not the weights this head "
            f"was trained on, which were {trained['weights'] or 'the published ones'}; name those with --weights, or "
            "train a new head"
        )
    return network


def find_pictures(head, args):
    """(names, images) as the head was trained to see them."""
    if args.images and head.settings:
        return args.images, images.read_all(args.images, images.kept_framing(head.settings))
    return traffic_signs.find_signs(args.images, args.demo, args.seed)


def features_of(network, pictures, layer):
    """Images -> what a head on this layer sees, (N, features)."""
    from networks.network import pooled

    return pooled(network.activations(pictures, layer=layer, training=True)).numpy()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sign_flags(parser)
    parser.add_argument("--head", help="a run's folder, or its head.npz, when you want another than the newest")
    parser.add_argument("--export", metavar="DIR", help="write the classifier as a SavedModel, to use it without these "
                        "scripts: raw RGB images in, probabilities and names out")  # fmt: skip
    return parser.parse_args()


def main():
    args = parse_arguments()
    head, path = find_head(args)
    if args.export and not head.settings:
        raise BadInput("--export: there is no trained head; train one first, or name one with --head")
    names, pictures = find_pictures(head, args)
    network = load_network_of(head, path, args)
    start = time.perf_counter()
    features = features_of(network, pictures, head.settings.get("layer", LAYER))  # fc7: (N, 4096)
    probabilities = softmax(head.logits(features), axis=1)  # (N, classes)
    for number, row in enumerate(probabilities):
        print_top(number, names[number], row, head.class_names, args.top)
    print(f"Time: {time.perf_counter() - start:.3f} seconds")
    if args.export:
        from transfer.export import export

        export(network, head, args.export)
        print(f"Exported to {shown(args.export)}: tf.saved_model.load({str(args.export)!r})(images)")


if __name__ == "__main__":
    run(main)
