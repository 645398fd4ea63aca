"""data/splits.py: the split for validation, fewer images, joined data sets, what is said about them."""

import pickle

import numpy as np
import pytest
from conftest import SHARED, in_one_line
from made_archives import signs

import train_feature_extraction
from data import splits
from data.datasets import Dataset
from data.splits import Split

needs_signs = pytest.mark.skipif(not (SHARED / "data/gtsrb_train.npz").exists(), reason="the real signs are not here")


def made_up(labels, tracks=None, names=None):
    """A data set whose first pixel holds the row number."""
    labels = np.asarray(labels)
    images = np.zeros((len(labels), 1, 2, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(labels)) // 256, np.arange(len(labels)) % 256
    names = names or [f"class {label}" for label in range(labels.max() + 1)]
    return Dataset(images, labels, names, None if tracks is None else np.asarray(tracks), "made up")


def rows_of(images):
    return images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 0, 1]


def tracked(tracks_per_class=6, images=30, classes=4):
    tracks = np.repeat(np.arange(classes * tracks_per_class), images)
    return made_up(tracks // tracks_per_class, tracks)


def check_split(parts):
    """What holds of every split: each row on one side, every class trained, no track on both sides."""
    dataset, training, validation = parts
    assert sorted([*training, *validation]) == list(range(len(dataset.labels)))
    assert set(dataset.labels[training]) == set(dataset.labels)


@pytest.mark.parametrize("counts", [[2, 2], [2, 300], [3, 1000, 2, 50], [100] * 10], ids=str)
def test_a_random_split_keeps_a_third_of_every_class(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = splits.split(made_up(labels), "random", seed=0)
    check_split(parts)
    for label, count in enumerate(counts):
        held = (labels[parts.validation] == label).sum()
        assert held == max(1, round(0.33 * count)) and held < count
    again, other = (splits.split(made_up(labels), "random", seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(parts.validation, again.validation)
    assert sum(counts) < 9 or list(parts.validation) != list(other.validation)


@pytest.mark.parametrize("share, held", [(0.01, [1, 1]), (0.2, [1, 20]), (0.9, [1, 90]), (0.999, [1, 99])])
def test_another_share_is_held_out_when_asked_for(share, held):
    parts = splits.split(made_up(np.repeat([0, 1], [2, 100])), "random", 0, share)
    assert np.bincount(parts.dataset.labels[parts.validation]).tolist() == held


def test_an_undivided_set_is_trained_on_whole_and_says_that_its_validation_flatters():
    dataset = tracked(tracks_per_class=40)
    parts = splits.split(dataset, "none", seed=0)
    assert (parts.training == np.arange(len(dataset.labels))).all()
    assert len(np.unique(parts.validation)) == min(1000, len(dataset.labels))
    assert any("the accuracy flatters" in note for note in splits.notes(parts))
    assert parts.dataset.name == dataset.name + ", none held out"
    untracked = splits.split(dataset._replace(tracks=None), "none", seed=0)
    assert splits.share_seen(untracked) == 1  # the images themselves


def test_a_random_split_of_unknown_tracks_has_seen_the_objects():
    unknown = tracked()._replace(tracks=None, images_per_track=30)
    assert splits.share_seen(splits.split(unknown, "random", seed=0)) == 1
    assert splits.share_seen(splits.split(unknown._replace(images_per_track=1), "random", seed=0)) == 0
    assert splits.share_seen(splits.for_test(unknown)) == 0


def test_a_split_by_track_keeps_each_sign_on_one_side():
    parts = splits.split(tracked(), "track", seed=0)
    check_split(parts)
    dataset, training, validation = parts
    assert not set(dataset.tracks[training]) & set(dataset.tracks[validation])
    assert len(validation) == len(dataset.labels) // 3
    assert set(dataset.labels[validation]) == set(dataset.labels)


@pytest.mark.parametrize("seed", range(20))
def test_small_classes_are_trained_by_track_too(seed):
    """Classes of one to four tracks of one to thirty images, as a thinned file has them."""
    rng = np.random.default_rng(seed)
    per_class = rng.integers(1, 5, 12)
    sizes = rng.integers(1, 31, per_class.sum()) + 1
    tracks = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.repeat(np.arange(12), per_class)[tracks]
    parts = splits.split(made_up(labels, tracks), "track", seed)
    check_split(parts)
    assert not set(tracks[parts.training]) & set(tracks[parts.validation])
    assert set(labels[parts.validation]) == set(np.flatnonzero(per_class > 1))


def test_tracks_that_show_several_classes():
    tracks, labels = np.arange(210) % 7, np.arange(210) % 30
    parts = splits.split(made_up(labels, tracks), "track", 0)
    check_split(parts)
    assert not set(tracks[parts.training]) & set(tracks[parts.validation])


@needs_signs
@pytest.mark.parametrize("every", [1, 10, 20, 25, 60])
def test_thinned_real_signs(every):
    with np.load(SHARED / "data/gtsrb_train.npz") as npz:
        labels, tracks = npz["labels"][::every].astype(int), npz["tracks"][::every]
    if every == 60:  # so thin that a class may have one image
        kept = np.isin(labels, np.flatnonzero(np.bincount(labels) > 1))
        labels, tracks = labels[kept], tracks[kept]
    parts = splits.split(made_up(labels, tracks), "track", 0)
    check_split(parts)
    assert not set(tracks[parts.training]) & set(tracks[parts.validation])
    assert set(labels[parts.validation]) == set(labels)  # every class has more than one track
    assert len(parts.validation) == pytest.approx(len(labels) / 3, rel=0.05)


@pytest.mark.parametrize("dataset, how, said", [
    (made_up([0, 0, 1, 2, 2]), "random", "only one image of class 1; a class needs two"),
    (made_up([0, 0, 1, 2, 2], [0, 1, 2, 3, 4]), "track", "only one image of class 1; a class needs two"),
    (made_up(np.arange(9)), "random", "class 0, class 1, class 2, class 3, class 4 and 4 more"),
    (made_up([0, 0, 1, 1]), "track", "--split random"),
    (tracked(tracks_per_class=1, classes=2), "track", "--split random"),
    (tracked(tracks_per_class=1, classes=5), "track", "--split random"),
])  # fmt: skip
def test_what_cannot_be_split(dataset, how, said):
    assert said in in_one_line(splits.split, dataset, how, 0)


def test_fewer_images_of_each_class():
    whole = splits.split(tracked(), "track", 0)
    parts = splits.fewer(whole, 5, 3, seed=0)
    assert np.bincount(parts.dataset.labels[parts.training]).tolist() == [5] * 4
    assert np.bincount(parts.dataset.labels[parts.validation]).tolist() == [3] * 4
    assert len(parts.dataset.images) == len(parts.dataset.tracks) == 32
    for kept, all_rows in (parts.training, whole.training), (parts.validation, whole.validation):
        originals = rows_of(parts.dataset.images[kept])
        assert set(originals) <= set(all_rows) and len(set(originals)) == len(kept)
        np.testing.assert_array_equal(whole.dataset.tracks[originals], parts.dataset.tracks[kept])


def test_fewer_of_images_of_which_some_are_copies_trains_on_no_hidden_one():
    """Whichever of the copies stay in training, the one that validates counts as seen."""
    hidden = shared = 0
    for seed in range(100):
        whole = made_up(np.repeat([0, 1], 30))
        whole.images[[3, 7, 11]] = whole.images[3]  # three of the first class
        parts = splits.fewer(splits.with_copies_shared(splits.split(whole, "random", seed)), 5, 0, seed)
        contents = [image.tobytes() for image in parts.dataset.images]
        trained = {contents[row] for row in parts.training}
        seen = np.isin(parts.validation, parts.training)
        shared += seen.sum()
        hidden += sum(contents[row] in trained for row in parts.validation[~seen])
    assert shared and not hidden


@pytest.mark.parametrize("per_class, validation_per_class", [(0, 0), (7, 0), (0, 7), (1000, 1000), (1, 1)])
def test_fewer_keeps_all_where_nothing_is_asked_and_every_class_anyway(per_class, validation_per_class):
    whole = splits.split(made_up(np.repeat([0, 2], [2, 40]), names=list("abc")), "random", 0)
    parts = splits.fewer(whole, per_class, validation_per_class, 0)
    counts = [np.bincount(parts.dataset.labels[rows], minlength=3).tolist() for rows in parts[1:]]
    expected = [[1, 0, min(per_class or 99, 27)], [1, 0, min(validation_per_class or 99, 13)]]
    assert counts == expected


def test_fewer_of_images_none_of_which_validate():
    whole = Split(made_up(np.repeat([0, 1], 9)), np.arange(18), np.arange(0))
    parts = splits.fewer(whole, 5, 0, 0)
    assert len(parts.training) == 10 and not len(parts.validation)


def test_fewer_of_an_undivided_set_are_still_trained_on_and_validate():
    whole = splits.split(tracked(), "none", 0)
    parts = splits.fewer(whole, 25, 20, seed=0)
    assert np.bincount(parts.dataset.labels[parts.validation]).tolist() == [20] * 4
    chosen = splits.few(whole.validation, whole.dataset.labels, 20, seed=0)
    assert rows_of(parts.dataset.images[parts.validation]).tolist() == chosen.tolist()
    both = set(rows_of(parts.dataset.images[parts.training])) & set(chosen)
    assert set(rows_of(parts.dataset.images[np.intersect1d(parts.training, parts.validation)])) == both
    assert splits.share_seen(parts._replace(dataset=parts.dataset._replace(tracks=None))) == len(both) / 80 > 0


def test_joined_data_sets():
    first, second = made_up([0, 1, 1], [5, 5, 9]), made_up([1, 0], [9, 5])
    both, training, validation = splits.joined(first, second)
    assert both.labels[training].tolist() == [0, 1, 1] and both.labels[validation].tolist() == [1, 0]
    assert both.name == first.name and rows_of(both.images).tolist() == [0, 1, 2, 0, 1]
    assert both.tracks.tolist() == [0, 0, 1, 3, 2]
    assert splits.joined(first, second._replace(tracks=None)).dataset.tracks is None


def test_validation_images_that_are_training_images_are_the_same_rows():
    """A valid.p whose first sign is in train.p; and the same where tracks are unknown."""
    training, others = (
        made_up(np.arange(60) // 20, np.arange(60) // 5),
        made_up(np.arange(60) // 20, np.arange(60) // 6),
    )
    others = others._replace(images=255 - others.images)
    validation = others._replace(images=np.concatenate([training.images[:2], others.images[2:]]))
    untouched = splits.joined(training, others)
    np.testing.assert_equal(splits.with_copies_shared(untouched), untouched)
    for tracks, seen in (validation.tracks, 6 / 60), (None, 2 / 60):
        parts = splits.with_copies_shared(splits.joined(training, validation._replace(tracks=tracks)))
        assert parts.validation.tolist() == [0, 1, *range(62, 120)] and parts.training.tolist() == [*range(60)]
        assert splits.share_seen(parts) == pytest.approx(seen)
        assert any("2 of 60 validation images are training images, too" in note for note in splits.notes(parts))
    renamed = splits.joined(training, validation._replace(labels=(validation.labels + 1) % 3))
    assert splits.share_seen(splits.with_copies_shared(renamed)) == 0  # other signs that look alike
    assert splits.count_in(validation, training) == 2 and splits.count_in(others, training) == 0


def test_tracks_may_be_numbered_in_any_way():
    """Whoever writes a train.p may take dates, or -1."""
    dataset = made_up([0] * 6, [-1, 7, 10**15, 10**15 + 1, 10**15 + 1, -5])
    dataset.images[3] = dataset.images[0]
    shared = splits.with_copies_shared(splits.Split(dataset, np.arange(3), np.arange(3, 6)))
    assert shared.validation.tolist() == [0, 4, 5]
    tracks = shared.dataset.tracks
    assert tracks[0] == tracks[3] == tracks[4] and len(np.unique(tracks)) == 4


def test_a_track_that_is_trained_on_stays_so_where_copies_are_shared():
    """Track 1 has a copy of an image of track 0, and track 0, in validation, one of an image of track 2."""
    dataset = made_up([0] * 6, [0, 2, 1, 0, 1, 3])
    dataset.images[2], dataset.images[3] = dataset.images[0], dataset.images[1]
    shared = splits.with_copies_shared(splits.Split(dataset, np.arange(2), np.arange(2, 6)))
    assert splits.share_seen(shared) == 3 / 4


def test_a_valid_p_that_was_taken_from_train_p_is_noticed(tmp_path):
    arrays = signs()
    held = np.arange(172) % 4 == 3
    for name, chosen in ("all", held | ~held), ("train", ~held), ("valid", held):
        part = {key: array[chosen] for key, array in arrays.items()}
        (tmp_path / f"{name}.p").write_bytes(pickle.dumps(part))
    for name, seen in ("all", 1), ("train", 0):
        files = tmp_path / f"{name}.p", tmp_path / "valid.p"
        assert splits.share_seen(train_feature_extraction.load_signs(*files, "track", seed=0, demo=False)) == seen


def test_images_of_two_sizes_are_not_joined():
    first = made_up([0, 1])
    second = first._replace(images=np.zeros((2, 48, 32, 3), np.uint8), name="other")
    assert "other: images of 32x48 pixels; expected 2x1" in in_one_line(splits.joined, first, second)


def test_a_test_set_is_judged_as_a_whole():
    parts = splits.for_test(made_up([0, 1, 1]))
    assert parts.training.tolist() == [] and parts.validation.tolist() == [0, 1, 2]
    assert splits.share_seen(splits.for_test(made_up([0, 1, 1]), seen=2)) == 2 / 3


def test_notes():
    labels = np.repeat(np.arange(5), [20, 20, 3, 20, 0 + 2])
    dataset = made_up(labels, names=["a", "b", "c", "d", "e", "f"])
    rows = np.arange(65)
    training = rows[~np.isin(labels, [3]) & (rows % 2 == 0)]
    validation = rows[np.isin(labels, [0, 2, 3]) & (rows % 2 == 1)]
    assert splits.notes(Split(dataset, training, validation)) == [
        "No training images, so never predicted: d, f.",
        "No validation images, so it is unknown how well they are recognised: b, e.",
        "Fewer than 10 training images: e (1), c (2).",
    ]


def test_notes_of_a_good_split_and_of_one_that_flatters():
    assert splits.notes(splits.split(tracked(), "track", 0)) == []
    (told,) = splits.notes(splits.split(tracked(), "random", 0))
    assert "Most validation images show an object that training images show" in told
    unknown = tracked()._replace(tracks=None, images_per_track=30)
    assert splits.notes(splits.split(unknown, "random", 0)) == [told]
    (told,) = splits.notes(splits.joined(unknown, unknown))
    assert "Each object is in 30 images, and it is unknown in which" in told
    assert splits.notes(splits.for_test(unknown))[1:] == []  # but that nothing was trained


def test_a_seed_chooses_which_images_are_few():
    """At random, not the first ones: neighbours in a file are alike."""
    labels, rows = np.repeat([0, 1], 100), np.arange(200)
    first, again, other = (splits.few(rows, labels, 10, seed) for seed in (0, 0, 1))
    assert sorted(first) == sorted(again) != sorted(other) and np.bincount(labels[first]).tolist() == [10, 10]
    assert max(first[labels[first] == 0]) > 30  # of 0 to 99
    first, again, other = (splits.some(rows, 20, seed) for seed in (0, 0, 1))
    assert sorted(first) == sorted(again) != sorted(other) and len(set(first)) == 20 and max(first) > 60


def test_a_seed_chooses_the_tracks():
    first, again, other = (splits.split(tracked(), "track", seed).validation.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_of_a_class_without_validation_images_the_smallest_track_is_held_out():
    tracks = np.repeat([0, 1, 2], [30, 2, 8])
    held = np.zeros(40, bool)
    splits._hold_one_track(held, np.zeros(40, int), tracks, np.ones(40, bool))
    assert np.unique(tracks[held]).tolist() == [1]


def test_the_fingerprint_of_a_split_is_of_all_that_decides_it():
    parts = splits.split(tracked(), "track", 0)
    dataset, training, validation = parts
    names = [*dataset.class_names[:-1], "another"]
    labels = np.roll(dataset.labels, 30)
    others = [
        parts._replace(validation=validation[1:]), parts._replace(training=training[1:]),
        parts._replace(dataset=dataset._replace(class_names=names)), Split(dataset._replace(labels=labels), *parts[1:]),
    ]  # fmt: skip
    assert len({splits.fingerprint(each) for each in [parts, *others]}) == 5
    assert splits.fingerprint(parts) == splits.fingerprint(parts._replace(training=training.astype(np.int32)))


@pytest.mark.parametrize("seen, flatters", [(4, False), (6, True)])
def test_more_than_half_seen_flatters(seen, flatters):
    """Of ten validation images, each of a track of its own, so many tracks are in training as well."""
    tracks = np.concatenate([np.arange(20), np.arange(seen), 100 + np.arange(10 - seen)])
    labels = np.zeros(30, int)
    parts = Split(made_up(labels, tracks, ["one"]), np.arange(20), np.arange(20, 30))
    assert any("Most validation images show an object" in note for note in splits.notes(parts)) == flatters
