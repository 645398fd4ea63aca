"""data/folders.py: which folders are classes and which a split; copies in one folder, and in both."""

import shutil

import pytest
from conftest import in_one_line
from made_folders import add, layout

from data import folders


@pytest.mark.parametrize("names, train, held_out", [
    (("train/a", "train/b", "val/a", "val/b"), "train", "val"),
    (("Train/a", "Train/b", "VALIDATION/a"), "Train", "VALIDATION"),
    (("train/a", "train/b", "test/a", "test/b"), "train", "test"),
    (("train/a", "train/b", "test/a", "valid/a"), "train", "valid"),
    (("training/a", "training/b", "test/a", "docs/x"), "training", "test"),
    (("train/a", "train/b"), "train", None),
    (("train/a", "train/b", "__MACOSX/a"), "train", None),
    (("training_set/a", "training_set/b", "test_set/a", "test_set/b"), "training_set", "test_set"),
    (("seg_train/a", "seg_test/a", "seg_pred/x"), "seg_train", "seg_test"),
    (("Images-Train/a", "images-val/a", "images-test/a"), "Images-Train", "images-val"),
    (("old_train/a", "train/a", "test/a"), "train", "test"),
    (("train", "plane"), "", None),  # vehicles
    (("train station/1", "test tube/2"), "", None),
    (("trainer/a", "tester/a"), "", None),
    (("train station/a",), "", None),
    (("train_val/a", "train_val/b"), "", None),
    (("train_val/a", "masks/x"), "", None),
    (("bullet_train/day", "crash_test/day", "car/day"), "", None),
    (("train_1/a", "train_2/a", "test/a"), "", None),
    (("train/steam", "car/red", "test/blue"), "", None),
    (("a", "b"), "", None),
])  # fmt: skip
def test_a_split_in_the_folder(tmp_path, names, train, held_out):
    folder = layout(tmp_path / "all", *names)
    training, validation, said = folders.find_split(folder)
    assert training == folder / train and validation == (folder / held_out if held_out else None)
    assert bool(said) == bool(train)
    assert not said or (str(training) in said and (str(validation) in said or not validation))
    other = folders.find_split(folder, tmp_path / "mine")
    assert other[:2] == (folder / train, tmp_path / "mine")
    assert folders.find_split(str(folder), folder)[1] == (validation if train else folder)


def test_a_split_without_classes(tmp_path):
    folder = layout(tmp_path / "all", "train", "test1", "test")
    assert folders.find_split(folder)[2] is None  # test1 may be a class
    shutil.rmtree(folder / "test1")
    assert "train holds no folders" in in_one_line(folders.find_split, folder)
    assert "no such folder" in in_one_line(folders.find_split, tmp_path / "absent")


@pytest.mark.parametrize("names, said", [
    (("train/Cat", "train/Dog", "val/cat", "val/dog"), "(train holds Cat, Dog; val holds cat, dog); expected"),
    (("train/a", "train/b", "validation/c", "Test/a"), "(Test holds a; train holds a, b; validation holds c)"),
    (("val/a", "val/b", "test/a", "test/b"), "(test holds a, b; val holds a, b); expected a folder per class in each"),
    (("cat", "dog", "test/cat", "test/dog"), "test: holds cat, dog, as "),
    (("Cat", "dog", "train/cat", "train/bird"), "train: holds cat, as "),
])  # fmt: skip
def test_parts_of_a_split_are_no_classes(tmp_path, names, said):
    for validation_dir in None, tmp_path / "mine":
        assert said in in_one_line(folders.find_split, layout(tmp_path / "all", *names), validation_dir)


def test_data_sets_are_no_classes(tmp_path):
    folder = layout(tmp_path / "all", *(f"one/{part}/{name}" for part in ("train", "test") for name in "ab"), "two/a")
    assert f"{folder / 'one'}: holds a split (train, test), and would be a class" in in_one_line(
        folders.find_split, folder
    )
    for inside in ".", "images":  # a class, its images in parts
        parts = (f"{name}/{inside}" for name in ("tabby/train", "tabby/test", "siamese/train"))
        assert folders.find_split(layout(tmp_path / f"cats {inside}", *parts))[2] is None


def test_copies_within_a_folder_are_told_before_a_third_is_held_out(tmp_path):
    folder = tmp_path / "pets"
    for name in "x/a.png", "x/b.png", "y/a.png", "y/b.png":
        add(folder / name)
    assert folders.copies(folder) is None
    for name in "x/copy.png", "y/copy.png":  # the second one even under another label
        shutil.copy(folder / "x/a.png", folder / name)
    assert f"2 of 6 images are copies of others, such as {folder / 'x/copy.png'}" in folders.copies(folder)


def test_overlap(tmp_path):
    training, validation = layout(tmp_path / "a", "x", "y"), layout(tmp_path / "b", "x", "y")
    assert folders.overlap(training, validation) is None
    shutil.copy(training / "x/a.png", validation / "y/b.png")
    said = folders.overlap(training, validation)
    assert said == f"Copies of training images are in {validation}, such as {validation / 'y/b.png'}"
    assert "both training and validation" in folders.overlap(training, tmp_path / "b" / ".." / "a")
    (tmp_path / "link").symlink_to(training)
    assert "both training and validation" in folders.overlap(training, tmp_path / "link")
    assert "lies inside" in in_one_line(folders.overlap, training, training / "x")
    assert "lies inside" in in_one_line(folders.overlap, training / "x", training)
