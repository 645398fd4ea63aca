"""Measure how fast this machine computes, beside the course's way: one table, about five minutes on two cores.

    python tests/benchmark.py                      # everything
    python tests/benchmark.py --only alexnet       # or googlenet, vgg, training, start

What is compared runs in turn in one process, batch by batch, so that whatever else the machine does falls on all alike;
a number is the median of the rounds. Weights and pictures are random: speed does not depend on them.
"""

import argparse
import os
import pathlib
import pickle
import platform
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from other_alexnets import course_graph, onnx_graph

from weights import cards, reading

BATCH = 128
SIGNS = 39_209  # GTSRB's training pictures
EPOCHS = 10
FEWER = 15  # whole trainings are measured on one sign in 15 and multiplied
CUBE = 4096  # side of the matrices whose product tells the machine's limit
FIRST_PREDICTION = """
import time
import numpy as np
from data.program import start_tensorflow
from weights import cards, reading
weights = reading.load(cards.ALEXNET, "random")
start_tensorflow()
start = time.perf_counter()
from alexnet import AlexNet
network = AlexNet(weights)
network.activations(np.zeros((1, 227, 227, 3), np.uint8)).numpy()
print(time.perf_counter() - start)
"""


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


def progress(text):
    print(f"\r{text:<100}", end="\r", file=sys.stderr, flush=True)


def print_speeds(title, seconds, pictures):
    """One line a way of computing; the first is what the others are compared with."""
    print(f"\n{title}", flush=True)
    first = next(iter(seconds.values()))
    for name, each in seconds.items():
        print(f"  {name:<52}{pictures / each:8.1f} pictures/s{first / each:8.2f} x", flush=True)


def random_pictures(count, side):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def operations(network, layer):
    """Multiplications and additions for one picture up to `layer`, from the shapes."""
    total = 0
    for name, (kernel, _) in network.weights.items():
        out = network(np.zeros((1, 227, 227, 3), np.float32), layer=name).shape
        total += 2 * np.prod(kernel.shape) * np.prod(out[1:-1])
        if name == layer:
            return int(total)


def alexnet_part(results):
    import tensorflow as tf

    from alexnet import AlexNet
    from fast_alexnet import frozen

    weights = reading.load(cards.ALEXNET, "random")
    signs = random_pictures(BATCH, 32)
    course = course_graph(weights, 32)
    networks = {dtype.name: AlexNet(weights, dtype=dtype) for dtype in (tf.float32, tf.bfloat16)}
    functions = {"the course's graph, float32": lambda: course(signs)}
    for name, network in networks.items():
        fast = frozen(network, signs.shape[1:])
        functions[f"alexnet.py, {name}"] = lambda network=network: network.activations(signs, layer="fc7").numpy()
        functions[f"fast_alexnet.py, {name}"] = lambda fast=fast: fast(signs)
    onnx = onnx_graph(weights)
    if onnx:
        large = np.zeros((BATCH, 3, 227, 227), np.float32)
        functions["ONNX Runtime, float32, pictures already resized"] = lambda: onnx(large)
    cubes = {name: tf.cast(tf.random.normal((CUBE, CUBE)), name) for name in networks}
    products = {f"product {name}": lambda cube=cube: tf.matmul(cube, cube).numpy() for name, cube in cubes.items()}
    seconds = measure(functions | products)
    print_speeds("AlexNet, 32x32 signs -> fc7", {name: seconds[name] for name in functions}, BATCH)
    work = operations(networks["float32"], "fc7")
    print(f"\nThe limit: a product of {CUBE} x {CUBE} matrices. To fc7 AlexNet takes {work / 1e9:.2f} GFLOP a picture")
    for name in networks:
        limit = 2 * CUBE**3 / seconds[f"product {name}"]
        share = work * BATCH / seconds[f"fast_alexnet.py, {name}"] / limit
        print(f"  {name:<52}{limit / 1e9:8.0f} GFLOP/s   fast_alexnet.py: {share:.2f} of it")
    print("  (the fused first layer does with 0.2 GFLOP less, so the share can exceed 1)", flush=True)
    results["course"] = BATCH / seconds["the course's graph, float32"]


def googlenet_part(_):
    import tensorflow as tf

    from fast_alexnet import frozen
    from googlenet import GoogLeNet

    pictures = random_pictures(32, 224)
    weights = reading.load(cards.GOOGLENET, "random")
    functions = {}
    for dtype in (tf.float32, tf.bfloat16):
        network = GoogLeNet(weights, dtype=dtype)
        fast = frozen(network, pictures.shape[1:], "pool5")
        functions[f"googlenet.py, {dtype.name}"] = lambda n=network: n.activations(pictures, layer="pool5").numpy()
        functions[f"by fast_alexnet.frozen, {dtype.name}"] = lambda fast=fast: fast(pictures)
    print_speeds("GoogLeNet, 224x224 -> pool5", measure(functions, rounds=5), len(pictures))


def vgg_part(_):
    import tensorflow as tf

    from weights import keras_networks

    pictures = random_pictures(8, 224)
    functions = {}
    for dtype in (tf.float32, tf.bfloat16):
        network = keras_networks.load(cards.VGG, "random", top=False, dtype=dtype)
        functions[f"keras.applications, {dtype.name}"] = lambda n=network: n.activations(pictures, "avg_pool").numpy()
    print_speeds("VGG16, 224x224 -> avg_pool", measure(functions, rounds=5), len(pictures))


def run_script(*arguments):
    """Run Python in the repository. Returns (output, seconds, peak resident memory in GB)."""
    progress(" ".join(arguments)[:60].replace("\n", " "))
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"\nexit status {os.waitstatus_to_exitcode(status)}: {' '.join(arguments)}")
    return output, time.perf_counter() - start, usage.ru_maxrss / 1e6


def training_part(results):
    """train_feature_extraction.py on one sign in 15, its parts that grow with the pictures multiplied by 15."""
    print(f"\nA training of {EPOCHS} epochs on {SIGNS:,} signs, from {SIGNS // FEWER:,} of them")
    imported = run_script("-c", "import tensorflow")[1]
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 2):
            file, count = f"{folder}/{times}.p", times * (SIGNS // FEWER)
            with open(file, "wb") as opened:  # like the course's train.p
                sides, labels = np.full((count, 2), 32), (np.arange(count) % 43).astype(np.uint8)
                signs = {"features": random_pictures(count, 32), "labels": labels, "sizes": sides}
                pickle.dump(signs | {"coords": np.tile(sides, 2)}, opened, protocol=2)
            for which in ("first run", "second run") if times == 1 else ("each picture twice",):
                output, seconds, memory = run_script(
                    "train_feature_extraction.py", "--training_file", file, "--split", "random", "--weights", "random",
                    "--cache", f"{folder}/cache", "--head", f"{folder}/head.npz", "--epochs", str(EPOCHS),
                )  # fmt: skip
                growing = float(re.search(r"in ([\d.]+) seconds", output)[1])
                growing += sum(float(each) for each in re.findall(r"^Time: ([\d.]+)", output, re.MULTILINE))
                whole = seconds - imported + (FEWER - 1) * growing
                if times == 1:
                    print(f"  {which + ', beyond importing TensorFlow':<52}{whole:8.1f} s", flush=True)
                print(f"  {which + ', peak memory as measured':<52}{memory:8.2f} GB", flush=True)
                results.setdefault("whole", whole)
    if "course" in results:
        course = EPOCHS * SIGNS / results["course"]  # each epoch pushes all pictures through all layers
        print(f"  {'course way, extrapolated':<52}{course:8.1f} s, {course / results['whole']:.1f} x our first run")


def start_part(_):
    seconds = np.median([float(run_script("-c", FIRST_PREDICTION)[0]) for _ in range(3)])
    print(f"\nFirst prediction of AlexNet, TensorFlow imported, weights read{seconds:8.2f} s", flush=True)


def print_machine():
    import tensorflow as tf

    info = pathlib.Path("/proc/cpuinfo")  # Linux
    cpu = re.search(r"model name\s*: (.*)", info.read_text())[1] if info.exists() else platform.processor()
    print(f"{cpu}, {os.cpu_count()} cores, TensorFlow {tf.__version__}, Python {platform.python_version()}")
    print(f"load at the start {os.getloadavg()[0]:.1f} (other programs at work slow all down)", flush=True)


PARTS = dict(alexnet=alexnet_part, googlenet=googlenet_part, vgg=vgg_part, training=training_part, start=start_part)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="to measure again what changed")
    args = parser.parse_args()
    print_machine()
    results = {}
    for part in args.only:
        PARTS[part](results)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
