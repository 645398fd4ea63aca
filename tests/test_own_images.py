"""data/own_images.py: a folder per class becomes labelled images that are decoded once and mapped, not loaded."""

import errno
import json
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import ROOT, in_one_line
from PIL import Image

from data import images, own_images

SIZE = 8
CROP, WHOLE = images.Framing(SIZE, "crop", 10), images.Framing(SIZE)
RNG = np.random.default_rng(0)


def add(path, shape=(12, 9, 3)):
    """Write an image of noise; return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(picture).save(path)
    return picture


@pytest.fixture
def flowers(tmp_path):
    """Two classes, three images; loose and hidden files that are none of it."""
    folder = tmp_path / "flowers"
    for name in ("rose/b.png", "rose/a.png", "daisy/garden/größe 花.png"):
        add(folder / name)
    (folder / "notes.txt").write_text("loose")
    for hidden in (".git/x.png", "rose/.DS_Store", "rose/.thumbs/x.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_text("hidden")
    return folder


@pytest.fixture
def load(tmp_path):
    return lambda folder, **settings: own_images.load(
        folder, settings.pop("framing", CROP), **{"cache": tmp_path / "kept"} | settings
    )


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded."""
    names, read_all = [], images.read_all

    def noted(paths, *arguments):
        names.extend(path.name for path in paths)
        return read_all(paths, *arguments)

    monkeypatch.setattr(images, "read_all", noted)
    return names


def test_classes_files_and_labels(flowers, load):
    for framing in CROP, WHOLE:
        dataset = load(flowers, framing=framing)
        paths = [flowers / name for name in ("daisy/garden/größe 花.png", "rose/a.png", "rose/b.png")]
        np.testing.assert_array_equal(dataset.images, images.read_all(paths, framing))
        assert dataset.labels.tolist() == [0, 1, 1] and dataset.labels.dtype == np.int64
        assert dataset.class_names == ["daisy", "rose"] and dataset.tracks is None
        assert dataset.name == "images of flowers"


def test_pictures_are_mapped_and_read_only(flowers, load):
    pictures = load(flowers).images
    assert isinstance(pictures, np.memmap) and not pictures.flags.writeable
    assert pictures.dtype == np.uint8 and pictures.shape == (3, SIZE, SIZE, 3)


def test_many_pictures_stay_in_order(tmp_path, load):
    expected = [add(tmp_path / "many" / "ab"[number % 2] / f"{number:03}.png") for number in range(150)]
    dataset = load(tmp_path / "many", framing=WHOLE)
    order = [*range(0, 150, 2), *range(1, 150, 2)]
    np.testing.assert_array_equal(dataset.images, [images.frame(expected[number], WHOLE) for number in order])
    assert dataset.labels.tolist() == [0] * 75 + [1] * 75
    (tmp_path / "many/b/145.png").write_text("not an image")  # in a later batch
    del order[order.index(145)]
    dataset = load(tmp_path / "many", framing=WHOLE, skip_unreadable=True)
    np.testing.assert_array_equal(dataset.images, [images.frame(expected[number], WHOLE) for number in order])
    assert dataset.labels.tolist() == [0] * 75 + [1] * 74


def test_second_run_decodes_nothing(flowers, load, decoded, tmp_path, monkeypatch):
    first = load(flowers)
    assert len(decoded) == 3
    monkeypatch.chdir(tmp_path)  # another way to write the same folder
    again = load("flowers")
    assert len(decoded) == 3
    np.testing.assert_array_equal(first.images, again.images)
    assert load(flowers, framing=WHOLE).images.tolist() != first.images.tolist() and len(decoded) == 6


def test_changed_added_and_lost_pictures_are_noticed(flowers, load):
    first = load(flowers).images
    path = flowers / "rose/a.png"
    status = path.stat()
    add(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    changed = load(flowers).images
    np.testing.assert_array_equal(changed[[0, 2]], first[[0, 2]])
    np.testing.assert_array_equal(changed[1:2], images.read_all([path], CROP))
    assert (first[1] != changed[1]).any()
    add(flowers / "rose/c.png")
    assert load(flowers).labels.tolist() == [0, 1, 1, 1]
    (flowers / "rose/c.png").rename(flowers / "daisy/c.png")
    assert load(flowers).labels.tolist() == [0, 0, 1, 1]
    (flowers / "daisy/c.png").unlink()
    np.testing.assert_array_equal(load(flowers).images, changed)


def test_two_folders_alike_in_all_but_the_pictures(tmp_path, load):
    """Training and validation files of the same names, sizes and times, as some archives unpack to."""
    for part in ("training", "validation"):
        for name in ("a/0.bmp", "b/0.bmp"):
            add(tmp_path / part / "pictures" / name)
            os.utime(tmp_path / part / "pictures" / name, ns=(10**18, 10**18))
    training, validation = (load(tmp_path / part / "pictures").images for part in ("training", "validation"))
    assert (training != validation).any()


def test_links(flowers, load, tmp_path):
    """A link to an image, to a folder of images, and one back up, which must not be followed for ever."""
    add(tmp_path / "elsewhere/far.png")
    (flowers / "rose/c.png").symlink_to(flowers / "rose/a.png")
    (flowers / "daisy/linked").symlink_to(tmp_path / "elsewhere")
    (flowers / "daisy/up").symlink_to(flowers / "daisy")
    (flowers / "tulip").symlink_to(tmp_path / "elsewhere")
    dataset = load(flowers)
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 2] and dataset.class_names == ["daisy", "rose", "tulip"]
    np.testing.assert_array_equal(dataset.images[2], dataset.images[4])
    np.testing.assert_array_equal(dataset.images[1], dataset.images[5])


# What is no image


@pytest.fixture
def mixed(flowers):
    (flowers / "daisy/leaflet.pdf").write_bytes(b"%PDF-1.4")
    (flowers / "rose/a.txt").write_text("not an image")
    cut = flowers / "rose/cut.png"
    add(cut, (64, 64, 3))
    cut.write_bytes(cut.read_bytes()[:3000])
    (flowers / "rose/gone.png").symlink_to(flowers / "absent.png")
    return flowers


UNREADABLE = ["leaflet.pdf", "a.txt", "cut.png", "gone.png"]


def test_unreadable_files_are_refused(mixed, load):
    for _ in range(2):  # decoded, and kept
        message = in_one_line(load, mixed)
        assert f"{mixed}/daisy/leaflet.pdf: is a PDF file" in message and "(and 3 more files)" in message
        assert "--skip_unreadable" in message


def test_unreadable_files_are_skipped_and_named(mixed, load, capsys, decoded):
    for run in range(2):
        dataset = load(mixed, skip_unreadable=True)
        said = capsys.readouterr().err.splitlines()
        assert [line.split(": ")[1].rpartition("/")[2] for line in said] == UNREADABLE
        assert all(line.startswith("skipped: ") for line in said) and "No such file" in said[3]
        assert dataset.labels.tolist() == [0, 1, 1] and isinstance(dataset.images, np.memmap)
        if run == 0:
            decoded.clear()
    assert decoded == UNREADABLE  # only these are tried again
    paths = [mixed / name for name in ("daisy/garden/größe 花.png", "rose/a.png", "rose/b.png")]
    np.testing.assert_array_equal(dataset.images, images.read_all(paths, CROP))


def test_a_file_that_can_be_read_by_now_is_taken(flowers, load, monkeypatch):
    """The same bytes and times, but other permissions, or another reader installed."""
    real = images.read

    def refuse(path, name=None):
        if path.name == "a.png":
            raise own_images.BadInput(f"{path}: cannot be read")
        return real(path, name)

    with monkeypatch.context() as patch:
        patch.setattr(images, "read", refuse)
        assert len(load(flowers, skip_unreadable=True).images) == 2
    assert load(flowers).labels.tolist() == [0, 1, 1]


def test_a_class_without_a_readable_picture(flowers, load):
    for path in flowers.glob("rose/*.png"):
        path.write_text("not an image")
    message = in_one_line(load, flowers, skip_unreadable=True)
    assert f"{flowers / 'rose'}: none of its 2 files" in message
    for path in flowers.glob("daisy/*/*.png"):
        path.write_text("not an image")
    assert "none of its 3 files" in in_one_line(load, flowers, skip_unreadable=True)


# Folders that are not as expected


def test_wrong_folders(tmp_path, flowers, load):
    assert "no such folder" in in_one_line(load, tmp_path / "absent")
    assert "is a file" in in_one_line(load, flowers / "notes.txt")
    shutil.rmtree(flowers / "daisy")
    assert "holds 1 folders" in in_one_line(load, flowers)
    (flowers / "empty").mkdir()
    assert f"{flowers / 'empty'}: holds no images" in in_one_line(load, flowers)
    assert not (tmp_path / "kept").exists()


def test_folder_that_may_not_be_read(flowers, load, monkeypatch):
    real = os.listdir

    def refuse(folder):
        if folder.name == "rose":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "listdir", refuse)  # root may read all, so chmod would not do
    assert f"{flowers / 'rose'}: cannot be read (Permission denied)" in in_one_line(load, flowers)


def test_validation_folder(flowers, load):
    """Labels count the training folder's classes; one may be absent, none may be new."""
    dataset = load(flowers, class_names=["aster", "daisy", "poppy", "rose"])
    assert dataset.labels.tolist() == [1, 3, 3] and dataset.class_names == ["aster", "daisy", "poppy", "rose"]
    shutil.rmtree(flowers / "daisy")
    assert load(flowers, class_names=["daisy", "rose"]).labels.tolist() == [1, 1]
    message = in_one_line(load, flowers, class_names=["daisy", "tulip"])
    assert "no class rose" in message and "daisy, tulip" in message
    shutil.rmtree(flowers / "rose")
    assert "holds 0 folders" in in_one_line(load, flowers, class_names=["daisy", "rose"])


# What is kept


def test_nothing_pickled_and_nothing_left_over(flowers, load, tmp_path):
    load(flowers)
    array, record = sorted((tmp_path / "kept").iterdir(), key=lambda path: path.suffix == ".json")
    assert array.suffix == ".npy" and json.loads(record.read_text()) == []
    assert np.load(array, allow_pickle=False).shape == (3, SIZE, SIZE, 3)


@pytest.mark.parametrize("damage", [
    lambda array, record: array.write_bytes(array.read_bytes()[:-1]),
    lambda array, record: array.write_bytes(b""),
    lambda array, record: record.write_text("{"),
    lambda array, record: record.unlink(),
    lambda array, record: np.save(array, np.zeros((2, SIZE, SIZE, 3), np.uint8)),
])  # fmt: skip
def test_damaged_keeping_is_made_anew(flowers, load, tmp_path, damage):
    expected = np.array(load(flowers).images)
    array, record = (next((tmp_path / "kept").glob(f"*.{suffix}")) for suffix in ("npy", "json"))
    damage(array, record)
    np.testing.assert_array_equal(load(flowers).images, expected)


def test_stopped_while_decoding(flowers, load, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(images, "frame", stop)
        with pytest.raises(KeyboardInterrupt):
            load(flowers)
    assert list((tmp_path / "kept").iterdir()) == []
    assert len(load(flowers).images) == 3


def test_a_place_that_cannot_be_written(flowers, load):
    assert "cannot be written" in in_one_line(load, flowers, cache=flowers / "notes.txt" / "kept")


def test_filters_for_warnings_are_left_as_they_were(flowers, load):
    before = list(warnings.filters)
    load(flowers)
    assert warnings.filters == before


def test_three_processes_decode_once(flowers, tmp_path):
    code = """if True:
        import sys, time
        from data import images, own_images
        read = images.read
        def slow(path):
            time.sleep(0.5)
            sys.stdout.write(f"{path.name}\\n")  # print() would write the name and its end apart
            return read(path)
        images.read = slow
        own_images.load(sys.argv[1], images.Framing(8), cache=sys.argv[2])
    """
    command = [sys.executable, "-c", code, str(flowers), str(tmp_path / "kept")]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert sorted(sum(said, [])) == ["a.png", "b.png", "größe 花.png"]
    assert [process.returncode for process in processes] == [0] * 3 and len(list((tmp_path / "kept").iterdir())) == 2


def test_a_class_name_that_is_no_text_is_refused(tmp_path):
    for name in (b"a", b"b\xff"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        try:
            os.mkdir(folder)
        except OSError:
            pytest.skip("this file system takes text only")
        with open(os.path.join(folder, b"1.png"), "wb") as file:
            file.write(b"x")
    assert "not printable" in in_one_line(own_images.load, tmp_path, WHOLE, cache=tmp_path / "cache")
