"""data/traffic_signs.py, data/gtsrb_archive.py: signs from a pickle, from every archive people have, or drawn."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from conftest import SHARED, in_one_line, python2_dumps, refused
from made_archives import TEST_LABELS, archive_files, kaggle_files, official_test_set, signs, unpacked, zipped
from PIL import Image

from common.errors import BadInput
from data import gtsrb_archive, pickles, traffic_signs
from data.datasets import Dataset, check

needs_signs = pytest.mark.skipif(not (SHARED / "data/gtsrb_train.npz").exists(), reason="the real signs are not here")
RNG = np.random.default_rng(0)


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
    ({"sizes": np.zeros((172, 2))}, "sizes are float64"),
    ({"sizes": [[1, 2], [3]]}, "sizes are no plain array"),
    ({"tracks": np.zeros(3, int)}, "tracks"),
])  # fmt: skip
def test_wrong_arrays(tmp_path, change, said):
    path = dumped(tmp_path / "wrong.p", signs() | change)
    message = refused("signs", traffic_signs.load, path)
    assert said in message and str(path) in message


@pytest.mark.parametrize("change", [
    {"coords": np.zeros((172, 2), int)},  # the first train.p: the sizes once more
    {"coords": None}, {"coords": "anything"}, {"sizes": np.zeros((172, 2), int), "tracks": np.arange(172)},
    {"sizes": "never used", "tracks": np.arange(172)}, {"names": b"unknown"},
])  # fmt: skip
def test_what_is_never_used_may_be_anything(tmp_path, change):
    assert len(traffic_signs.load(dumped(tmp_path / "train.p", signs() | change)).labels) == 172


@pytest.mark.parametrize("content, kind", [
    (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS"),
    (b"\x1f\x8b\x08\0" + bytes(50), "a gzip file"), (b"\x93NUMPY\1\0", "a .npy file"), (b"", "an empty file"),
    (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"), (b"hello", "a text file"),
    (b"\xff\xd8\xff\xe0", "a JPEG image"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["train.p", "signs.zip"])
def test_other_kinds_of_files_are_named(tmp_path, content, kind, name):
    (tmp_path / name).write_bytes(content)
    for load in traffic_signs.load, traffic_signs.load_validation, traffic_signs.load_test:
        message = refused("signs", load, tmp_path / name)
        assert f"{name}: is {kind}" in message and "expected a pickle like" in message and "delete" not in message


def test_wrong_files(tmp_path):
    assert "labels" in refused("signs", traffic_signs.load, dumped(tmp_path / "a.p", {"features": 1}))
    assert "list" in refused("signs", traffic_signs.load, dumped(tmp_path / "b.p", [1, 2]))
    assert "no such file" in refused("signs", traffic_signs.load, tmp_path / "absent.p")
    assert "00000/GT-00000.csv nor Train.csv" in refused("signs", traffic_signs.load, tmp_path)
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4 and no more")
    assert "cut.zip: is damaged" in refused("signs", traffic_signs.load, tmp_path / "cut.zip")
    assert "no such file" in refused("signs", traffic_signs.load, tmp_path / "absent.zip")


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

    pickles.write(tmp_path / "train.p", arrays)
    with open(tmp_path / "train.p", "rb") as file:
        plain = pickle.load(file)
    assert list(plain) == ["features", "labels", "sizes", "coords", "tracks"]
    for loaded in traffic_signs.load(tmp_path / "train.p"), traffic_signs.load(tmp_path / "signs.zip"):
        np.testing.assert_array_equal(loaded.images, plain["features"])
        np.testing.assert_array_equal(loaded.tracks, plain["tracks"])


@pytest.mark.parametrize("given", ["archive.zip", "there", "there/Train", "above"])
def test_kaggle_s_archive(tmp_path, given):
    kaggle, official = kaggle_files()
    zipped(tmp_path / "archive.zip", kaggle)
    unpacked(tmp_path / "there", kaggle)
    unpacked(tmp_path / "above/GTSRB", kaggle)
    ours = gtsrb_archive.read_archive(tmp_path / given)
    theirs = gtsrb_archive.read_archive(zipped(tmp_path / "official.zip", official))
    for key, array in theirs.items():
        np.testing.assert_array_equal(ours[key], array)
    test = traffic_signs.load_test(tmp_path / given.replace("Train", "Test"))
    assert test.labels.tolist() == [40, 41, 42] and test.images_per_track == 30
    np.testing.assert_array_equal(test.images, theirs["features"][:3])


def test_torchvision_s_archive(tmp_path):
    files = {name.replace("Final_Training/Images", "Training"): data for name, data in archive_files()[0].items()}
    path = zipped(tmp_path / "GTSRB-Training_fixed.zip", files)
    for given in path, unpacked(tmp_path / "a", files), unpacked(tmp_path / "gtsrb/b", files) / "GTSRB/Training":
        assert len(set(gtsrb_archive.read_archive(given)["tracks"])) == 86


UDACITY = {"train.p": 172, "valid.p": 43, "test.p": 86}


@pytest.mark.parametrize("given", ["", "gtsrb", "gtsrb/GTSRB"])
def test_torchvision_s_folder_of_test_images(tmp_path, given):
    files, labels, images = official_test_set()
    unpacked(tmp_path / "gtsrb", files | labels)
    assert as_written(traffic_signs.load_test(tmp_path / given), images)


@pytest.mark.parametrize("inside", ["", "traffic-signs-data/"])
@pytest.mark.parametrize("make", [zipped, unpacked])
def test_udacity_s_archive(tmp_path, make, inside):
    files = {f"{inside}{name}": pickle.dumps(signs(count)) for name, count in UDACITY.items()}
    files = {"__MACOSX/" + name: b"not the file" for name in UDACITY} | files
    path = make(tmp_path / "traffic-signs-data.zip", files)
    readers = traffic_signs.load, traffic_signs.load_validation, traffic_signs.load_test
    assert [len(read(path).labels) for read in readers] == list(UDACITY.values())
    assert traffic_signs.load_validation(path).name == "German traffic signs, validation"
    assert "holds no valid.p" in in_one_line(traffic_signs.load_validation, make(tmp_path / "other.zip", {"a": b""}))


@needs_signs
def test_the_later_files_have_tracks(tmp_path, real):
    """One to eight tracks of each class, 4,410 images, went into valid.p; their order stayed."""
    first = np.searchsorted(real["labels"], np.arange(43))
    tracks_in_class = (np.arange(len(real["labels"])) - first[real["labels"]]) // 30
    counts = np.maximum(1, np.bincount(real["labels"]) // 30 // 9)
    held = tracks_in_class < counts[real["labels"]]
    for chosen, load in (~held, traffic_signs.load), (held, traffic_signs.load_validation):
        content = {key: real[key][chosen] for key in ("features", "labels", "sizes", "coords")}
        tracks = load(dumped(tmp_path / "some.p", content)).tracks
        truth = real["tracks"][chosen]
        assert len(set(zip(truth, tracks))) == len(set(truth)) and len(set(tracks)) > 0.4 * len(set(truth))


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
        assert said in refused("signs", gtsrb_archive.read_archive, path)


def line_of(name, *numbers):
    return f"{name};{';'.join(map(str, numbers))}".encode()


HEADER = b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"


@pytest.mark.parametrize("content, said", [
    (HEADER + b"\r\n".join(line_of(f"{n:05}.ppm", 1, 1, 0, 0, 1, 1, 0) for n in range(60_001)), "60,001 images"),
    (HEADER + 2 * (line_of("00001.ppm", 20, 20, 0, 0, 1, 1, 0) + b"\r\n"), "or one twice"),
    (HEADER + bytes(9_000_000), "more than 8,000,000 bytes"),
    (HEADER + line_of("00001.ppm", 20, 20_000, 0, 0, 1, 1, 0), "line 2"),
    (HEADER + line_of("00001.ppm", 20, -20, 0, 0, 1, 1, 0), "line 2"),
    (HEADER + line_of("00001.ppm", 20, 20, 0, 0, 1, "9" * 5000, 0), "line 2"),
    (HEADER + line_of("00001.ppm", 20, 20, 0, 0, 1, 10**30, 0), "line 2"),
    (HEADER + b'"' + bytes(200_000), "line 2"),
    (b"Path;ClassId\r\n../../etc/passwd;1", "line 2"),
    (HEADER + "٠٠٠٠١.ppm;20;20;0;0;1;1;0".encode(), "line 2"),
])  # fmt: skip
def test_hostile_csv_files(tmp_path, content, said):
    files, _, _ = official_test_set()
    (tmp_path / "GT-final_test.csv").write_bytes(content)
    assert said in refused("signs", traffic_signs.load_test, zipped(tmp_path / "signs.zip", files))


def test_kaggle_s_folder_and_class_must_agree(tmp_path):
    kaggle, _ = kaggle_files()
    kaggle["Train.csv"] = kaggle["Train.csv"].replace(b",42,Train/42/", b",41,Train/42/")
    assert "Train.csv: line 2 is damaged" in refused(
        "signs", traffic_signs.load, zipped(tmp_path / "signs.zip", kaggle)
    )


def test_an_image_that_is_larger_than_its_csv_says_is_not_decoded(tmp_path):
    """A PNG of a few kB may stand for gigabytes."""
    kaggle, _ = kaggle_files()
    large = io.BytesIO()
    Image.new("P", (8000, 8000)).save(large, "PNG")
    kaggle["Train/7/00007_00001_00000.png"] = large.getvalue()
    assert "00007_00001_00000.png: is 8000x8000" in refused(
        "signs", gtsrb_archive.read_archive, zipped(tmp_path / "signs.zip", kaggle)
    )
    kaggle["Train/7/00007_00001_00000.png"] = bytes(9_000_000)
    assert "more than 8,000,000 bytes" in refused(
        "signs", gtsrb_archive.read_archive, zipped(tmp_path / "signs.zip", kaggle)
    )


def test_a_pickle_that_unpacks_to_far_more_than_its_zip(tmp_path):
    path = zipped(tmp_path / "signs.zip", {"train.p": bytes(110_000_000)})
    assert "train.p would unpack to 110,000,000 bytes" in refused("signs", traffic_signs.load, path)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "train.p")
    assert "is a pipe" in refused("signs", traffic_signs.load, tmp_path / "train.p")
    folder = unpacked(tmp_path / "folder", archive_files()[0])
    (folder / "GTSRB/Final_Training/Images" / CSV).unlink()
    os.mkfifo(folder / "GTSRB/Final_Training/Images" / CSV)
    assert f"{CSV}: missing" in refused("signs", traffic_signs.load, folder)


def test_damaged_bytes_in_a_zip(tmp_path):
    path = zipped(tmp_path / "signs.zip", archive_files()[0])
    data = bytearray(path.read_bytes())
    data[5000:5020] = bytes(20)
    path.write_bytes(data)
    assert "signs.zip" in refused("signs", gtsrb_archive.read_archive, path)


def test_the_names_are_in_the_order_of_the_labels():
    """Some of GTSRB's classes, those that are easily taken for one another among them."""
    names = traffic_signs.sign_names()
    for label, words in {
        0: "(20km/h)", 8: "(120km/h)", 6: "End of speed limit (80km/h)", 13: "Yield", 14: "Stop", 17: "No entry",
        19: "curve to the left", 20: "curve to the right", 33: "Turn right", 34: "Turn left", 35: "Ahead only",
        36: "straight or right", 37: "straight or left", 38: "Keep right", 39: "Keep left", 40: "Roundabout",
    }.items():  # fmt: skip
        assert words in names[label]
    assert len(set(names)) == 43


# The default file


@pytest.fixture
def empty_data(tmp_path, monkeypatch):
    monkeypatch.setattr(traffic_signs, "TRAIN_FILE", tmp_path / "train.p")
    monkeypatch.setattr(traffic_signs, "ARCHIVE", tmp_path / "signs.zip")
    monkeypatch.setattr(traffic_signs, "UNPACKED", [tmp_path])
    monkeypatch.setattr(traffic_signs, "TEST_FILE", tmp_path / "test.p")
    monkeypatch.setattr(traffic_signs, "TEST_ARCHIVE", tmp_path / "GTSRB_Final_Test_Images.zip")
    monkeypatch.setattr(traffic_signs, "TEST_UNPACKED", [tmp_path, tmp_path / "GTSRB_Final_Test_Images"])
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
    archive = zipped(empty_data / "elsewhere", archive_files()[0]).read_bytes()
    asked = fake_fetch(monkeypatch, signs=archive, **train)
    made = traffic_signs.load(empty_data / "train.p")
    again = traffic_signs.load(empty_data / "train.p")
    assert asked == ["train.p", "signs.zip"] and len(made.images) == 172
    np.testing.assert_array_equal(made.images, again.images)


def test_a_file_that_the_user_puts_there_meanwhile_is_used_and_kept(empty_data, monkeypatch):
    """While the dead address is asked, for a minute or two."""

    def fetch(urls, path):
        path.write_bytes(pickle.dumps(signs()))
        raise BadInput(f"{path}: could not be fetched")

    monkeypatch.setattr(traffic_signs, "fetch", fetch)
    assert len(traffic_signs.load(empty_data / "train.p").images) == 172
    assert (empty_data / "train.p").read_bytes() == pickle.dumps(signs())


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


def test_kaggle_s_files_in_data(empty_data, monkeypatch):
    unpacked(empty_data, kaggle_files()[0])
    asked = fake_fetch(monkeypatch)
    assert len(traffic_signs.load(empty_data / "train.p").images) == 172
    assert len(traffic_signs.load_test(empty_data / "test.p").images) == 3 and asked == []


@pytest.mark.parametrize("name", ["kaggle", "udacity", "torchvision"])
def test_zips_of_any_name_in_data(name, empty_data, monkeypatch):
    """Of the training images, and of the test images where their classes are in the zip."""
    if name == "kaggle":
        files, tests = kaggle_files()[0], 3
    elif name == "udacity":
        files, tests = {part: pickle.dumps(signs(count)) for part, count in UDACITY.items()}, UDACITY["test.p"]
    else:
        files, tests = archive_files()[0], 0
        files = {path.replace("Final_Training/Images", "Training"): data for path, data in files.items()}
    zipped(empty_data / "archive.zip", files)
    (empty_data / "a folder.zip").mkdir()
    (empty_data / "damaged.zip").write_bytes(b"PK\3\4 and no more")
    zipped(empty_data / "another.zip", {"notes.txt": b"hello"})
    asked = fake_fetch(monkeypatch)
    assert traffic_signs.here()
    assert len(traffic_signs.load(empty_data / "train.p").images) == 172 and asked == []
    if tests:
        assert len(traffic_signs.load_test(empty_data / "test.p").images) == tests and asked == []
    for archive in empty_data.glob("a*.zip"):
        if archive.is_file():
            archive.unlink()
    assert traffic_signs.here()  # train.p was made of it
    (empty_data / "train.p").unlink()
    assert not traffic_signs.here()


@pytest.mark.parametrize("images_in", ["", "GTSRB_Final_Test_Images", "gtsrb"])
@pytest.mark.parametrize("labels_in", ["", "GTSRB_Final_Test_GT"])
def test_the_test_images_unpacked_in_data(empty_data, monkeypatch, images_in, labels_in):
    """By unzip, by systems that make a folder for each zip, by torchvision."""
    files, labels, images = official_test_set()
    unpacked(empty_data / images_in, files)
    unpacked(empty_data / labels_in, labels)
    asked = fake_fetch(monkeypatch)
    assert as_written(traffic_signs.load_test(empty_data / "test.p"), images) and asked == []


def test_the_test_images_in_their_place_do_not_stand_for_the_training_images(empty_data, monkeypatch):
    unpacked(empty_data, official_test_set()[0])
    asked = fake_fetch(monkeypatch, train=pickle.dumps(signs()))
    assert len(traffic_signs.load(empty_data / "train.p").images) == 172 and asked == ["train.p"]


def test_without_a_network_all_addresses_are_told(empty_data, monkeypatch):
    fake_fetch(monkeypatch)
    assert f"or train.p from {traffic_signs.COURSE}" in in_one_line(traffic_signs.load, empty_data / "train.p")
    message = in_one_line(traffic_signs.load_test, empty_data / "test.p")
    labels = "GTSRB_Final_Test_GT.zip"
    assert message.endswith(f"and {labels} from {traffic_signs.OFFICIAL}{labels}")


def test_no_network_leaves_nothing_behind(empty_data, monkeypatch):
    fake_fetch(monkeypatch)
    assert "could not be fetched" in in_one_line(traffic_signs.load, empty_data / "train.p")
    assert list(empty_data.iterdir()) == []


# The official test set


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
    (TEST_PPM, lambda data: b"P6 1 1 255\nabc", "is 1x1, the csv says"),
])  # fmt: skip
def test_damaged_test_sets_are_named(tmp_path, target, damage, said):
    files, labels, _ = official_test_set(lambda name, data: damage(data) if name.endswith(target) else data)
    zipped(tmp_path / "GTSRB_Final_Test_GT.zip", labels)
    for path in zipped(tmp_path / "signs.zip", files), unpacked(tmp_path / "folder", files):
        assert said in refused("signs", traffic_signs.load_test, path)


def test_damaged_zips_of_the_test_set(tmp_path):
    files, labels, _ = official_test_set()
    path, labels_path = zipped(tmp_path / "signs.zip", files), tmp_path / "GTSRB_Final_Test_GT.zip"
    labels_path.write_bytes(b"PK\3\4 and no more")
    assert "GTSRB_Final_Test_GT.zip: is damaged" in refused("signs", traffic_signs.load_test, path)
    zipped(labels_path, {"other.csv": b""})
    assert "GT-final_test.csv: missing" in refused("signs", traffic_signs.load_test, path)
    zipped(labels_path, labels)
    path.write_bytes(path.read_bytes()[:2000])
    assert "signs.zip: is damaged" in refused("signs", traffic_signs.load_test, path)


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


# One's own signs


def test_own_signs_are_squeezed_to_32_pixels(tmp_path):
    image = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 3, 3, axis=2).repeat(96, axis=0)
    Image.fromarray(image).save(tmp_path / "sign.png")
    names, found, problems = traffic_signs.find_signs([str(tmp_path / "sign.png")], False, 0)
    assert names == [str(tmp_path / "sign.png")] and found.shape == (1, 32, 32, 3) and not problems
    assert np.abs(found[0, :, 1:-1, 0].astype(int) - (np.arange(1, 31) * 6 + 1.5)).max() <= 1


def test_drawn_signs_take_the_place_of_the_course_s(monkeypatch, capsys):
    def no_network():
        raise BadInput("no network")

    monkeypatch.setattr(traffic_signs.images, "course_signs", no_network)
    demo_s, expected = traffic_signs.drawn(per_class=30, seed=3), traffic_signs.drawn_test(per_class=1, seed=3)
    for demo in True, False:
        names, found, problems = traffic_signs.find_signs([], demo, 3)
        assert names == ["drawn, Road work", "drawn, Stop"]
        np.testing.assert_array_equal(found, expected.images[[25, 14]])
        assert not any((sign == demo_s.images).all(axis=(1, 2, 3)).any() for sign in found)  # it is trained on none
        assert ("using drawn ones" in capsys.readouterr().out) != demo and not problems


def test_a_damaged_sign_of_the_course_is_named(tmp_path, monkeypatch):
    (tmp_path / "stop.jpg").write_bytes(b"x")
    monkeypatch.setattr(traffic_signs.images, "course_signs", lambda: [tmp_path / "stop.jpg"])
    assert f"{tmp_path / 'stop.jpg'}: is a text file, not an image" in in_one_line(
        traffic_signs.find_signs, [], False, 0
    )


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


def test_drawn_test_signs_are_never_those_of_a_training():
    """Whatever the seeds of either: `evaluate.py --demo` may judge a run with another seed."""
    training = [traffic_signs.drawn(per_class=1, seed=seed).images for seed in (0, 1, 2)]
    for seed in (0, 1, 2):
        test = traffic_signs.drawn_test(per_class=1, seed=seed).images
        assert not any((test == images).all() for images in training)
