"""data/traffic_signs.py, data/gtsrb_archive.py, data/datasets.py: signs from a pickle, the archive, or drawn."""

import io
import pathlib
import pickle
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from data import gtsrb_archive, traffic_signs
from data.datasets import Dataset, check
from data.files import BadInput

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"
needs_signs = pytest.mark.skipif(not (SHARED / "data/gtsrb_train.npz").exists(), reason="the real signs are not here")
RNG = np.random.default_rng(0)


def signs(count=4 * 43):
    """A small train.p: of every class a track of three pictures, which come closer, and one of another sign."""
    return {
        "features": RNG.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        "labels": np.repeat(np.arange(43, dtype=np.uint8), count // 43),
        "sizes": np.tile(np.array([[50, 51], [55, 54], [60, 61], [15, 16]], np.uint8), (43, 1)),
        "coords": np.tile(np.array([5, 6, 15, 16], np.uint8), (count, 1)),
    }


@pytest.fixture(scope="module")
def real():
    with np.load(SHARED / "data/gtsrb_train.npz") as npz:
        return {key: npz[key] for key in npz}


def dumped(path, content, dump=pickle.dump):
    with open(path, "wb") as file:
        dump(content, file)
    return path


def in_one_line(function, *arguments):
    with pytest.raises(BadInput) as told:
        function(*arguments)
    assert "\n" not in str(told.value)
    return str(told.value)


# The pickle


def python2_dump(content, file):
    if not SHARED.exists():
        pytest.skip("the Python 2 pickler is not here")
    sys.path.insert(0, str(SHARED))
    try:
        import python2_pickle
    finally:
        sys.path.remove(str(SHARED))
    python2_pickle.dump(content, file)


@pytest.mark.parametrize("dump", [pickle.dump, python2_dump], ids=["Python 3", "Python 2"])
def test_train_p(tmp_path, dump):
    content = signs()
    loaded = traffic_signs.load(dumped(tmp_path / "train.p", content, dump))
    np.testing.assert_array_equal(loaded.images, content["features"])
    np.testing.assert_array_equal(loaded.labels, content["labels"])
    assert loaded.images.dtype == np.uint8 and loaded.labels.dtype == np.int64
    assert loaded.class_names[14] == "Stop" and len(loaded.class_names) == 43
    np.testing.assert_array_equal(loaded.tracks, np.tile([0, 0, 0, 1], 43) + 2 * np.arange(43).repeat(4))


def test_its_own_tracks_come_first(tmp_path):
    tracks = np.arange(172) % 7
    loaded = traffic_signs.load(dumped(tmp_path / "own.p", signs() | {"tracks": tracks}))
    np.testing.assert_array_equal(loaded.tracks, tracks)


@pytest.mark.parametrize("change, said", [
    ({"features": np.zeros((172, 32, 32, 3), np.float32)}, "float32"),
    ({"features": np.zeros((172, 32, 32, 1), np.uint8)}, "(172, 32, 32, 1)"),
    ({"features": np.zeros((171, 32, 32, 3), np.uint8)}, "171"),
    ({"features": [1, 2]}, "list"),
    ({"labels": np.arange(172) % 43 + 1}, "1 to 43"),
    ({"labels": np.full(172, np.nan)}, "float64"),
    ({"labels": np.zeros((172, 43), int)}, "(172, 43)"),
    ({"sizes": np.zeros((172, 3), int)}, "sizes"),
    ({"coords": np.zeros((172, 4))}, "coords"),
    ({"tracks": np.zeros(3, int)}, "tracks"),
])  # fmt: skip
def test_wrong_arrays(tmp_path, change, said):
    path = dumped(tmp_path / "wrong.p", signs() | change)
    message = in_one_line(traffic_signs.load, path)
    assert said in message and str(path) in message


def test_wrong_files(tmp_path):
    assert "labels" in in_one_line(traffic_signs.load, dumped(tmp_path / "a.p", {"features": 1}))
    assert "list" in in_one_line(traffic_signs.load, dumped(tmp_path / "b.p", [1, 2]))
    assert "no such file" in in_one_line(traffic_signs.load, tmp_path / "absent.p")
    assert "00000" in in_one_line(traffic_signs.load, tmp_path)
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4 and no more")
    assert "cut.zip: cannot be read" in in_one_line(traffic_signs.load, tmp_path / "cut.zip")
    assert "no such file" in in_one_line(traffic_signs.load, tmp_path / "absent.zip")


def test_empty_and_flattened():
    none = np.zeros((0, 32, 32, 3), np.uint8)
    assert "(0, 32" in in_one_line(check, Dataset(none, [], ["a"], None, ""), "file")
    column = Dataset(np.zeros((2, 8, 9, 3), np.uint8), [[0], [1]], ["a", "b"], None, "")
    assert check(column, "file").labels.tolist() == [0, 1]


# Tracks


@needs_signs
def test_tracks_of_the_real_file_and_of_every_nth_picture(real):
    labels, sizes, truth = (real[key] for key in ("labels", "sizes", "tracks"))
    for every in 1, 2, 3, 5, 10:
        _, expected = np.unique(truth[::every], return_inverse=True)
        np.testing.assert_array_equal(traffic_signs.tracks_of(labels[::every]), expected)

    rng = np.random.default_rng(0)
    part = np.sort(rng.permutation(len(labels))[:30_000])
    other_order = np.argsort(rng.permutation(43)[labels], kind="stable")
    for chosen in np.arange(1, len(labels)), part, other_order:
        found = traffic_signs.tracks_of(labels[chosen], sizes[chosen])
        assert len(set(zip(truth[chosen], found))) == len(set(truth[chosen]))  # none is split
        assert len(set(found)) > 500
        assert traffic_signs.tracks_of(labels[chosen]) is None
    shuffled = rng.permutation(len(labels))
    assert traffic_signs.tracks_of(labels[shuffled], sizes[shuffled]) is None
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")][1:]
    assert traffic_signs.tracks_of(labels[by_class], sizes[by_class]) is None


def test_tracks_of_one_picture(recwarn):
    assert traffic_signs.tracks_of(np.array([5]), np.array([[30, 30]])).tolist() == [0]
    assert not recwarn


# The archive


def archive_files(change=lambda name, data: data):
    """The official archive in small, {name: bytes}: 43 classes of two tracks of two pictures; and its pictures."""
    rng = np.random.default_rng(1)
    files, pictures = {}, []
    for label in range(43):
        folder = f"GTSRB/Final_Training/Images/{label:05}"
        csv = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
        for name in ("00000_00000.ppm", "00000_00001.ppm", "00001_00000.ppm", "00001_00001.ppm"):
            height, width = rng.integers(15, 60, 2)
            pictures.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            stream = io.BytesIO()
            Image.fromarray(pictures[-1]).save(stream, "PPM")
            files[f"{folder}/{name}"] = stream.getvalue()
            csv += f"{name};{width};{height};5;6;{width - 5};{height - 6};{label}\r\n"
        files[f"{folder}/GT-{label:05}.csv"] = csv.encode()
    return {name: change(name, data) for name, data in files.items() if change(name, data) is not None}, pictures


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def unpacked(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_archive_zip_and_folders_give_the_same(tmp_path):
    files, pictures = archive_files()
    arrays = gtsrb_archive.read_archive(zipped(tmp_path / "signs.zip", files))
    assert arrays["features"].shape == (172, 32, 32, 3) and arrays["features"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["labels"], np.arange(43).repeat(4))
    np.testing.assert_array_equal(arrays["sizes"], [picture.shape[1::-1] for picture in pictures])
    assert arrays["coords"][0].tolist() == [5, 6, pictures[0].shape[1] - 5, pictures[0].shape[0] - 6]
    assert arrays["tracks"][-4:].tolist() == [42000, 42000, 42001, 42001]
    folder = unpacked(tmp_path / "unpacked", files)
    for inside in ("", "GTSRB", "GTSRB/Final_Training", "GTSRB/Final_Training/Images"):
        again = gtsrb_archive.read_archive(folder / inside)
        for key in arrays:
            np.testing.assert_array_equal(arrays[key], again[key])

    gtsrb_archive.write_train_p(tmp_path / "train.p", arrays)
    with open(tmp_path / "train.p", "rb") as file:
        plain = pickle.load(file)
    assert list(plain) == ["features", "labels", "sizes", "coords", "tracks"]
    for loaded in traffic_signs.load(tmp_path / "train.p"), traffic_signs.load(tmp_path / "signs.zip"):
        np.testing.assert_array_equal(loaded.images, plain["features"])
        np.testing.assert_array_equal(loaded.tracks, plain["tracks"])


@needs_signs
def test_archive_types_are_those_of_the_real_file(tmp_path, real):
    arrays = gtsrb_archive.read_archive(zipped(tmp_path / "signs.zip", archive_files()[0]))
    assert {key: value.dtype for key, value in real.items()} == {key: value.dtype for key, value in arrays.items()}


def test_shrunk_as_an_independent_resize():
    def stretched(values):  # of one row or column, between the centres of its pixels
        return np.interp((np.arange(32) + 0.5) * len(values) / 32, np.arange(len(values)) + 0.5, values)

    for shape in (15, 15, 3), (32, 32, 3), (64, 64, 3), (243, 225, 3), (31, 90, 3):
        picture = RNG.integers(0, 256, shape, dtype=np.uint8)
        expected = np.apply_along_axis(stretched, 1, np.apply_along_axis(stretched, 0, picture))
        assert np.abs(gtsrb_archive.shrunk(picture) - expected).max() < 0.501


def test_shrunk_as_cv2():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    for shape in (15, 15, 3), (32, 32, 3), (64, 64, 3), (243, 225, 3), (31, 90, 3):
        picture = RNG.integers(0, 256, shape, dtype=np.uint8)
        difference = gtsrb_archive.shrunk(picture).astype(int) - cv2.resize(picture, (32, 32))
        assert np.abs(difference).max() <= 1 and np.mean(difference != 0) < 0.25


CSV, PPM = "00007/GT-00007.csv", "00007/00001_00000.ppm"


@pytest.mark.parametrize("target, damage, said", [
    (CSV, lambda data: None, CSV),
    (CSV, lambda data: data.replace(b";7\r", b";8\r"), "line 2"),
    (CSV, lambda data: data.replace(b"00001_00000.ppm", b"../../../../secret.ppm"), "line 4"),
    (CSV, lambda data: data.replace(b"Width", b"Breadth"), "Width"),
    (CSV, lambda data: b"\xff\xfe" + data, "line 2"),
    (PPM, lambda data: None, PPM),
    (PPM, lambda data: data[:100], PPM),
    (PPM, lambda data: b"text", PPM),
    (PPM, lambda data: b"P6 1 1 255\nabc", "1x1"),
])  # fmt: skip
def test_damaged_archives_are_named(tmp_path, target, damage, said):
    files, _ = archive_files(lambda name, data: damage(data) if name.endswith(target) else data)
    for path in zipped(tmp_path / "signs.zip", files), unpacked(tmp_path / "folder", files):
        assert said in in_one_line(gtsrb_archive.read_archive, path)


def test_damaged_bytes_in_a_zip(tmp_path):
    path = zipped(tmp_path / "signs.zip", archive_files()[0])
    data = bytearray(path.read_bytes())
    data[5000:5020] = bytes(20)
    path.write_bytes(data)
    assert "signs.zip" in in_one_line(gtsrb_archive.read_archive, path)


# The default file


@pytest.fixture
def empty_data(tmp_path, monkeypatch):
    monkeypatch.setattr(traffic_signs, "TRAIN_FILE", tmp_path / "train.p")
    monkeypatch.setattr(traffic_signs, "ARCHIVE", tmp_path / "signs.zip")
    monkeypatch.setattr(traffic_signs, "UNPACKED", [tmp_path / "GTSRB"])
    return tmp_path


def fake_fetch(monkeypatch, **answers):
    """What each address gives, by the name of the file; without an answer the network is down."""
    asked = []

    def fetch(urls, path):
        asked.append(path.name)
        if path.stem not in answers:
            raise BadInput(f"{path}: could not be fetched")
        path.write_bytes(answers[path.stem])

    monkeypatch.setattr(traffic_signs, "fetch", fetch)
    return asked


@pytest.mark.parametrize("train", [{}, {"train": b"<html>gone</html>"}])
def test_archive_is_fetched_when_the_course_is_gone(empty_data, monkeypatch, train):
    archive = zipped(empty_data / "elsewhere.zip", archive_files()[0]).read_bytes()
    asked = fake_fetch(monkeypatch, signs=archive, **train)
    made = traffic_signs.load(empty_data / "train.p")
    again = traffic_signs.load(empty_data / "train.p")
    assert asked == ["train.p", "signs.zip"] and len(made.images) == 172
    np.testing.assert_array_equal(made.images, again.images)


def test_course_file_is_fetched(empty_data, monkeypatch):
    asked = fake_fetch(monkeypatch, train=pickle.dumps(signs()))
    assert len(traffic_signs.load(empty_data / "train.p").images) == 172 and asked == ["train.p"]


@pytest.mark.parametrize("make, name", [(zipped, "signs.zip"), (unpacked, "GTSRB")])
def test_local_archive_needs_no_network(empty_data, monkeypatch, make, name):
    files = archive_files()[0]
    if name == "GTSRB":  # as unzip leaves it
        make(empty_data, files)
    else:
        make(empty_data / name, files)
    asked = fake_fetch(monkeypatch)
    assert len(traffic_signs.load(empty_data / "train.p").images) == 172 and asked == []


def test_no_network_leaves_nothing_behind(empty_data, monkeypatch):
    fake_fetch(monkeypatch)
    assert "could not be fetched" in in_one_line(traffic_signs.load, empty_data / "train.p")
    assert list(empty_data.iterdir()) == []


# Drawn signs and the real file


def test_drawn():
    drawn = traffic_signs.drawn(per_class=2, seed=3)
    assert drawn.images.shape == (86, 32, 32, 3) and len(set(drawn.tracks)) == 86
    assert np.bincount(drawn.labels).tolist() == [2] * 43


@needs_signs
def test_names_are_the_benchmarks():
    official = (SHARED / "facts/signnames.csv").read_text().splitlines()[1:]
    ours = traffic_signs.sign_names()
    assert len(ours) == len(official) == 43
    same = [name == line.split(",", 1)[1] for name, line in zip(ours, official)]
    assert sum(same) > 35  # some spellings are mended


@needs_signs
def test_real_train_p(tmp_path, real):
    content = {key: real[key] for key in ("features", "labels", "sizes", "coords")}
    loaded = traffic_signs.load(dumped(tmp_path / "train.p", content, python2_dump))
    assert loaded.images.shape == (39_209, 32, 32, 3) and len(set(loaded.tracks)) == 1307
    assert loaded.images.mean() == pytest.approx(82.66505, abs=1e-5)  # as notebooks print for the course's file
