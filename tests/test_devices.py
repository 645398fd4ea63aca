"""Several devices, several workers: the same weights as one process with the same global batch."""

import json
import os
import socket
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import NO_NETWORK, QUICK, ROOT, in_one_line, run

from transfer import devices

# The head alone on features that each worker computes its share of, then layers and head together, with augmentation
# and dropout. Batches of an odd number of images: one of two devices has a padding row in each.
FLAGS = [*QUICK, "--train", "inception_5b", "--epochs", "2", "--head_epochs", "1", "--batch_size", "15", "--ema", "0.9",
         "--random_crop", "0.7", "--decay_epochs", "1"]  # fmt: skip
TWO_PROCESSORS = """
import sys, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from transfer import devices
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
devices.find = lambda *_: devices.Devices(strategy)
import train_feature_extraction as script
script.run(script.main)
"""


def weights(folder):
    with np.load(folder / "head.npz") as file:
        arrays = {name: file[name] for name in ("kernel", "bias")}
    (network,) = folder.glob("network-*.npz")
    with np.load(network) as file:
        return arrays | dict(file)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    done = run("train_feature_extraction.py", *FLAGS, "--out", "run", "--cache", "cache", cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return weights(folder / "run")


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-3 * np.abs(expected[name]).max() + 1e-5)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def one_of_three_workers(number):
    """Its devices, two replicas; `distribute` then gives lists, an entry for each of them."""

    def values(function):
        return [function(types.SimpleNamespace(replica_id_in_sync_group=2 * number + each)) for each in (0, 1)]

    strategy = types.SimpleNamespace(num_replicas_in_sync=6, experimental_distribute_values_from_function=values)
    return devices.Devices(strategy, number, 3)


@pytest.mark.parametrize("number, expected", [
    (0, [([3, 9], [1, 1]), ([6, 0], [1, 0])]),  # rows and weights of its first replica, and of its second
    (1, [([4], [1]), ([0], [0])]),
    (2, [([0], [0]), ([0], [0])]),  # a worker without rows takes part in the step, too
])  # fmt: skip
def test_each_row_of_a_batch_is_one_replicas_and_padding_rows_have_weight_0(number, expected):
    found = one_of_three_workers(number)
    own = found.own(np.array([3, 4, 9, 6]))
    images, weights = found.distribute(np.outer(own, [1, 10]), np.ones(len(own), np.float32))
    for image, weight, (rows, weighs) in zip(images, weights, expected, strict=True):
        np.testing.assert_array_equal(image, np.outer(rows, [1, 10]))
        np.testing.assert_array_equal(weight, weighs)


@pytest.mark.parametrize("fine_tuning, user, expected", [(True, None, "1"), (False, None, None), (True, "0", "0")])
def test_onednn_is_switched_on_for_fine_tuning_unless_the_user_says_otherwise(fine_tuning, user, expected, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", user or "0")
    if user is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    devices.find(fine_tuning)
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected


@pytest.mark.slow
def test_two_workers_end_with_the_weights_of_one(one, tmp_path):
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    processes = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, **NO_NETWORK, "no_proxy": "127.0.0.1", "TF_CONFIG": json.dumps(config)}
        command = [sys.executable, ROOT / "train_feature_extraction.py", *FLAGS, "--out", "run", "--cache", "cache"]
        processes.append(subprocess.Popen(list(map(str, command)), cwd=tmp_path, env=environment, text=True,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE))  # fmt: skip
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "Epoch 2" in outputs[0][0] and outputs[1][0] == ""  # the chief prints
    assert_same(weights(tmp_path / "run"), one)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2  # each worker's share of the features


@pytest.mark.slow
def test_two_devices_of_one_machine_end_with_the_weights_of_one(one, tmp_path):
    environment = {**os.environ, **NO_NETWORK, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TWO_PROCESSORS, *FLAGS, "--out", "run", "--cache", "cache"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_same(weights(tmp_path / "run"), one)


@pytest.mark.parametrize("text", [
    "{", "[]", '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"index": 2}}',
    '{"cluster": {"ps": ["a:1"], "worker": ["a:1", "b:2"]}}',
    '{"cluster": {"worker": ["a:1", "b:2"]}}',
    '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"index": 0}}',
    '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "chief", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": "ab"}, "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": [1, 2]}, "task": {"type": "worker", "index": 0}}',
])  # fmt: skip
def test_a_wrong_tf_config_is_told(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert "TF_CONFIG" in in_one_line(devices.find)
