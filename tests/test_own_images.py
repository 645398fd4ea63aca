"""data/own_images.py: a folder per class becomes labelled images that are decoded once and mapped, not loaded."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import ROOT, in_one_line
from made_folders import add, layout
from PIL import Image

from common.locks import one_at_a_time
from data import folders, images, own_images, picture_store, splits, traffic_signs

SIZE = 8
CROP, WHOLE = images.Framing(SIZE, "crop", 10), images.Framing(SIZE)


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


def test_images_are_mapped_and_read_only(flowers, load):
    images = load(flowers).images
    assert isinstance(images, np.memmap) and not images.flags.writeable
    assert images.dtype == np.uint8 and images.shape == (3, SIZE, SIZE, 3)


def test_many_images_stay_in_order(tmp_path, load):
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


def test_changed_added_and_lost_images_are_noticed(flowers, load):
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


def test_two_folders_alike_in_all_but_the_images(tmp_path, load):
    """Training and validation files of the same names, sizes and times, as some archives unpack to."""
    for part in ("training", "validation"):
        for name in ("a/0.bmp", "b/0.bmp"):
            add(tmp_path / part / "images" / name)
            os.utime(tmp_path / part / "images" / name, ns=(10**18, 10**18))
    training, validation = (load(tmp_path / part / "images").images for part in ("training", "validation"))
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
        assert f"{mixed}/daisy/leaflet.pdf: is a PDF file" in message and "(and 3 more)" in message
        assert "--skip_unreadable" in message


def test_in_memory_only(mixed, load, tmp_path, capsys):
    assert "(and 3 more)" in in_one_line(load, mixed, cache=None)
    dataset = load(mixed, cache=None, skip_unreadable=True)
    assert capsys.readouterr().err.count("skipped: ") == 4 and not (tmp_path / "kept").exists()
    kept = load(mixed, skip_unreadable=True)
    np.testing.assert_array_equal(dataset.images, kept.images)
    np.testing.assert_array_equal(dataset.labels, kept.labels)


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


def test_a_class_without_a_readable_image(flowers, load):
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
    message = in_one_line(load, flowers)
    assert "holds one folder, rose; expected two or more" in message and "name that one, if it holds them" in message
    (flowers / "empty").mkdir()
    assert f"{flowers / 'empty'}: holds no images" in in_one_line(load, flowers)
    assert not (tmp_path / "kept").exists()


def test_folder_that_may_not_be_read(flowers, load, monkeypatch):
    real = os.listdir

    def refuse(folder):
        if os.path.basename(folder) == "rose":
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
    assert "holds no folders" in in_one_line(load, flowers, class_names=["daisy", "rose"])


# What operating systems and archives add


def test_files_and_folders_of_operating_systems_are_passed_over(flowers, load):
    for folder in flowers, flowers / "rose", flowers / "daisy/garden":
        for name in ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", "System Volume Information", ".Trashes"):
            add(folder / name / "a.png")
        for name in ("Icon\r", "Thumbs.db", "thumbs.DB", "desktop.ini", "Desktop.ini", ".DS_Store", "._a.png"):
            (folder / name).write_text("no image")
    dataset = load(flowers)
    assert dataset.class_names == ["daisy", "rose"] and dataset.labels.tolist() == [0, 1, 1]


def test_accents_composed_or_not_are_the_same_name(tmp_path, load):
    for name in "M\u00e4dchen", "Ma\u0308dchen", "A":
        add(tmp_path / "all" / name / "a.png")
    if len(os.listdir(tmp_path / "all")) == 2:
        pytest.skip("this file system has one of the two forms only")
    dataset = load(tmp_path / "all")
    assert dataset.class_names == ["A", "M\u00e4dchen"] and dataset.labels.tolist() == [0, 1, 1]
    for known in ["A", "M\u00e4dchen"], ["A", "Ma\u0308dchen"]:
        dataset = load(tmp_path / "all", class_names=known)
        assert dataset.class_names == known and dataset.labels.tolist() == [0, 1, 1]


def test_numbered_folders_of_signs(tmp_path, load):
    for name in "0", "00014", "42":
        add(tmp_path / "signs" / name / "a.png")
    names = traffic_signs.sign_names()
    assert load(tmp_path / "signs", class_names=names).labels.tolist() == [0, 14, 42]
    assert "no class 0" in in_one_line(load, tmp_path / "signs", class_names=names[:-1])
    add(tmp_path / "signs" / "43" / "a.png")
    assert "no class 43" in in_one_line(load, tmp_path / "signs", class_names=names)


def test_folders_nested_a_thousand_deep(flowers, load):
    """Made and deleted from within, step by step, as their paths are too long for some calls."""
    descriptors = [os.open(flowers / "rose", os.O_RDONLY)]
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptors[0])
        descriptors = [os.open("d", os.O_RDONLY, dir_fd=descriptors[0]), descriptors[0]]
        os.close(descriptors.pop())
    with open(os.open("a.png", os.O_WRONLY | os.O_CREAT, dir_fd=descriptors[0]), "wb") as file:
        file.write((flowers / "rose/a.png").read_bytes())
    os.close(descriptors[0])
    assert load(flowers).labels.tolist() == [0, 1, 1, 1]
    subprocess.run(["rm", "-r", flowers / "rose/d"], check=True)


def test_a_path_longer_than_the_system_takes(flowers, load):
    folder = os.open(flowers / "rose", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=folder)
        inside = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inside
    os.close(folder)
    assert "cannot be read (File name too long)" in in_one_line(load, flowers)
    subprocess.run(["rm", "-r", flowers / ("rose/" + "d" * 200)], check=True)


def test_links_that_multiply(flowers, load):
    """30 folders with two links each to the next: a thousand million paths, of one image."""
    add(flowers / "rose/30/c.png")
    for number in range(30):
        (flowers / f"rose/{number}").mkdir()
        for name in "ab":
            (flowers / f"rose/{number}" / name).symlink_to(f"../{number + 1}")
    assert load(flowers).labels.tolist() == [0, 1, 1, 1]


def test_a_pipe_among_the_images(flowers, load):
    os.mkfifo(flowers / "rose/c.png")
    assert "c.png: cannot be read (is a pipe)" in in_one_line(load, flowers)
    assert load(flowers, skip_unreadable=True).labels.tolist() == [0, 1, 1]


# Training and validation


def test_the_split_is_loaded(tmp_path, load):
    folder = layout(tmp_path / "pets", "train/cat", "train/dog", "val/cat", "val/dog")
    training, validation, _ = folders.find_split(folder)
    dataset = load(training)
    assert dataset.class_names == ["cat", "dog"] and dataset.name == "images of pets/train"
    assert load(validation, class_names=dataset.class_names).labels.tolist() == [0, 1]


def test_a_validation_image_that_is_trained_on_is_no_new_one(tmp_path, capsys):
    training = layout(tmp_path / "a", *(f"{name}/{number}" for name in "xy" for number in range(3)))
    validation = layout(tmp_path / "b", "x", "y")
    shutil.copy(training / "x/1/a.png", validation / "x/b.png")
    where = f"Copies of training images are in {validation}, such as {validation / 'x/b.png'}"
    for folder, told, seen, of in (
        (validation, where, 1, 3),
        (training, f"{training} is both training and validation folder", 6, 6),
    ):
        parts, _ = own_images.load_split(training, folder, "crop", SIZE, SIZE, cache=tmp_path / "kept")
        assert splits.share_seen(parts) == pytest.approx(seen / of)
        assert capsys.readouterr().out.splitlines() == [told]  # where they are; what that means is told once
        copied = f"{seen} of {of} validation images are training images, too: the accuracy flatters."
        assert [note for note in splits.notes(parts) if "flatters" in note] == [copied]
    assert parts.dataset.labels[parts.validation].tolist() == parts.dataset.labels[parts.training].tolist()


def test_a_mistake_in_the_validation_folder_is_told_before_images_are_decoded(tmp_path, monkeypatch):
    training, other = layout(tmp_path / "a", "x", "y"), layout(tmp_path / "c", "x", "z")
    monkeypatch.setattr(own_images, "load", lambda *_: pytest.fail("decoded"))
    for folder, told in (
        (tmp_path / "b", "no such folder"),
        (training / "x", "lies inside"),
        (other, "the training images have no class z"),
    ):
        assert told in in_one_line(own_images.load_split, training, folder, "crop", SIZE, SIZE)


def test_both_folders_images_lie_on_disk_and_their_file_goes_with_the_process(tmp_path):
    training, validation = layout(tmp_path / "a", "x", "y"), layout(tmp_path / "b", "x", "y")
    add(validation / "y" / "z.png")
    parts, framing = own_images.load_split(training, validation, "crop", SIZE, SIZE, cache=tmp_path / "kept")
    images = parts.dataset.images
    assert isinstance(images, np.memmap) and not images.flags.writeable
    each = [own_images.load(folder, framing, cache=None).images for folder in (training, validation)]
    assert (images[parts.training] == each[0]).all() and (images[parts.validation] == each[1]).all()
    assert len({file.suffix for file in (tmp_path / "kept").iterdir() if not file.name.startswith(".")}) == 2
    in_memory, _ = own_images.load_split(training, validation, "crop", SIZE, SIZE, cache=None)
    assert (in_memory.dataset.images == images).all()


def test_a_split_of_folders_is_framed_shuffled_and_labelled_as_it_was_asked_for(tmp_path):
    training = layout(tmp_path / "a", *(f"{name}/{number}" for name in "xyz" for number in range(9)))
    for seed in 0, 1:
        parts, framing = own_images.load_split(training, None, "crop", 64, 224, seed=seed, cache=None)
        assert framing == images.as_trained("crop", 12, 224)  # all are 12 x 9: kept small
        assert parts.training.tolist() == splits.split(parts.dataset, "random", seed).training.tolist()
    validation = layout(tmp_path / "b", "y", "z")
    parts, _ = own_images.load_split(training, validation, "crop", 64, 224, cache=None)
    assert parts.dataset.labels[parts.validation].tolist() == [1, 2]  # x has no validation images


def test_copies_in_one_folder_are_no_new_images(tmp_path, capsys):
    """A split at random, which has copies of one image on both sides."""
    folder = layout(tmp_path / "a", *(f"{name}/{number}" for name in "xy" for number in range(3)))
    for number in range(9):
        shutil.copy(folder / "x/0/a.png", folder / f"x/copy{number}.png")
    parts, _ = own_images.load_split(folder, None, "crop", SIZE, SIZE, cache=tmp_path / "kept")
    assert "copies of others" in capsys.readouterr().out
    rows = parts.dataset.images.reshape(len(parts.dataset.labels), -1)
    copied = [any((rows[row] == rows[other]).all() for other in parts.training) for row in parts.validation]
    assert splits.share_seen(parts) == np.mean(copied) > 0


def test_names_from_an_archive_do_not_reach_the_terminal_raw(tmp_path, capsys):
    folder = layout(tmp_path / "a", "x/0", "x/1", "y/0", "y/1")
    shutil.copy(folder / "x/0/a.png", folder / "x/b\x1b[2J\nAccuracy.png")
    own_images.load_split(folder, None, "crop", SIZE, SIZE, cache=tmp_path / "kept")
    (line,) = capsys.readouterr().out.splitlines()
    assert "copies of others" in line and line.isprintable()


# Small images


def test_small_images_keep_their_size(flowers):
    assert own_images.side_to_keep(flowers, 227) == 12  # all are 12 x 9
    add(flowers / "rose" / "c.png", (30, 64, 3))
    assert own_images.side_to_keep(flowers, 227) == 64
    assert own_images.side_to_keep(flowers, 48) == 48
    add(flowers / "rose" / "d.png", (300, 200, 3))
    assert own_images.side_to_keep(flowers, 227) == 227


def test_what_is_no_image_has_no_say_in_the_size(flowers, tmp_path):
    (flowers / "rose" / "0.png").write_text("no image")
    assert own_images.side_to_keep(flowers, 227) == 12
    for path in flowers.rglob("*.png"):
        path.write_text("no image")
    assert own_images.side_to_keep(flowers, 227) == 227


# What is kept


def test_nothing_pickled_and_nothing_left_over(flowers, load, tmp_path):
    load(flowers)
    array, record = sorted((tmp_path / "kept").iterdir(), key=lambda path: path.suffix == ".json")
    assert array.suffix == ".npy" and json.loads(record.read_text())["unreadable"] == []
    assert np.load(array, allow_pickle=False).shape == (3, SIZE, SIZE, 3)


@pytest.mark.parametrize("damage", [
    lambda array, record: array.write_bytes(array.read_bytes()[:-1]),
    lambda array, record: array.write_bytes(b""),
    lambda array, record: record.write_text("{"),
    lambda array, record: record.unlink(),
    lambda array, record: np.save(array, np.zeros((2, SIZE, SIZE, 3), np.uint8)),
    lambda array, record: np.save(array, np.zeros((3, SIZE, SIZE, 3), np.uint8)),
    lambda array, record: array.write_bytes(array.read_bytes()[:-9] + b"\0" + array.read_bytes()[-8:]),
    lambda array, record: array.write_bytes(array.read_bytes().replace(b"{'descr'", b"(((((((((")),
    lambda array, record: record.write_text('{"unreadable": [9], "sha256": 0}'),
    lambda array, record: record.write_text("[]"),
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


def test_what_was_killed_while_decoding_is_cleared_away(flowers, load, tmp_path):
    """Of the same images, and of others if an hour old: not what another process may be writing just now."""
    load(flowers)
    (array,) = (tmp_path / "kept").glob("*.npy")
    array.unlink()
    names = f"{array.name}.x", f"b-{'0' * 16}.npy.x", f"c-{'1' * 16}.json.x", "film.x"  # the last is somebody's own
    same, others, old, somebody_s = (tmp_path / "kept" / f".{name}.part" for name in names)
    for part in same, others, old, somebody_s:
        part.write_bytes(b"half")
    for part in old, somebody_s:
        os.utime(part, (10**9, 10**9))
    load(flowers)
    assert sorted((tmp_path / "kept").glob(".*")) == [others, somebody_s]


def test_a_place_that_cannot_be_written(flowers, load):
    assert "cannot be written" in in_one_line(load, flowers, cache=flowers / "notes.txt" / "kept")


def test_filters_for_warnings_are_left_as_they_were(flowers, load):
    before = list(warnings.filters)
    load(flowers)
    assert warnings.filters == before


def test_what_earlier_versions_misread_is_read_anew(flowers, load, monkeypatch):
    """Format 5 had some GIF and WebP on a black ground, and the rest of some cut JPEG grey."""
    with monkeypatch.context() as patch:
        patch.setattr(picture_store, "FORMAT", 5)
        patch.setattr(images, "read_all", lambda paths, framing: np.full((1, framing.size, framing.size, 3), 255, "u1"))
        assert load(flowers).images.min() == 255
    np.testing.assert_array_equal(load(flowers).images, load(flowers, cache=None).images)


@pytest.mark.slow
def test_three_processes_decode_once(flowers, load, tmp_path):
    """All three find nothing and wait for the lock, which is held here; then one of them decodes."""
    load(flowers)
    array, record = sorted((tmp_path / "kept").iterdir(), key=lambda path: path.suffix == ".json")
    array.unlink()
    code = """if True:
        import sys
        from data import images, own_images
        read = images.read
        images.read = lambda path: (sys.stdout.write(f"{path.name}\\n"), read(path))[1]
        own_images.load(sys.argv[1], images.Framing(8, "crop", 10), cache=sys.argv[2])
    """
    command = [sys.executable, "-c", code, str(flowers), str(tmp_path / "kept")]
    with one_at_a_time(tmp_path / "kept" / f".{array.stem}.lock", ""):
        processes = [
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        assert all("waiting for another process" in process.stderr.readline() for process in processes)
    said = [process.communicate()[0].splitlines() for process in processes]
    assert sorted(sum(said, [])) == ["a.png", "b.png", "größe 花.png"] and sorted(map(len, said)) == [0, 0, 3]
    assert [process.returncode for process in processes] == [0] * 3
    assert sorted((tmp_path / "kept").iterdir()) == sorted([array, record])


def test_class_names_of_all_scripts(tmp_path):
    names = ["猫\u3000黒", "می\u200cخواهم", "क्\u200dष"]
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    loaded = own_images.load(tmp_path, WHOLE, cache=None)
    assert sorted(loaded.class_names) == sorted(names)


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


def test_images_that_are_read_in_another_way_are_not_taken_from_what_was_kept(tmp_path):
    """Should this fail, because images are now read or framed differently: raise FORMAT, and note the new hash."""
    ramp = np.arange(64 * 48).reshape(48, 64)
    colours = np.stack([ramp % 251, ramp % 241, ramp % 239, ramp % 233], axis=2).astype(np.uint8)
    Image.fromarray((ramp * 20).astype(np.uint16)).save(tmp_path / "sixteen_bits.png")
    Image.fromarray(colours).save(tmp_path / "transparent.png")
    Image.fromarray(colours * np.uint8([1, 1, 1, 0])).save(tmp_path / "unused_alpha.bmp")
    Image.fromarray((ramp / ramp.max()).astype(np.float32)).save(tmp_path / "floats.tif")
    Image.fromarray(colours[:, :, :3]).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray((ramp // 12).astype(np.uint8)).save(tmp_path / "canvas.gif")
    data = bytearray((tmp_path / "canvas.gif").read_bytes())
    data[6:10] = 80, 0, 60, 0  # width and height of the canvas, which the image now does not fill
    (tmp_path / "canvas.gif").write_bytes(data)
    digest = hashlib.sha256()
    for framing in (CROP, WHOLE, images.Framing(SIZE, "squeeze", 10)):
        digest.update(images.read_all(sorted(tmp_path.iterdir()), framing))
    assert (picture_store.FORMAT, digest.hexdigest()[:16]) == (6, "96fcb4e6569a1b2e")
