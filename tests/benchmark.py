"""Measure how fast this machine computes, compared with the course's way: one table, ten minutes on two cores.

    python tests/benchmark.py                      # everything
    python tests/benchmark.py --only alexnet       # or googlenet, vgg, steps, training, start
    TF_ENABLE_ONEDNN_OPTS=1 python tests/benchmark.py --only steps   # on processors without AVX-512 this is faster

What is compared runs in turn in one process, batch by batch, so that whatever else the machine does falls on all alike;
a number is the median of the rounds. Weights and images are random: speed does not depend on them.

Output: the machine and a Markdown table, printed at the end in one piece.
"""

import argparse
import os
import pathlib
import platform
import re
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common.program import start_tensorflow

import numpy as np
from child_runs import FIRST_PREDICTION, WITH_PEAK, run_script, write_signs
from other_alexnets import course_graph, onnx_graph
from other_trainers import keras_fit, keras_network, torch_network, torch_steps

from weights import cards, heads, reading

BATCH = 128
SIGNS = 39_209  # GTSRB's training images
EPOCHS = 10
FEWER = 15  # whole trainings are measured on one sign in 15 and multiplied
CUBE = 4096  # side of the matrices whose product tells the machine's limit
CLASSES = 43  # of the heads that are trained, GTSRB's
STEPS = (  # network, side of its images, batch, steps a round: more where one takes little
    (cards.ALEXNET, 227, 32, 2),
    (cards.ALEXNET, 227, 128, 2),
    (cards.GOOGLENET, 64, 32, 6),
    (cards.GOOGLENET, 224, 32, 2),
)


def measure(functions, rounds=7):
    """{name: function} -> {name: median seconds}. The first call, which compiles, does not count."""
    seconds = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            progress(f"{name}, round {number} of {rounds}")
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}


def progress(text=""):
    if sys.stderr.isatty():
        print(f"\r{text:<100}", end="\r", file=sys.stderr, flush=True)


def add_speeds(table, title, seconds, images):
    """A row for each way of computing; the first is what the others are compared with."""
    first = next(iter(seconds.values()))
    for name, each in seconds.items():
        table.append((f"{title}: {name}", f"{images / each:.1f} images/s", f"{first / each:.2f} x"))


def random_images(count, side):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def operations(network, layer):
    """Multiplications and additions for one image up to `layer`, from the shapes."""
    total = 0
    for name, (kernel, _) in network.weights.items():
        out = network(np.zeros((1, 227, 227, 3), np.float32), layer=name).shape
        total += 2 * np.prod(kernel.shape) * np.prod(out[1:-1])
        if name == layer:
            return int(total)


def alexnet_part(table, results):
    import tensorflow as tf

    from alexnet import AlexNet
    from transfer.fast import frozen

    weights = reading.load(cards.ALEXNET, "random")
    signs = random_images(BATCH, 32)
    course = course_graph(weights, 32)
    networks = {dtype.name: AlexNet(weights, dtype=dtype) for dtype in (tf.float32, tf.bfloat16)}
    functions = {"the course's graph, float32": lambda: course(signs)}
    for name, network in networks.items():
        fast = frozen(network, signs.shape[1:], "fc7")
        functions[f"alexnet.py, {name}"] = lambda network=network: network.activations(signs, layer="fc7").numpy()
        functions[f"transfer/fast.py, {name}"] = lambda fast=fast: fast(signs)
    onnx = onnx_graph(weights)
    if onnx:
        large = np.zeros((BATCH, 3, 227, 227), np.float32)
        functions["ONNX Runtime, float32, images already resized"] = lambda: onnx(large)
    cubes = {name: tf.cast(tf.random.normal((CUBE, CUBE)), name) for name in networks}
    products = {f"product {name}": lambda cube=cube: tf.matmul(cube, cube).numpy() for name, cube in cubes.items()}
    seconds = measure(functions | products)
    add_speeds(table, "AlexNet, 32x32 signs to fc7", {name: seconds[name] for name in functions}, BATCH)
    work = operations(networks["float32"], "fc7")
    for name in networks:
        limit = 2 * CUBE**3 / seconds[f"product {name}"]
        share = work * BATCH / seconds[f"transfer/fast.py, {name}"] / limit
        # The fused first layer of transfer/fast.py does with 0.2 GFLOP less, so the share can exceed 1.
        what = f"the limit: product of {CUBE} x {CUBE} matrices, {name}; an image takes {work / 1e9:.2f} GFLOP"
        table.append((what, f"{limit / 1e9:.0f} GFLOP/s", f"transfer/fast.py: {share:.2f} of it"))
    results["course"] = BATCH / seconds["the course's graph, float32"]


def googlenet_part(table, _):
    import tensorflow as tf

    from googlenet import GoogLeNet
    from transfer.fast import frozen

    images = random_images(32, 224)
    weights = reading.load(cards.GOOGLENET, "random")
    functions = {}
    for dtype in (tf.float32, tf.bfloat16):
        network = GoogLeNet(weights, dtype=dtype)
        fast = frozen(network, images.shape[1:], "pool5")
        functions[f"googlenet.py, {dtype.name}"] = lambda n=network: n.activations(images, layer="pool5").numpy()
        functions[f"by fast.frozen, {dtype.name}"] = lambda fast=fast: fast(images)
    add_speeds(table, "GoogLeNet, 224x224 to pool5", measure(functions, rounds=5), len(images))


def vgg_part(table, _):
    import tensorflow as tf

    from networks.keras_networks import KerasNetwork

    images = random_images(8, 224)
    functions = {}
    for dtype in (tf.float32, tf.bfloat16):
        network = KerasNetwork.load(cards.VGG, "random", dtype=dtype, features_only=True)
        functions[f"keras.applications, {dtype.name}"] = lambda n=network: n.activations(images, "avg_pool").numpy()
    add_speeds(table, "VGG16, 224x224 to avg_pool", measure(functions, rounds=5), len(images))


def steps_part(table, _):
    """Training steps alone, of all layers and a head, with Adam; in bfloat16, too, where the processor multiplies it.

    PyTorch's rows are there where it is installed.
    """
    from transfer.loading import compute_dtype

    precisions = list(dict.fromkeys(["float32", compute_dtype("auto").name]))
    for card, side, batch, steps in STEPS:
        title = f"training steps of {card.title} at {side} pixels, {batch} images each"
        functions = ways_to_train(card, random_images(steps * batch, side), batch, precisions)
        add_speeds(table, title, measure(functions, rounds=3), steps * batch)
    weights, images = reading.load(cards.GOOGLENET, "random"), random_images(32, 64)
    classifier = trained_whole(cards.GOOGLENET, weights, 64)
    functions = {name: our_steps(classifier, images, 32, augment=bool(name)) for name in ("", "augmentation")}
    seconds = measure(functions, rounds=15)
    added = seconds["augmentation"] / seconds[""] - 1
    table.append(("what augmentation adds to GoogLeNet's steps at 64 pixels", f"{added:.1%}", ""))


def ways_to_train(card, images, batch, precisions):
    """{name: function}, each of which makes one step for each batch of the images, with weights of its own."""
    weights, labels = reading.load(card, "random"), np.arange(len(images)) % CLASSES
    networks = {precision: trained_whole(card, weights, images.shape[1], precision) for precision in precisions}
    ours = networks["float32"]
    count = sum(each.shape.num_elements() for each in ours.variables_of_training)
    head = heads.Head(ours.kernel.numpy(), ours.bias.numpy(), [])
    prepared = ours.network.preprocess(images).numpy()  # the others need not do it in every step
    model = keras_network(card, weights, head, images.shape[1])
    assert model.count_params() == count
    functions = {"Keras's fit, float32": keras_fit(model, prepared, labels, batch)}
    for precision in precisions:
        module = torch_network(card, weights, head)
        if module:
            assert sum(each.numel() for each in module.parameters()) == count
            steps = torch_steps(module, prepared, labels, batch, precision)
            functions[f"PyTorch on the processor, {precision}"] = steps
    for precision, classifier in networks.items():
        functions[f"transfer/steps.py, {precision}"] = our_steps(classifier, images, batch)
    return functions


def trained_whole(card, weights, side, precision="float32"):
    """A classifier all of whose layers are trained: that of case 3."""
    from transfer.classifier import Classifier
    from transfer.loading import load_network

    network = load_network(card, weights, image_size=side, precision=precision, trains=True)
    head = heads.untrained(card.bottleneck_size, [str(number) for number in range(CLASSES)])
    return Classifier(head, 0.0, 1.0, network, card.bottleneck, None, network.layer_names[0])


def our_steps(classifier, images, batch, augment=False):
    """A function: the steps of an epoch, as training makes them, without dropout, which the others do without."""
    from transfer import augmentation, devices, steps
    from transfer.recipe import preset, recipe_for

    card, found = classifier.network.card, devices.find()
    recipe = recipe_for(preset(3, card), card, len(images), batch_size=batch, augment=augment, dropout=False)
    steps = steps.Training(classifier, recipe, found, len(images)).steps(1)
    labels, place = np.arange(len(images)) % CLASSES, np.arange(len(images), dtype=np.int32) % batch
    chances, taught = augmentation.chances(len(images), 0, 1), np.zeros((len(images), 0), np.float32)
    whole = steps.Batch(images, labels, chances, taught, place, weight=np.ones(len(images), np.float32))
    starts = range(0, len(images), batch)
    batches = [steps.Batch(*found.distribute(*[each[start : start + batch] for each in whole])) for start in starts]

    def epoch():
        for number, each in enumerate(batches):
            sums = steps.train_step(each, batch, number)
        return sums.numpy()

    return epoch


def training_part(table, results):
    """train_feature_extraction.py on one sign in 15; the rest's seconds are added as measured on these, no start-up."""
    imported = run_script("-c", "import tensorflow")[1]
    few, runs = SIGNS // FEWER, {}
    with tempfile.TemporaryDirectory() as folder:
        for which, count in ("first run", few), ("second run", few), ("each image twice", 2 * few):
            progress(f"training, {which}")
            write_signs(f"{folder}/{count}.p", count)
            output, seconds = run_script(
                "-c", WITH_PEAK, "train_feature_extraction.py", "--training_file", f"{folder}/{count}.p",
                "--split", "random", "--weights", "random", "--epochs", str(EPOCHS),
                "--cache", f"{folder}/cache", "--out", f"{folder}/{which}",
            )  # fmt: skip
            epochs = [float(each) for each in re.findall(r"^Time: ([\d.]+)", output, re.MULTILINE)]
            features = float(re.search(r"in ([\d.]+) seconds", output)[1])
            peak = float(re.search(r"^Peak memory: ([\d.]+)", output, re.MULTILINE)[1])
            runs[which] = seconds - imported, np.mean(epochs[1:]), features, peak  # the first epoch compiles
    pushed = runs["each image twice"][2] - runs["first run"][2]  # the network compiles in both
    for which, growing in ("first run", pushed), ("second run", 0):
        seconds, epoch, _, _ = runs[which]
        whole = results[which] = seconds + (FEWER - 1) * (growing + EPOCHS * epoch)
        what = f"training of {EPOCHS} epochs on {SIGNS:,} signs, {which}, beyond importing TensorFlow"
        table.append((what, f"{whole:.1f} s", f"extrapolated from {few:,} signs"))
    if "course" in results:
        course = EPOCHS * SIGNS / results["course"]  # each epoch pushes all images through all layers
        ratio = f"{course / results['first run']:.1f} x the first run"
        table.append(("the same the course's way, extrapolated", f"{course:.1f} s", ratio))
    for which, run in runs.items():
        ratio = f"{run[3] / runs['first run'][3]:.2f} x"
        table.append((f"peak memory, training on {few:,} signs, {which}", f"{run[3]:.2f} GB", ratio))


def start_part(table, _):
    progress("first prediction")
    seconds = np.median([float(run_script("-c", FIRST_PREDICTION)[0]) for _ in range(3)])
    table.append(("first prediction of AlexNet, TensorFlow imported, weights read", f"{seconds:.2f} s", ""))


def machine():
    """The machine in words."""
    import tensorflow as tf

    info = pathlib.Path("/proc/cpuinfo")  # Linux
    cpu = re.search(r"model name\s*: (.*)", info.read_text())[1] if info.exists() else platform.processor()
    return f"{cpu}, {os.cpu_count()} cores, TensorFlow {tf.__version__}, Python {platform.python_version()}"


PARTS = dict(
    alexnet=alexnet_part,
    googlenet=googlenet_part,
    vgg=vgg_part,
    steps=steps_part,
    training=training_part,
    start=start_part,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="measure only these parts")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    start_tensorflow()
    table, results = [], {}
    for part in args.only:
        PARTS[part](table, results)
    progress()
    print(f"{machine()}; load before {load:.1f} (other programs at work slow all down)\n")
    print("| what | measured | compared |\n|---|---|---|")
    for row in table:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
