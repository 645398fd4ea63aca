"""One device or many: how the training scripts share their work, with `tf.distribute`.

* One processor or one GPU: nothing to share.
* Several GPUs in one machine: each takes a part of every batch (`MirroredStrategy`).
* Several machines: start the same command on each with TF_CONFIG set (`MultiWorkerMirroredStrategy`), as in

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'

  with index 1 on the second one. Worker w owns the images w, w + workers, w + 2 * workers ...: it computes
  their features and, of every batch, the gradients of those images that are its own. The gradients of all are added
  up, so each step is the same as one machine would make with that batch. The first, the chief, prints and writes.
"""

import functools
import json
import os
import platform
import re
import sys
from typing import Any

import numpy as np

from common import program
from common.errors import BadInput

ADDRESS = re.compile(r".+:\d+")  # of a worker


class Devices:
    """A `tf.distribute` strategy, and which share of the work is this process's own."""

    def __init__(self, strategy: Any, worker: int = 0, workers: int = 1) -> None:
        self.strategy, self.worker, self.workers = strategy, worker, workers
        self.chief = worker == 0
        self.replicas = strategy.num_replicas_in_sync // workers  # in this process

    def is_own(self, rows: np.ndarray) -> np.ndarray:
        """Which of the rows, (n,) int, are this worker's own: bool (n,)."""
        return rows % self.workers == self.worker

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows, (n,) int, that are this worker's own, in their order."""
        return rows if self.workers == 1 else rows[self.is_own(rows)]

    def distribute(self, *arrays: np.ndarray) -> tuple:
        """Split the rows of arrays (n, ...) among this process's replicas, as many to each: padding rows are all zeros.

        So an array of weights, 1 for each row, tells them apart afterwards: they have weight 0. Returns what
        a step takes in place of each array: the array, where there is one replica in all, or a value per replica.
        """
        if self.strategy.num_replicas_in_sync == 1:
            return arrays
        count = len(arrays[0])
        size = max(1, -(-count // self.replicas))
        missing = size * self.replicas - count
        arrays = [np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) for array in arrays]

        def part(array: np.ndarray, context: Any) -> np.ndarray:
            start = size * (context.replica_id_in_sync_group - self.worker * self.replicas)
            return array[start : start + size]

        values = self.strategy.experimental_distribute_values_from_function
        return tuple(values(functools.partial(part, array)) for array in arrays)

    def copy_from_chief(self, variables: list) -> None:
        """Give the variables of all workers the chief's values."""
        if self.workers > 1:
            for variable in variables:
                value = variable.numpy()
                variable.assign(self.total(value if self.chief else np.zeros_like(value)))

    def total(self, array: Any) -> np.ndarray:
        """The sum of all workers' arrays, which have one shape."""
        array = np.asarray(array)
        if self.workers == 1:
            return array
        first = self.worker * self.replicas
        parts = self.strategy.experimental_distribute_values_from_function(
            lambda context: array if context.replica_id_in_sync_group == first else np.zeros_like(array)
        )
        return self.strategy.reduce("SUM", parts, axis=None).numpy()


def find(fine_tuning: bool = False) -> Devices:
    """Return the `Devices` of this process; BadInput for a TF_CONFIG that is none.

    With several workers, call it before TensorFlow computes anything; all but the chief then print nothing.

    fine_tuning: more than a head will be trained; then call it before TensorFlow is imported. On processors without
    AVX-512, TensorFlow leaves Intel's oneDNN switched off; with it, gradients of convolutions are computed 1.5 times as
    fast (but features no faster).
    """
    cluster, task = _cluster()
    if fine_tuning and platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with program.stderr_kept_back():
        import tensorflow as tf
    if len(cluster) < 2:
        program.start_tensorflow()
        several = len(tf.config.list_logical_devices("GPU")) > 1
        return Devices(tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy())
    print(f"Worker {task + 1} of {len(cluster)}, waiting for the others", file=sys.stderr, flush=True)
    with program.stderr_kept_back():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    program.start_tensorflow()
    if task:
        sys.stdout = open(os.devnull, "w")  # the chief prints
    return Devices(strategy, task, len(cluster))


def _cluster() -> tuple[list[str], int]:
    """(addresses of the workers, number of this one) as TF_CONFIG says; ([], 0) where it is not set."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
        workers = config.get("cluster", {}).get("worker", [])
        task = config.get("task", {})
        index = task.get("index", 0)
        if set(config.get("cluster", {})) - {"worker"} or not (0 <= index < max(1, len(workers))):
            raise ValueError
        if workers and (task.get("type") != "worker" or not all(ADDRESS.fullmatch(worker) for worker in workers)):
            raise ValueError
        return workers, index
    except (ValueError, AttributeError, TypeError):
        expected = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        raise BadInput(f"TF_CONFIG: {text:.200}; expected {expected}") from None
