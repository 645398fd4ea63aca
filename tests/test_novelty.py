"""transfer/novelty.py: against plain NumPy, on features with a known answer, and on real signs against photos."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SHARED
from PIL import Image
from sklearn import metrics

from common.files import file_hash
from data import splits
from data.datasets import Dataset
from transfer import cases, novelty, results

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(0, 3, (5, 40))


def near(count, seed):
    """Features of `count` images of five classes, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, count)
    return (CENTRES[labels] + rng.normal(0, 1, (count, 40))).astype(np.float32), labels


def strange(count):
    return RNG.normal(0, 3, (count, 40)).astype(np.float32)


def unlike(known, features):
    return np.array([novelty.is_unlike(each) for each in novelty.percentiles(known, features)])


@pytest.fixture(scope="module")
def known():
    features, labels = near(1500, seed=1)
    return novelty.fit(features, labels, np.arange(0, 1000), np.arange(1000, 1500))


def test_distances_as_plain_numpy_has_them():
    features, labels = near(300, seed=2)
    rows = RNG.permutation(300)[:200]
    known = novelty.fit(features, labels, rows, np.setdiff1d(np.arange(300), rows))
    trained = features[rows].astype(float)
    mean, spread = trained.mean(axis=0), trained.std(axis=0)
    standard = (features - mean) / spread
    expected = []
    for row in standard:
        cosines = []
        for label in range(5):
            direction = ((trained - mean) / spread)[labels[rows] == label].mean(axis=0)
            cosines.append(row @ direction / np.linalg.norm(row) / np.linalg.norm(direction))
        expected.append(1 - max(cosines))
    np.testing.assert_allclose(novelty.distances(known, features), expected, atol=2e-3)


def test_images_that_were_trained_on_make_no_scale(monkeypatch, tmp_path):
    """A run that has held out none: each image is compared with the mean of the others."""
    features, labels = near(1500, seed=1)
    images = np.zeros((1500, 1, 1, 3), np.uint8)
    split = splits.split(Dataset(images, labels, list("abcde"), None, "made up"), "none", seed=0)
    monkeypatch.setattr(novelty, "save", lambda known, _: found.append(known))
    found = []
    outcome = cases.Outcome(SimpleNamespace(network=None), features, [], 1)
    results.keep_known(SimpleNamespace(folder=tmp_path), outcome, split)
    expected = novelty.fit(features, labels, np.arange(1500), np.arange(0))
    np.testing.assert_array_equal(found[0].quantiles, expected.quantiles)


def test_images_of_every_class_are_known(monkeypatch, tmp_path):
    """Of 1,000 classes with 8 images each, 2,000 images at random would leave out a hundred."""
    labels = np.repeat(np.arange(1000), 10)
    features = RNG.normal(size=(1000, 40))[labels].astype(np.float32)
    numbers = np.arange(len(labels))
    names = [str(label) for label in range(1000)]
    dataset = Dataset(np.zeros((len(labels), 1, 1, 3), np.uint8), labels, names, None, "made up")
    split = splits.Split(dataset, numbers[numbers % 10 < 8], numbers[numbers % 10 >= 8])
    monkeypatch.setattr(novelty, "save", lambda known, _: found.append(known))
    monkeypatch.setattr(results, "head_inputs", lambda _, inputs, rows: asked.append(len(rows)) or inputs[rows])
    found, asked = [], []
    outcome = cases.Outcome(SimpleNamespace(network="there is one"), features, [], 1)
    results.keep_known(SimpleNamespace(folder=tmp_path), outcome, split)
    assert asked == [results.LEAST_KNOWN * 1000 + 2000] and len(found[0].directions) == 1000
    assert novelty.distances(found[0], features[split.validation]).max() < 0.01


def test_one_known_image_in_a_hundred_is_called_unlike(known):
    assert unlike(known, near(20_000, seed=3)[0]).mean() == pytest.approx(0.01, abs=0.006)
    assert unlike(known, strange(500)).mean() > 0.95


def test_percentiles(known):
    told = novelty.percentiles(known, near(20_000, seed=4)[0])
    assert told.min() >= 0 and told.max() <= 100 and np.median(told) == pytest.approx(50, abs=5)
    assert np.all(novelty.percentiles(known, CENTRES.astype(np.float32)) == 0)


def test_without_enough_held_out_images_the_training_images_make_the_scale():
    features, labels = near(200, seed=5)
    known = novelty.fit(features, labels, np.arange(200), np.arange(0))
    assert unlike(known, near(5000, seed=6)[0]).mean() < 0.05
    assert unlike(known, strange(500)).mean() > 0.9
    # Each is compared with the others of its class: against its own mean it would look too familiar.
    assert known.quantiles[50] > np.median(novelty.distances(known, features))


@pytest.mark.parametrize("features, labels", [
    (np.ones((6, 4)), [0, 0, 0, 1, 1, 1]),  # all alike
    (np.eye(6), [0, 0, 0, 7, 7, 9]),  # a class with one image, others with none
    (np.zeros((2, 3)), [1, 1]),
    (np.arange(12).reshape(6, 2), [0, 0, 0, 1, 1, 1]),  # integers
])  # fmt: skip
def test_odd_features_give_finite_distances(features, labels, recwarn):
    rows = np.arange(len(labels))
    known = novelty.fit(features, np.array(labels), rows, rows[:0])
    assert np.isfinite(novelty.distances(known, features)).all() and known.spread.min() > 0
    assert not recwarn.list


def test_features_in_a_file_are_read_in_pieces(tmp_path, known):
    features, labels = near(1500, seed=1)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")

    class Watched:
        """Counts the rows of each access."""

        shape, dtype, rows = mapped.shape, mapped.dtype, []

        def __len__(self):
            return len(mapped)

        def __getitem__(self, rows):
            self.rows.append(len(mapped[rows]))
            return mapped[rows]

    novelty.fit(Watched(), labels, np.arange(0, 1000), np.arange(1000, 1500))
    assert 0 < max(Watched.rows) <= novelty.BATCH
    for ours, theirs in zip(known, novelty.fit(mapped, labels, np.arange(0, 1000), np.arange(1000, 1500))):
        np.testing.assert_array_equal(ours, theirs)


def test_kept_with_a_head_and_read_back(tmp_path, known):
    head = tmp_path / "head.npz"
    np.savez(head, kernel=np.zeros((40, 5)))
    assert novelty.load(head, 40) is None
    novelty.save(known, head)
    for ours, theirs in zip(known, novelty.load(head, 40), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert novelty.load(head, 41) is None
    assert sum(array.nbytes for array in known) < 40 * 5 * 4 + 1000


@pytest.mark.parametrize("change", [
    {"mean": np.zeros(39, np.float32)}, {"spread": np.zeros(40, np.float32)}, {"mean": np.full(40, np.nan, np.float32)},
    {"directions": np.zeros((0, 40), np.float16)}, {"directions": np.float16(1)}, {"quantiles": np.arange(101)},
    {"quantiles": np.zeros(3, np.float32)}, {"mean": None},
])  # fmt: skip
def test_damaged_arrays_are_not_used(known, change, tmp_path):
    head = tmp_path / "head.npz"
    np.savez(head, kernel=np.zeros((40, 5)))
    for changed in {}, change:
        arrays = {f"known_{name}": array for name, array in (known._asdict() | changed).items() if array is not None}
        np.savez(tmp_path / novelty.FILE, head=file_hash(head, "sha256"), **arrays)
        assert (novelty.load(head, 40) is None) == bool(changed)


@pytest.mark.slow
@pytest.mark.parametrize("layer, least", [("pool5", 0.95), ("pool3", 0.98)])
def test_photos_are_unlike_signs(layer, least):
    """GoogLeNet at 64 pixels with its real weights: signs of other tracks against photos, all of 32 pixels."""
    weights, signs = SHARED / "weights/bvlc_googlenet.npz", SHARED / "data/gtsrb_train.npz"
    if not (weights.exists() and signs.exists() and (SHARED / "data/tinyimagenet_64px").exists()):
        pytest.skip("the real weights, signs and photos are not here")
    from googlenet import GoogLeNet
    from networks.network import pooled
    from weights import cards, reading

    with np.load(signs) as npz:
        names = [str(label) for label in range(43)]
        dataset = Dataset(npz["features"], npz["labels"].astype(int), names, npz["tracks"].astype(int), "signs")
    parts = splits.fewer(splits.split(dataset, "track", 0), 30, 10, 0)
    network = GoogLeNet(reading.load(cards.GOOGLENET, weights), image_size=64)

    def features_of(images):
        return np.concatenate([
            pooled(network.activations(images[first : first + 100], layer=layer)).numpy()
            for first in range(0, len(images), 100)
        ])  # fmt: skip

    features = features_of(parts.dataset.images)
    known = novelty.fit(features, parts.dataset.labels, parts.training, parts.validation)
    of_signs = novelty.distances(known, features[parts.validation])
    of_photos = novelty.distances(known, features_of(photos_of_tinyimagenet(300)))
    truth = np.repeat([0, 1], [len(of_signs), len(of_photos)])
    assert metrics.roc_auc_score(truth, np.concatenate([of_signs, of_photos])) > least


def photos_of_tinyimagenet(count):
    """uint8 (count, 32, 32, 3), each of another class or place."""
    sheets = sorted((SHARED / "data/tinyimagenet_64px").glob("*.jpg"))
    photos = []
    for number in range(count):
        with Image.open(sheets[number % len(sheets)]) as sheet:  # tiles of 64 pixels, 25 in a row
            left = 64 * (number // len(sheets) * 7)
            photos.append(np.asarray(sheet.convert("RGB").resize((32, 32), box=(left, 0, left + 64, 64))))
    return np.stack(photos)


def test_an_image_that_was_trained_on_is_like_them():
    """Of classes of copies, all distances are rounding; the largest of them is no sign of a stranger."""
    base = RNG.normal(size=(3, 50)).astype(np.float32)
    labels = np.repeat([0, 1, 2], 60)
    known = novelty.fit(base[labels], labels, np.arange(0, 180, 2), np.arange(1, 180, 2))
    assert not any(map(novelty.is_unlike, novelty.percentiles(known, base)))
    assert novelty.is_unlike(novelty.percentiles(known, RNG.normal(size=(1, 50)).astype(np.float32))[0])


def test_what_was_kept_with_another_head_is_not_used(tmp_path, known):
    """Trained further, a head in the same file sees other features."""
    head = tmp_path / "head.npz"
    np.savez(head, kernel=np.zeros((40, 5)))
    novelty.save(known, head)
    assert novelty.load(head, 40) is not None
    np.savez(head, kernel=np.ones((40, 5)))
    assert novelty.load(head, 40) is None


def test_a_feature_that_never_moved_in_training_does_not_outweigh_all_others():
    """By a thousandth of the others' spread it moves in a new image: that is no sign of a stranger."""
    features, labels = near(1000, seed=3)
    still = np.concatenate([features, np.ones((1000, 1), np.float32)], axis=1)
    known = novelty.fit(still, labels, np.arange(500), np.arange(500, 1000))
    moved = still.copy()
    moved[:, -1] += 0.001 * features.std()
    np.testing.assert_allclose(novelty.distances(known, moved), novelty.distances(known, still), atol=1e-2)


def test_percentiles_are_rounded_down():
    """An image at 98.9 % is not called 99 % and yet like the others."""
    assert novelty.sentence(98.9) == "Further from its nearest class than 98 % of known images"
    assert novelty.sentence(99.0).startswith("Unlike anything in training")
