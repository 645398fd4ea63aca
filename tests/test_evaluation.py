"""The figures of an evaluation against hand-computed cases, scikit-learn asked in another way, published intervals."""

import csv
import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from common.errors import BadInput
from data.datasets import Dataset
from data.splits import Split
from transfer import evaluation, plots

ROOT = pathlib.Path(__file__).resolve().parents[1]
LABELS = np.array([0, 0, 0, 1, 1, 3])  # class 2 does not occur
ANSWERS = np.array([0, 1, 1, 1, 0, 2])
SURE = np.array([0.9, 0.6, 0.8, 0.7, 0.8, 0.95])
NAMES = ["left", "right", "ahead", "停"]


def probabilities_of(answers, sure, count):
    """(N, count): `sure` for the answer, the rest shared by the others."""
    others = np.repeat((1 - np.asarray(sure))[:, None] / (count - 1), count, axis=1)
    others[np.arange(len(answers)), answers] = sure
    return others


@pytest.fixture
def small():
    return evaluation.evaluate(LABELS, probabilities_of(ANSWERS, SURE, 4), NAMES)


def large(classes=43, count=2000, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.standard_normal((count, classes))
    logits[np.arange(count), labels] += 1.5
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def printed(capsys, judged, *arguments, independent=0, **settings):
    evaluation.print_report(judged, *arguments, independent or judged.support.sum(), **settings)
    return capsys.readouterr().out


def parts_of(labels, tracks=None, training=0, images_per_track=1, names=("a", "b"), images=None):
    """A split whose first `training` images are trained on."""
    rows = np.arange(len(labels))
    images = np.zeros((len(labels), 2, 2, 3), np.uint8) if images is None else images
    dataset = Dataset(images, np.asarray(labels), list(names), tracks, "Signs", images_per_track)
    return Split(dataset, rows[:training], rows[training:])


def reported(capsys, parts, predicted, folder, sure=0.8, **settings):
    count = len(parts.dataset.class_names)
    probabilities = probabilities_of(predicted, np.full(len(parts.validation), sure), count)
    evaluation.report(parts, probabilities, folder, **settings)
    return capsys.readouterr().out


def test_a_small_case_by_hand(small):
    assert small.accuracy == pytest.approx(2 / 6)
    assert small.top5 == 1
    assert small.support.tolist() == [3, 2, 0, 1]
    np.testing.assert_allclose(small.precision, [1 / 2, 1 / 3, 0, 0])
    np.testing.assert_allclose(small.recall, [1 / 3, 1 / 2, 0, 0])
    assert small.confusion.tolist() == [[1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert small.confusion.dtype.kind == "i"
    assert small.mistakes.tolist() == [5, 2, 4, 1]  # 0.95, twice 0.8 in their order, 0.6


def test_43_classes_as_scikit_learn_sees_them():
    labels, probabilities = large()
    report = evaluation.evaluate(labels, probabilities, [str(label) for label in range(43)])
    answers = probabilities.argmax(axis=1)
    assert report.accuracy == pytest.approx(metrics.accuracy_score(labels, answers))
    told = metrics.classification_report(labels, answers, output_dict=True)
    for label in range(43):
        assert report.precision[label] == pytest.approx(told[str(label)]["precision"])
        assert report.recall[label] == pytest.approx(told[str(label)]["recall"])
        assert report.support[label] == told[str(label)]["support"]
    rank = (probabilities > probabilities[np.arange(2000), labels][:, None]).sum(axis=1)
    assert report.top5 == pytest.approx(np.mean(rank < 5))
    assert report.confusion.sum() == 2000 and report.confusion[3, 7] == np.sum((labels == 3) & (answers == 7))


def test_classes_that_do_not_occur_are_counted_without_a_warning(recwarn):
    report = evaluation.evaluate([7, 7, 8], probabilities_of([7, 8, 8], np.full(3, 0.9), 10), list("abcdefghij"))
    assert all(np.isfinite(part).all() for part in report)
    assert report.support.tolist() == [0] * 7 + [2, 1, 0]
    assert not recwarn.list


@pytest.mark.parametrize(
    "labels, probabilities, names",
    [
        (LABELS, np.zeros((5, 4)), NAMES),
        (LABELS, np.zeros((6, 4)), NAMES[:3]),
        (LABELS[:, None], np.zeros((6, 4)), NAMES),
        (LABELS, np.zeros(6), NAMES),
        (LABELS + 1, np.zeros((6, 4)), NAMES),
        (LABELS - 1, np.zeros((6, 4)), NAMES),
        (LABELS, np.full((6, 4), np.nan), NAMES),
        ([], np.zeros((0, 4)), NAMES),
    ],
)
def test_what_does_not_belong_together_is_refused(labels, probabilities, names):
    with pytest.raises(ValueError):
        evaluation.evaluate(labels, probabilities, names)


@pytest.mark.parametrize(
    "right, count, low, high",  # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_as_published(right, count, low, high):
    assert evaluation.wilson(right / count, count) == pytest.approx((low, high), abs=6e-5)
    scipys = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert evaluation.wilson(right / count, count) == pytest.approx(tuple(scipys), abs=1e-5)


def test_a_track_whose_images_are_twins_counts_once():
    one_a_track = np.random.default_rng(0).random(200) < 0.7
    twins, tracks = np.repeat(one_a_track, 30), np.repeat(np.arange(200) * 7, 30)
    assert evaluation.effective_count(twins, tracks) == pytest.approx(199)  # G - 1: the accuracy is estimated too
    assert evaluation.effective_count(np.ones(6000), tracks) == 200
    assert evaluation.effective_count(twins, np.zeros(6000)) == 1


def test_tracks_that_are_all_alike_take_nothing_away():
    assert evaluation.effective_count(np.tile([0, 1], 60), np.repeat(np.arange(4), 30)) == 120


def test_independent_images_count_about_once_each():
    right = np.random.default_rng(1).random(60000) < 0.7
    assert evaluation.effective_count(right, np.repeat(np.arange(2000), 30)) == pytest.approx(60000, rel=0.1)


def test_the_interval_over_tracks_agrees_with_a_bootstrap():
    rng = np.random.default_rng(2)
    sizes = rng.integers(5, 40, 300)  # not all tracks have 30 images
    tracks = np.repeat(np.arange(300), sizes)
    right = rng.random(len(tracks)) < np.repeat(rng.beta(2, 1, 300), sizes)
    low, high = evaluation.wilson(right.mean(), evaluation.effective_count(right, tracks))
    sums = np.bincount(tracks, right)
    drawn = rng.integers(0, 300, (4000, 300))
    shares = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    assert (low, high) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])), abs=0.006)


def test_few_classes_are_all_printed(small, capsys):
    told = printed(capsys, small, NAMES, "Arrows")
    assert "Arrows: 6 images" in told and "Accuracy: 0.333 (95% confidence interval 0.097 to 0.700)" in told
    assert "Top-5" not in told  # of four classes, it is always 1
    lines = [line.split() for line in told.splitlines()]
    assert ["3", "0.500", "0.333", "left"] in lines
    assert ["0", "0.000", "-", "ahead"] in lines  # never there, but answered
    assert ["1", "-", "0.000", "停"] in lines  # never answered
    assert told.index("2 x left predicted as right") < told.index("1 x right predicted as left")


def test_names_from_elsewhere_do_not_reach_the_terminal_raw(capsys):
    judged = evaluation.evaluate([0, 1, 1], np.eye(2)[[0, 0, 1]], ["a", "b"])
    told = printed(capsys, judged, ["a", "b\x1b[2J\nAccuracy: 1.000"], "made up")
    assert "\x1b" not in told and told.count("\nAccuracy: ") == 1 and "b" in told


def test_images_are_counted_in_whole_numbers_though_no_answer_is_right(capsys):
    judged = evaluation.evaluate([0, 0, 0], np.eye(2)[[1, 1, 1]], ["a", "b"])
    assert judged.support.tolist() == [3, 0] and judged.support.dtype.kind == "i"
    lines = [line.split() for line in printed(capsys, judged, ["a", "b"], "made up").splitlines()]
    assert ["3", "-", "0.000", "a"] in lines and ["0", "0.000", "-", "b"] in lines


def test_of_many_classes_the_worst_are_printed(capsys):
    labels, probabilities = large()
    names = [f"sign {label}" for label in range(44)]  # the last one has no images
    report = evaluation.evaluate(labels, np.pad(probabilities, ((0, 0), (0, 1))), names)
    told = printed(capsys, report, names, "Signs", worst=3)
    assert "The 3 of 44 classes with the lowest recall:" in told
    table = told.split("class\n")[1].split("\n\n")[0].splitlines()
    recalls = np.sort(report.recall[:43])[:3]
    assert [float(line.split()[2]) for line in table] == pytest.approx(recalls, abs=5e-4)
    assert f"Top-5 accuracy: {report.top5:.3f}" in told


TRACKS = np.arange(600) // 30
TWO = np.repeat([0, 1], 300)
FOURTH_WRONG = np.where(TRACKS % 4 == 0, 1 - TWO, TWO)  # each fourth track is wrong throughout


@pytest.mark.parametrize("parts, count, said", [
    (parts_of(TWO), 600, ""),
    (parts_of(TWO, tracks=TRACKS), 19, "; the 600 images show 20 objects"),
    (parts_of(TWO, images_per_track=30), 20, "; 30 images show each object, so these count as 20 independent ones"),
    (parts_of(TWO, tracks=TRACKS, images_per_track=30), 19, "; the 600 images show 20 objects"),
])  # fmt: skip
def test_the_interval_counts_objects_not_images(parts, count, said, capsys, tmp_path):
    low, high = evaluation.wilson(0.75, count)
    told = reported(capsys, parts, FOURTH_WRONG, tmp_path)
    assert f"Accuracy: 0.750 (95% confidence interval {low:.3f} to {high:.3f}{said})" in told


def test_objects_that_were_trained_on_leave_no_interval(capsys, tmp_path):
    parts = parts_of(np.tile(TWO, 2), tracks=np.tile(TRACKS, 2), training=600)
    told = reported(capsys, parts, FOURTH_WRONG, tmp_path)
    assert "Accuracy: 0.750 (no confidence interval: training shows the same objects" in told


def test_even_a_tenth_of_them_leaves_none(capsys, tmp_path):
    """As a random split of few signs per class does."""
    tracks = np.r_[TRACKS, TRACKS + 100]
    tracks[600:660] = TRACKS[:60]
    parts = parts_of(np.tile(TWO, 2), tracks=tracks, training=600)
    assert "no confidence interval" in reported(capsys, parts, FOURTH_WRONG, tmp_path)


@pytest.mark.parametrize("seen, told", [(24, "95% confidence interval"), (36, "no confidence interval")])
def test_more_than_a_twentieth_of_them_leaves_none(seen, told, capsys, tmp_path):
    tracks = np.arange(1200)  # of 600 training images, then of 600 that validate
    tracks[600 : 600 + seen] = np.arange(seen)
    parts = parts_of(np.tile(TWO, 2), tracks=tracks, training=600)
    assert told in reported(capsys, parts, FOURTH_WRONG, tmp_path)


def test_the_official_test_set_counts_as_421_signs():
    judged = evaluation.evaluate(np.zeros(12_630, int), np.eye(2)[np.arange(12_630) % 50 // 49], ["a", "b"])
    count, _ = evaluation.independent_images(judged, parts_of(np.zeros(12_630, int), images_per_track=30))
    assert count == 421


def test_nothing_wrong_prints_no_confusions(capsys):
    report = evaluation.evaluate([0, 1], np.eye(2), ["a", "b"])
    assert "confusions" not in printed(capsys, report, ["a", "b"], "Signs")


def test_tables_are_read_back(small, tmp_path):
    names = ["left, then right", 'a "quoted" one', "two\nlines", "停"]
    evaluation.write_tables(small, names, tmp_path / "run", "test")
    per_class, confusion = (
        list(csv.reader(io.StringIO((tmp_path / "run" / f"test-{name}.csv").read_bytes().decode("utf-8"), newline="")))
        for name in ("per_class", "confusion")
    )
    assert per_class[0] == ["class", "images", "precision", "recall"]
    assert per_class[1:3] == [[names[0], "3", "0.5", "0.3333"], [names[1], "2", "0.3333", "0.5"]]
    assert confusion[0][1:] == names and [row[0] for row in confusion[1:]] == names
    assert [[int(cell) for cell in row[1:]] for row in confusion[1:]] == small.confusion.tolist()
    assert len(list((tmp_path / "run").iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_told(small, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(BadInput):
        evaluation.write_tables(small, NAMES, tmp_path / "run", "test")


class Watched(np.memmap):
    """A memory map that notes which rows are asked for."""

    asked = []

    def __getitem__(self, row):
        if np.ndim(self) == 4 and np.ndim(row) == 0:
            Watched.asked.append(int(row))
        return super().__getitem__(row)


@pytest.fixture
def sheet(monkeypatch):
    """What the contact sheet was given."""
    given = []
    monkeypatch.setattr(plots, "mistakes", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(plots, "confusion", lambda *arguments: None)
    return given


@pytest.mark.parametrize("settings, chosen", [
    ({}, [2, 3, 4, 5, 8, 9]),
    ({"tracks": np.array([9, 9, 5, 5, 5, 6, 6, 7, 7, 6])}, [2, 5, 8]),  # the first of tracks 5, 6 and 7
    ({"images_per_track": 30}, [2, 4, 8]),  # the first 0 predicted as 1, 1 as 0, 1 as 2
], ids=["independent images", "known tracks", "unknown tracks"])  # fmt: skip
def test_the_sheet_shows_each_object_once(settings, chosen, sheet, capsys, tmp_path):
    labels = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    parts = parts_of(labels, training=2, names=["a", "b", "c"], **settings)
    reported(capsys, parts, [1, 1, 0, 0, 1, 1, 2, 2], tmp_path, plot=True)
    ((images, shown_labels, probabilities, names, path, total),) = sheet
    assert total == 6 and names == ["a", "b", "c"] and path == tmp_path / "validation-mistakes.png"
    assert shown_labels.tolist() == [labels[row] for row in chosen] and len(images) == len(probabilities) == len(chosen)


def test_of_a_memory_map_only_the_shown_images_are_read(sheet, capsys, tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (90, 2, 2, 3), np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r").view(Watched)
    parts = parts_of(np.zeros(90, int), training=10, images=mapped)
    reported(capsys, parts, np.arange(80) % 2, tmp_path, plot=True)
    assert Watched.asked == list(range(11, 83, 2))  # the first 36 mistakes
    np.testing.assert_array_equal(sheet[0][0][1], np.asarray(mapped)[13])


def test_what_a_report_leaves_behind(capsys, tmp_path):
    told = reported(capsys, parts_of(TWO), FOURTH_WRONG, tmp_path / "run", plot=True, prefix="test")
    assert f"Tables and plots in {tmp_path / 'run'}: test-*" in told
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "test-confusion.csv", "test-confusion.png", "test-mistakes.png", "test-per_class.csv",
    ]  # fmt: skip
    reported(capsys, parts_of(TWO), TWO, tmp_path / "right", plot=True)  # no mistakes


def test_what_cannot_be_divided_is_an_empty_cell(tmp_path):
    """Not 0, which a mean over the column would take for a mistake."""
    judged = evaluation.evaluate(np.array([0, 0]), np.eye(3)[[0, 0]], ["a", "b", "c"])
    evaluation.write_tables(judged, ["a", "b", "c"], tmp_path, "test")
    assert (tmp_path / "test-per_class.csv").read_text().splitlines()[1:] == ["a,2,1.0,1.0", "b,0,,", "c,0,,"]


def test_no_tensorflow_and_no_matplotlib(tmp_path):
    code = f"""
import sys
import numpy as np
from data import datasets, splits
from transfer import evaluation, novelty
dataset = datasets.Dataset(np.zeros((2, 1, 1, 3), np.uint8), np.array([0, 1]), ["a", "b"], None, "two")
evaluation.report(splits.for_test(dataset), np.eye(2), {str(tmp_path)!r})
print({{"tensorflow", "matplotlib"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
