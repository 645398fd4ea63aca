"""Where a trained classifier can go: a folder (SavedModel), a file for phones, a file for ONNX. How others use it.

check(pathlib.Path("signs.tflite"))
write(trained.load("runs/my_run", precision="float32"), pathlib.Path("signs.tflite"))
"""

import importlib.util
import pathlib

from common.program import shown

import numpy as np

from common.errors import BadInput
from common.files import check_utf8
from common.writing import check_new_file, check_new_folder
from data import images
from transfer import checkpoints
from transfer.trained import Trained

PHONES, ONNX = ".tflite", ".onnx"  # the suffixes that ask for a file; any other name is a folder's
NOT_WRITTEN = (".h5", ".keras", ".pb", ".pt", ".pth")  # a folder of such a name would pass for a file of another kind


def check(path: pathlib.Path | None, quantize: str | None = None, calibrate: pathlib.Path | None = None) -> None:
    """`BadInput` for a place that cannot be written, and for flags that do not fit it: told before seconds of work."""
    suffix = path.suffix.lower() if path else ""
    if quantize and suffix != PHONES:
        raise BadInput(f"--quantize {quantize}: is for --export NAME{PHONES}; name such a file, or leave it out")
    if calibrate and quantize != "int8":
        raise BadInput(f"--calibrate {calibrate}: is for --quantize int8; add that, or leave it out")
    if suffix in NOT_WRITTEN:
        raise BadInput(f"{path}: no {suffix} is written; name a folder, for a SavedModel, NAME{PHONES} or NAME{ONNX}")
    if suffix == ONNX and not importlib.util.find_spec("tf2onnx"):
        raise BadInput(f"{path}: needs a converter that is not installed; pip install tf2onnx")
    if suffix == PHONES:
        check_new_file(labels_of(path), "--export")
    if suffix in (PHONES, ONNX):
        check_new_file(path, "--export")
    elif path:
        check_utf8(path, "name another folder with --export")
        if found := set(checkpoints.PATTERN) & set(str(path.absolute())):
            raise BadInput(f"{path}: TensorFlow does not read a model from a path with {min(found)}; name another with "
                           "--export")  # fmt: skip
        check_new_folder(path, "--export")


def labels_of(path: pathlib.Path) -> pathlib.Path:
    """The text file with the class names, beside a file for phones."""
    return path.with_suffix(".labels.txt")


def write(classifier: Trained, path: pathlib.Path, calibration: np.ndarray | None = None) -> None:
    """Write the classifier, which computes in float32, and print how other programs use it.

    calibration: uint8 (N, size, size, 3), to quantize a file for phones to int8. `BadInput` as `check` raises it.
    """
    network, head, side = classifier.network, classifier.head, classifier.framing.size
    framing = f"red, green, blue, upright, on white where transparent: {images.described(classifier.framing)}"
    suffix = path.suffix.lower()
    if suffix == PHONES:
        _write_for_phones(classifier, path, calibration)
        print(f"Input: uint8 (1, {side}, {side}, 3), {framing}")
        print(f"Output: probabilities (1, {len(head.class_names)}), in the order of {shown(labels_of(path))}")
    elif suffix == ONNX:
        from transfer import onnx_file

        size = onnx_file.export(network, head, path)
        print(f"Exported to {shown(path)}: float32, {size / 1e6:.1f} MB")
        print(f"Input: images, uint8 (N, {side}, {side}, 3), {framing}")
        print(f"Output: probabilities (N, {len(head.class_names)}), in the order of class_names in its metadata")
    else:
        from transfer import saved_model

        saved_model.export(network, head, path)
        print(f"Exported to {shown(path)}: tf.saved_model.load({str(path)!r})(images)")


def _write_for_phones(classifier: Trained, path: pathlib.Path, calibration: np.ndarray | None) -> None:
    from transfer import lite

    written = lite.export(classifier.network, classifier.head, path, labels_of(path), calibration)
    kind = "float16" if calibration is None else "int8"
    print(f"Exported to {shown(path)}: {kind}, {written.size / 1e6:.1f} MB, {written.milliseconds:.1f} ms per image on "
          "one thread of this machine")  # fmt: skip
    if calibration is not None:
        same = np.sum(written.answers == classifier.probabilities(calibration).argmax(axis=1))
        print(f"Calibrated on {len(calibration)} images: the answer is the same as before for {same} of them")
