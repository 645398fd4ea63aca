"""Runs of the scripts in processes of their own, for benchmark.py: what they print, their seconds, their memory."""

import pathlib
import pickle
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIRST_PREDICTION = """
import time
import numpy as np
from common.program import start_tensorflow
from weights import cards, reading
weights = reading.load(cards.ALEXNET, "random")
start_tensorflow()
start = time.perf_counter()
from alexnet import AlexNet
network = AlexNet(weights)
network.activations(np.zeros((1, 227, 227, 3), np.uint8)).numpy()
print(time.perf_counter() - start)
"""
# Runs a script and adds a line with its own peak of memory in GB. The parent cannot ask the system for it: Linux hands
# the parent's peak on to its children, over fork and exec (getrusage(2), ru_maxrss); VmHWM starts anew.
WITH_PEAK = """
import pathlib, resource, runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
status = pathlib.Path("/proc/self/status")
if status.exists():
    kilobytes = int(status.read_text().split("VmHWM:")[1].split()[0]) * 1.024
else:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1000 if sys.platform == "darwin" else 1)
print("Peak memory:", kilobytes / 1e6)
"""


def run_script(*arguments):
    """Run Python in the repository. Returns (output, seconds); what it writes to stderr is shown when it fails."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\nexit status {done.returncode}: {' '.join(arguments)}")
    return done.stdout, time.perf_counter() - start


def write_signs(path, count):
    """Random images in a file like the course's train.p."""
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    sides, labels = np.full((count, 2), 32), (np.arange(count) % 43).astype(np.uint8)
    signs = {"coords": np.tile(sides, 2), "sizes": sides, "labels": labels, "features": images}
    with open(path, "wb") as file:
        pickle.dump(signs, file, protocol=2)
