"""Damaged files by the thousand: every reader of labelled images reads them or refuses them in one line.

python -m pytest -m fuzz tests/test_fuzz_datasets.py                # 3,500 inputs, a minute
FUZZ=100 python -m pytest -m fuzz tests/test_fuzz_datasets.py       # a hundred times as many
"""

import functools
import os
import pickle

import numpy as np
import pytest
from made_archives import cifar_batches, kaggle_files, official_test_set, signs, write_tar, zipped

from common.errors import LONGEST_MESSAGE, BadInput
from data import bottleneck_files, cifar10, traffic_signs

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis makes the damaged files")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.fuzz
INPUTS = 500 * int(os.environ.get("FUZZ", 1))  # per kind of file
SECONDS = 5  # per input
MEMORY = 400  # MB above what the test run has taken before
NUMBERS = [b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0"]  # sizes that readers stumble over

place = st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.floats(0.98, 1))  # files say what they are at their ends
damage = st.one_of(
    st.tuples(st.just("overwrite"), place, st.binary(min_size=1, max_size=2)),
    st.tuples(st.just("overwrite"), place, st.sampled_from(NUMBERS)),
    st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("remove"), place, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("cut"), place, st.just(b"")),
)


def damaged(data, damages):
    for what, where, piece in damages:
        at = int(where * len(data))
        behind = {"overwrite": at + len(piece), "insert": at, "remove": at + len(piece), "cut": len(data)}[what]
        data = data[:at] + (piece if what in ("overwrite", "insert") else b"") + data[behind:]
    return data


def of_one_class(files):
    """Kaggle's archive in small enough pieces: the first class and the test images."""
    header, *lines = files["Train.csv"].split(b"\n")
    kept = {name: data for name, data in files.items() if not name.startswith("Train/") or name.startswith("Train/0/")}
    return kept | {"Train.csv": b"\n".join([header, *(line for line in lines if b"Train/0/" in line)])}


SIGNS = [traffic_signs.load, traffic_signs.load_validation, traffic_signs.load_test]
FEATURES = [bottleneck_files.read_features, bottleneck_files.made_from]
KINDS = {  # name: (a function that writes a valid file, its readers)
    "train.p": (lambda path: path.write_bytes(pickle.dumps(signs(), 2)), [*SIGNS, *FEATURES]),
    "udacity.zip": (lambda path: zipped(path, {"train.p": pickle.dumps(signs(43)), "valid.p": b""}), SIGNS),
    "kaggle.zip": (lambda path: zipped(path, of_one_class(kaggle_files()[0])), SIGNS),
    "official.zip": (lambda path: zipped(path, official_test_set()[0]), SIGNS),
    "cifar.tar.gz": (lambda path: write_tar(path, cifar_batches(1)), [cifar10.load, cifar10.load_test]),
    "cifar.tar": (lambda path: write_tar(path, cifar_batches(1), "w"), [cifar10.load, cifar10.load_test]),
    "features.p": (lambda path: bottleneck_files.write(path, np.ones((4, 3), np.float32), np.arange(4), "x"), FEATURES),
}


@functools.cache
def valid(name, folder):
    KINDS[name][0](folder / name)
    return (folder / name).read_bytes()


def peak():
    """MB that this process has taken at most."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1000


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_refused(name, tmp_path_factory, record_property):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "GT-final_test.csv").write_bytes(official_test_set()[1]["GT-final_test.csv"])
    whole, before, counts = valid(name, folder), peak(), {"inputs": 0, "refused": 0}

    @settings(max_examples=INPUTS, deadline=1000 * SECONDS, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(damage, min_size=1, max_size=4))
    def read(damages):
        (folder / name).write_bytes(damaged(whole, damages))
        for reader in KINDS[name][1]:
            counts["inputs"] += 1
            try:
                reader(folder / name)
            except BadInput as error:
                counts["refused"] += 1
                assert str(error).isprintable() and len(str(error)) <= LONGEST_MESSAGE

    read()
    assert peak() < before + MEMORY and counts["refused"] > 0.3 * counts["inputs"]
    print(f"{name}: {counts['inputs']:,} inputs, {counts['refused']:,} refused, {peak() - before:.0f} MB")
