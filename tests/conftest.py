"""What several tests need: where real inputs may lie, seeded weights, photos, an ONNX graph filled with weights."""

import collections
import importlib
import os
import pathlib
import re
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from PIL import Image

from common.errors import LONGEST_MESSAGE, BadInput

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # real files that are not part of the project; tests that need them skip without

ALEXNET_SHAPES = {  # written out again, not imported: the tests must not agree with the code by construction
    "conv1": (11, 11, 3, 96), "conv2": (5, 5, 48, 256), "conv3": (3, 3, 256, 384), "conv4": (3, 3, 192, 384),
    "conv5": (3, 3, 192, 256), "fc6": (9216, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000),
}  # fmt: skip


# The longest files. Of two processes (pytest-xdist), one would wait for the other at the end if these came last.
FIRST = ["test_runs.py", "test_scripts.py", "test_cases.py", "test_keras_networks.py", "test_saved_model.py"]
REFUSED = collections.Counter()  # {reader: bad inputs that it has refused as it should}


NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
# A training of seconds: 4 drawn signs per class, GoogLeNet on 32 pixels.
QUICK = ["--demo", "--network", "googlenet", "--image_size", "32", "--per_class", "4", "--validation_per_class", "1",
         "--batch_size", "64", "--precision", "float32"]  # fmt: skip


# What a demo with AlexNet says first: which weights it found.
SMALL_FILE = ROOT / "weights" / "alexnet-tiny.npz"
SMALL_TITLE = "small AlexNet, pretrained on 200 of ImageNet's classes"
DEMO_SAYS = f"Weights: {SMALL_TITLE}\n"


def run(script, *arguments, cwd, **environment):
    """A script as a user starts it: a program of its own, in some folder, without a network."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    environment = {**os.environ, **NO_NETWORK, "no_proxy": "", "NO_PROXY": "", **environment}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # quiet by their own doing
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def run_here(monkeypatch, capsys, tmp_path):
    """`run` in this process and in `tmp_path`: without the seconds that TensorFlow takes to start."""
    from common import program

    for name, value in (NO_NETWORK | {"no_proxy": "", "NO_PROXY": ""}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run_here(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            program.run(importlib.import_module(script.removesuffix(".py")).main)
        except SystemExit as error:
            status = error.code
        return subprocess.CompletedProcess([script], status, *capsys.readouterr())

    return run_here


def lines(text):
    """(names, probabilities) of the lines `name: 0.123`."""
    found = re.findall(r"^(?!Time|Image)(.+): (\d\.\d{3})$", text, re.MULTILINE)
    return [name for name, _ in found], [float(probability) for _, probability in found]


def in_one_line(function, *arguments, **settings):
    """The message of the `BadInput` that the call raises."""
    with pytest.raises(BadInput) as told:
        function(*arguments, **settings)
    message = str(told.value)
    assert message.isprintable() and len(message) <= LONGEST_MESSAGE, message
    return message


def refused(reader, function, *arguments, **settings):
    """Like `in_one_line`, for damaged and hostile files; counted under `reader`, a few words, for the summary."""
    message = in_one_line(function, *arguments, **settings)
    REFUSED[reader] += 1
    return message


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist would begin with the files of many tests, which are short ones


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # one of several processes (pytest-xdist): the first adds them up
        session.config.workeroutput["refused"] = dict(REFUSED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    REFUSED.update(getattr(node, "workeroutput", {}).get("refused", {}))


def pytest_terminal_summary(terminalreporter):
    if REFUSED:
        by_reader = ", ".join(f"{reader} {count}" for reader, count in sorted(REFUSED.items()))
        terminalreporter.write_line(f"{sum(REFUSED.values())} bad inputs refused ({by_reader})")


def python2_dumps(content):
    """`content` pickled as Python 2 did; skips the test where the writer is not at hand."""
    if not (SHARED / "python2_pickle.py").exists():
        pytest.skip("the Python 2 pickler is not here")
    sys.path.insert(0, str(SHARED))
    try:
        import python2_pickle
    finally:
        sys.path.remove(str(SHARED))
    return python2_pickle.dumps(content)


@pytest.fixture(scope="session")
def alexnet_weights():
    """Seeded weights under which every layer matters: conv1 and conv2 keep the size of pixels, so that both
    normalisations bite, conv3 brings them to about 1, so that the softmax is not saturated; no bias is zero."""
    rng = np.random.default_rng(7)
    weights = {}
    for name, shape in ALEXNET_SHAPES.items():
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])) * (1 / 40 if name == "conv3" else 1))
        kernel = rng.standard_normal(shape, dtype=np.float32) * scale
        weights[name] = (kernel, rng.standard_normal(shape[-1], dtype=np.float32) * np.float32(0.1))
    return weights


@pytest.fixture(scope="session")
def small_arrays():
    """The arrays of a small AlexNet that knows every fifth class: numbers as of random weights, of rank 4."""
    rng = np.random.default_rng(4)
    arrays = {"small": np.int8(1), "classes": np.arange(0, 1000, 5, dtype=np.int16)}
    for layer, shape in ALEXNET_SHAPES.items():
        *inputs, outputs = shape = (4096, 200) if layer == "fc8" else shape
        scale = np.sqrt(2 / np.prod(inputs)) / {"conv1": 64}.get(layer, 1)
        if layer in ("fc6", "fc7"):
            arrays |= {f"{layer}/{side}": rng.integers(-127, 128, (4, length), np.int8)
                       for side, length in zip(("left", "right"), shape)}  # fmt: skip
            arrays[f"{layer}/exponents"] = np.arange(4, dtype=np.int8)
            arrays[f"{layer}/scale"] = np.full(inputs, scale / 50_000, np.float32)
        else:
            arrays[f"{layer}/bytes"] = rng.integers(-127, 128, shape, np.int8)
            arrays[f"{layer}/scale"] = np.full(outputs, scale / 73, np.float32)
        arrays[f"{layer}/biases"] = np.zeros(outputs, np.float32)
    return arrays


@pytest.fixture
def small_alexnet(small_arrays, tmp_path, monkeypatch):
    """The path of such a file, which is where the small AlexNet is looked for while the test runs."""
    from transfer import packing
    from weights import cards, reading

    path = tmp_path / "weights" / cards.ALEXNET.small.file
    path.parent.mkdir()
    path.write_bytes(packing.archive(small_arrays))
    monkeypatch.setattr(reading, "WEIGHTS_DIR", path.parent)
    monkeypatch.setattr(reading, "file_hash", lambda *_: cards.ALEXNET.small.sha256)
    return path


@pytest.fixture(scope="session")
def photos():
    """(2, 227, 227, 3) uint8 RGB: the course's poodle and weasel, or scikit-learn's sample photos."""
    names = [SHARED / "images" / name for name in ("poodle.png", "weasel.png")]
    if all(name.exists() for name in names):
        return np.stack([np.asarray(Image.open(name).convert("RGB")) for name in names])
    from sklearn.datasets import load_sample_images

    images = [Image.fromarray(image).resize((227, 227)) for image in load_sample_images().images]
    return np.stack([np.asarray(image) for image in images])


@pytest.fixture(scope="session")
def onnx_session():
    """A function: the graph that the onnx package ships under a name, filled with arrays, for onnxruntime."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    def session(name, arrays, input_shape, outputs=(), mend=lambda graph: None):
        """arrays: {initializer: array}; outputs: names of inner values to be given out besides the last.

        mend: changes the graph, where the shipped one differs from what was published.
        """
        path = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"{name}.onnx"
        model = onnx.load(path)
        model.ir_version = 8
        graph = model.graph
        mend(graph)
        shipped = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        fillers = {node.output[0]: node for node in graph.node if node.op_type == "ConstantOfShape"}
        shapes = {tensor.name: tuple(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        for key, array in arrays.items():
            expected = shapes[f"{key}__SHAPE"] if key in fillers else shipped[key]
            assert tuple(array.shape) == tuple(expected), (key, array.shape, expected)
        assert set(fillers) <= set(arrays), sorted(set(fillers) - set(arrays))
        kept = [tensor for tensor in graph.initializer if tensor.name not in arrays and "__SHAPE" not in tensor.name]
        nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
        data = next(value for value in graph.input if value.name == "data_0")
        data.type.tensor_type.ClearField("shape")
        del graph.node[:], graph.initializer[:], graph.input[:]
        graph.node.extend(nodes)
        graph.initializer.extend(kept)
        graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in arrays.items())
        graph.input.append(onnx.helper.make_tensor_value_info("data_0", onnx.TensorProto.FLOAT, input_shape))
        for output in graph.output:
            output.type.tensor_type.ClearField("shape")
        graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    return session
