"""data/traffic_signs.py, data/gtsrb_archive.py, data/datasets.py: signs from a pickle, the archive, or drawn."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from conftest import SHARED, in_one_line, python2_dumps
from PIL import Image

from common.files import BadInput
from data import gtsrb_archive, traffic_signs
from data.datasets import Dataset, check

needs_signs = pytest.mark.skipif(not (SHARED / "data/gtsrb_train.npz").exists(), reason="the real signs are not here")
RNG = np.random.default_rng(0)


def signs(count=4 * 43):
    """A small train.p: of every class a track of three images, which come closer, and one of another sign."""
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


def dumped(path, content, dumps=pickle.dumps):
    path.write_bytes(dumps(content))
    return path


# The pickle


@pytest.mark.parametrize("dumps", [pickle.dumps, python2_dumps], ids=["Python 3", "Python 2"])
def test_train_p(tmp_path, dumps):
    content = signs()
    loaded = traffic_signs.load(dumped(tmp_path / "train.p", content, dumps))
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
def test_tracks_of_the_real_file_and_of_every_nth_image(real):
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


def test_tracks_of_one_image(recwarn):
    assert traffic_signs.tracks_of(np.array([5]), np.array([[30, 30]])).tolist() == [0]
    assert not recwarn


# The archive


def archive_files(change=lambda name, data: data):
    """The official archive in small, {name: bytes}: 43 classes of two tracks of two images; and its images."""
    rng = np.random.default_rng(1)
    files, images = {}, []
    for label in range(43):
        folder = f"GTSRB/Final_Training/Images/{label:05}"
        csv = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
        for name in ("00000_00000.ppm", "00000_00001.ppm", "00001_00000.ppm", "00001_00001.ppm"):
            height, width = rng.integers(15, 60, 2)
            images.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            stream = io.BytesIO()
            Image.fromarray(images[-1]).save(stream, "PPM")
            files[f"{folder}/{name}"] = stream.getvalue()
            csv += f"{name};{width};{height};5;6;{width - 5};{height - 6};{label}\r\n"
        files[f"{folder}/GT-{label:05}.csv"] = csv.encode()
    return {name: change(name, data) for name, data in files.items() if change(name, data) is not None}, images


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
    files, images = archive_files()
    arrays = gtsrb_archive.read_archive(zipped(tmp_path / "signs.zip", files))
    assert arrays["features"].shape == (172, 32, 32, 3) and arrays["features"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["labels"], np.arange(43).repeat(4))
    np.testing.assert_array_equal(arrays["sizes"], [image.shape[1::-1] for image in images])
    assert arrays["coords"][0].tolist() == [5, 6, images[0].shape[1] - 5, images[0].shape[0] - 6]
    assert arrays["tracks"][-4:].tolist() == [42000, 42000, 42001, 42001]
    folder = unpacked(tmp_path / "unpacked", files)
    for inside in ("", "GTSRB", "GTSRB/Final_Training", "GTSRB/Final_Training/Images"):
        again = gtsrb_archive.read_archive(folder / inside)
        for key in arrays:
            np.testing.assert_array_equal(arrays[key], again[key])

    gtsrb_archive.write_pickle(tmp_path / "train.p", arrays)
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
        image = RNG.integers(0, 256, shape, dtype=np.uint8)
        expected = np.apply_along_axis(stretched, 1, np.apply_along_axis(stretched, 0, image))
        assert np.abs(gtsrb_archive.shrunk(image) - expected).max() < 0.501


def test_shrunk_as_cv2():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    for shape in (15, 15, 3), (32, 32, 3), (64, 64, 3), (243, 225, 3), (31, 90, 3):
        image = RNG.integers(0, 256, shape, dtype=np.uint8)
        difference = gtsrb_archive.shrunk(image).astype(int) - cv2.resize(image, (32, 32))
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
    monkeypatch.setattr(traffic_signs, "TEST_FILE", tmp_path / "test.p")
    monkeypatch.setattr(traffic_signs, "TEST_ARCHIVE", tmp_path / "GTSRB_Final_Test_Images.zip")
    monkeypatch.setattr(traffic_signs, "TEST_UNPACKED", tmp_path / "GTSRB/Final_Test/Images")
    return tmp_path


def fake_fetch(monkeypatch, **answers):
    """What each address gives, by the name of the file; without an answer the network is down."""
    asked = []

    def fetch(urls, path, md5=None):
        if path.exists():
            return
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


# The official test set

TEST_LABELS = [16, 1, 38, 0, 42]


def official_test_set(change=lambda name, data: data):
    """Both official archives of the test set in small: {name: bytes} of the images, of the labels; the images."""
    rng = np.random.default_rng(2)
    files, images = {}, []
    columns = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"
    unlabelled, labelled = f"{columns}\r\n", f"{columns};ClassId\r\n"
    for number, label in enumerate(TEST_LABELS):
        height, width = rng.integers(15, 60, 2)
        images.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        stream = io.BytesIO()
        Image.fromarray(images[-1]).save(stream, "PPM")
        files[f"GTSRB/Final_Test/Images/{number:05}.ppm"] = stream.getvalue()
        line = f"{number:05}.ppm;{width};{height};5;6;{width - 5};{height - 6}"
        unlabelled, labelled = f"{unlabelled}{line}\r\n", f"{labelled}{line};{label}\r\n"
    files["GTSRB/Final_Test/Images/GT-final_test.test.csv"] = unlabelled.encode()
    files["GT-final_test.csv"] = labelled.encode()
    files = {name: change(name, data) for name, data in files.items() if change(name, data) is not None}
    return files, {"GT-final_test.csv": files.pop("GT-final_test.csv")}, images


def as_written(dataset, images):
    assert dataset.labels.tolist() == TEST_LABELS and dataset.tracks is None and len(dataset.class_names) == 43
    np.testing.assert_array_equal(dataset.images, [gtsrb_archive.shrunk(image) for image in images])
    return dataset.name == "German traffic signs, test"


def test_test_p(tmp_path):
    loaded = traffic_signs.load_test(dumped(tmp_path / "test.p", signs()))
    assert len(loaded.images) == 172 and loaded.tracks is None
    assert "no such file; give a test.p" in in_one_line(traffic_signs.load_test, tmp_path / "absent")


@pytest.mark.parametrize("labels_zipped", [False, True])
def test_test_set_zip(tmp_path, labels_zipped):
    files, labels, images = official_test_set()
    path = zipped(tmp_path / "GTSRB_Final_Test_Images.zip", files)
    assert f"put GTSRB_Final_Test_GT.zip, or the GT-final_test.csv in it, into {tmp_path}" in in_one_line(
        traffic_signs.load_test, path
    )
    zipped(tmp_path / "GTSRB_Final_Test_GT.zip", labels) if labels_zipped else unpacked(tmp_path, labels)
    assert as_written(traffic_signs.load_test(path), images)


@pytest.mark.parametrize("inside", ["", "GTSRB", "GTSRB/Final_Test", "GTSRB/Final_Test/Images"])
@pytest.mark.parametrize("labels_zipped", [False, True])
def test_test_set_folder(tmp_path, inside, labels_zipped):
    """The labels may lie in every folder from the images up to the one beside the folder that is given."""
    files, labels, images = official_test_set()
    given = unpacked(tmp_path / "signs", files) / inside
    assert "put GTSRB_Final_Test_GT.zip" in in_one_line(traffic_signs.load_test, given)
    place = given / "GTSRB/Final_Test/Images" if not inside else tmp_path / "signs/GTSRB/Final_Test/Images"
    while True:
        file = zipped(place / "GTSRB_Final_Test_GT.zip", labels) if labels_zipped else place / "GT-final_test.csv"
        unpacked(place, {} if labels_zipped else labels)
        assert as_written(traffic_signs.load_test(given), images)
        file.unlink()
        if place == given.parent:
            break
        place = place.parent


def test_test_set_in_the_working_folder(tmp_path, monkeypatch):
    files, labels, images = official_test_set()
    monkeypatch.chdir(unpacked(tmp_path / "signs", files))
    unpacked(tmp_path, labels)
    assert as_written(traffic_signs.load_test("."), images)


TEST_CSV, TEST_PPM = "GT-final_test.csv", "00003.ppm"


@pytest.mark.parametrize("target, damage, said", [
    (TEST_CSV, lambda data: data.replace(b";42\r", b";43\r"), "line 6"),
    (TEST_CSV, lambda data: data.replace(b"00003.ppm", b"../../3.ppm"), "line 5"),
    (TEST_CSV, lambda data: data.replace(b"00003.ppm", b"/tmp/00003.ppm"), "line 5"),
    (TEST_CSV, lambda data: data.replace(b";ClassId", b""), "ClassId"),
    (TEST_CSV, lambda data: data[:-4], "line 6"),
    (TEST_CSV, lambda data: data[: data.index(b"00000")], "names no images"),
    (TEST_CSV, lambda data: data.replace(b"00000.ppm", b"99999.ppm"), "no 99999.ppm inside"),
    (TEST_PPM, lambda data: None, TEST_PPM),
    (TEST_PPM, lambda data: data[:100], TEST_PPM),
    (TEST_PPM, lambda data: b"P6 1 1 255\nabc", "is 1x1, its GT csv says"),
])  # fmt: skip
def test_damaged_test_sets_are_named(tmp_path, target, damage, said):
    files, labels, _ = official_test_set(lambda name, data: damage(data) if name.endswith(target) else data)
    zipped(tmp_path / "GTSRB_Final_Test_GT.zip", labels)
    for path in zipped(tmp_path / "signs.zip", files), unpacked(tmp_path / "folder", files):
        assert said in in_one_line(traffic_signs.load_test, path)


def test_damaged_zips_of_the_test_set(tmp_path):
    files, labels, _ = official_test_set()
    path, labels_path = zipped(tmp_path / "signs.zip", files), tmp_path / "GTSRB_Final_Test_GT.zip"
    labels_path.write_bytes(b"PK\3\4 and no more")
    assert "GTSRB_Final_Test_GT.zip: cannot be read" in in_one_line(traffic_signs.load_test, path)
    zipped(labels_path, {"other.csv": b""})
    assert "GT-final_test.csv: missing" in in_one_line(traffic_signs.load_test, path)
    zipped(labels_path, labels)
    path.write_bytes(path.read_bytes()[:2000])
    assert "signs.zip: cannot be read" in in_one_line(traffic_signs.load_test, path)


@pytest.mark.parametrize("there", ["nothing", "the images", "all", "unpacked", "unpacked with labels"])
def test_test_p_is_made(empty_data, monkeypatch, there):
    files, labels, images = official_test_set()
    elsewhere = empty_data / "elsewhere"
    elsewhere.mkdir()
    images_zip = zipped(elsewhere / "GTSRB_Final_Test_Images.zip", files)
    labels_zip = zipped(elsewhere / "GTSRB_Final_Test_GT.zip", labels)
    answers = {path.stem: path.read_bytes() for path in (images_zip, labels_zip)}
    if there in ("the images", "all"):
        images_zip.rename(empty_data / images_zip.name)
    if there == "all":
        labels_zip.rename(empty_data / labels_zip.name)
    if there.startswith("unpacked"):
        unpacked(empty_data, files)
    if there == "unpacked with labels":
        unpacked(empty_data / "GTSRB/Final_Test/Images", labels)
    asked = fake_fetch(monkeypatch, **answers)
    assert as_written(traffic_signs.load_test(empty_data / "test.p"), images)
    expected = {"nothing": [images_zip.name, labels_zip.name], "the images": [labels_zip.name],
                "unpacked": [labels_zip.name]}  # fmt: skip
    assert asked == expected.get(there, [])
    for archive in [*empty_data.rglob("*.zip"), *empty_data.rglob("*.ppm")]:
        archive.unlink()
    fake_fetch(monkeypatch)
    assert as_written(traffic_signs.load_test(empty_data / "test.p"), images)  # from test.p alone


def test_addresses_and_hashes_of_the_test_set(empty_data, monkeypatch):
    asked = {}
    monkeypatch.setattr(traffic_signs, "fetch", lambda urls, path, md5: asked.update({urls[0]: md5}))
    in_one_line(traffic_signs.load_test, empty_data / "test.p")
    facts = (SHARED / "facts/sources.md").read_text() if SHARED.exists() else pytest.skip("the facts are not here")
    for url, md5 in asked.items():
        assert md5 in facts and url.removeprefix("https://").rpartition("/")[0] in facts
    assert len(asked) == 2


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
    loaded = traffic_signs.load(dumped(tmp_path / "train.p", content, python2_dumps))
    assert loaded.images.shape == (39_209, 32, 32, 3) and len(set(loaded.tracks)) == 1307
    assert loaded.images.mean() == pytest.approx(82.66505, abs=1e-5)  # as notebooks print for the course's file


def test_a_pickle_with_a_zip_s_mark_in_it_is_no_zip(tmp_path):
    """A box that ends at (80, 75), and one that begins at (5, 6), spell the mark of a zip's end."""
    coords = np.tile(np.array([0, 0, 80, 75, 5, 6, 30, 30], np.uint8), 20).reshape(-1, 4)
    arrays = {"features": np.zeros((40, 32, 32, 3), np.uint8), "labels": np.zeros(40, np.uint8), "coords": coords}
    (tmp_path / "train.p").write_bytes(pickle.dumps(arrays, protocol=2))
    assert zipfile.is_zipfile(tmp_path / "train.p")  # what this is about
    assert len(traffic_signs.load(tmp_path / "train.p").labels) == 40
