"""The plots: written whole, of a sane size, the same each time, and with the right pixels in them."""

import json
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from transfer import plots

ROOT = pathlib.Path(__file__).resolve().parents[1]
HISTORY = [
    {"epoch": 1, "seconds": 2.0, "learning_rate": 0.1, "loss": 2.0, "accuracy": 0.4, "validation_loss": 1.9,
     "validation_accuracy": 0.5},
    {"epoch": 2, "seconds": 2.0, "learning_rate": 0.1, "loss": 1.0, "accuracy": 0.7, "validation_loss": 1.2,
     "validation_accuracy": 0.6},
    {"epoch": 3, "seconds": 2.0, "learning_rate": 0.1, "loss": 0.5, "accuracy": 0.9, "validation_loss": 1.4,
     "validation_accuracy": 0.6},
]  # fmt: skip
STRANGE = [r"$\frac$ and $x_$", "日本語の名前", "ممنوع", "two\nlines", "end_of_everything_" * 20, "$ 5", ""]


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def share_of(image, colour, tolerance=6):
    return (np.abs(image.astype(int) - colour).max(axis=-1) <= tolerance).mean()


def one_hot(answers, count):
    return 0.1 / count + 0.9 * np.eye(count)[answers]


def signs(count=12, side=32):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


WRITERS = {
    "curves": lambda path: plots.curves(HISTORY, path, 2),
    "confusion": lambda path: plots.confusion(np.eye(7) * 9 + 1, STRANGE, path),
    "mistakes": lambda path: plots.mistakes(signs(7), np.arange(7), one_hot(np.arange(7) - 1, 7), STRANGE, path, 99),
    "filters": lambda path: plots.filters(np.random.default_rng(0).normal(size=(11, 11, 3, 96)), path),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_written_whole_silently_and_the_same_twice(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WRITERS[name](tmp_path / "new" / "first.png")
        WRITERS[name](tmp_path / "new" / "second.png")
    assert (tmp_path / "new" / "first.png").read_bytes() == (tmp_path / "new" / "second.png").read_bytes()
    assert len(list((tmp_path / "new").iterdir())) == 2
    high, wide, _ = pixels(tmp_path / "new" / "first.png").shape
    assert 100 < high < 1500 and 100 < wide < 1500


@pytest.mark.parametrize("name", WRITERS)
def test_a_place_that_cannot_be_written_is_told(name, tmp_path):
    with pytest.raises(BadInput):
        WRITERS[name](tmp_path)


def test_no_pyplot_no_display_no_tensorflow(tmp_path):
    code = f"""
import sys
from transfer import plots
plots.curves({json.loads(json.dumps(HISTORY))}, {str(tmp_path / "curves.png")!r}, 2)
print({{"matplotlib.pyplot", "tensorflow"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def legends(monkeypatch, history, kept):
    """The words in the legends of both panels."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.curves(history, None, kept)
    return [[text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []
            for axes in figures[0].axes]  # fmt: skip


def test_the_legends_name_both_curves_and_the_kept_epoch(monkeypatch):
    assert legends(monkeypatch, HISTORY, 2) == [
        ["training", "validation", "kept: 1.200, epoch 2"],
        ["training", "validation", "kept: 0.600, epoch 2"],
    ]


def test_curves_without_a_kept_epoch_or_any(monkeypatch):
    assert legends(monkeypatch, HISTORY, 0) == [["training", "validation"]] * 2  # the head alone was kept
    assert legends(monkeypatch, [], 0) == [[], []]


PHASES = [{**HISTORY[0], "epoch": number, "phase": "head"} for number in (1, 2, 3)]
PHASES += [{**each, "phase": "layers"} for each in HISTORY]


@pytest.mark.parametrize("history, kept, said", [
    (HISTORY, 1, ["kept: 1.900, epoch 1", "kept: 0.500, epoch 1"]),
    (HISTORY, 3, ["kept: 1.400, epoch 3", "kept: 0.600, epoch 3"]),
    (PHASES, 3, ["kept: 1.400, epoch 3", "kept: 0.600, epoch 3"]),
    (PHASES, 0, ["kept: 1.900, epoch 3 of the head", "kept: 0.500, epoch 3 of the head"]),
    (PHASES[:3], 2, ["kept: 1.900, epoch 2", "kept: 0.500, epoch 2"]),
])  # fmt: skip
def test_the_kept_epoch_is_marked_in_both_panels(history, kept, said, monkeypatch):
    assert [words[-1] for words in legends(monkeypatch, history, kept)] == said


def test_epochs_of_the_head_come_first(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.curves(PHASES, None, kept=0)
    for axes in figures[0].axes:
        assert axes.lines[0].get_xdata().tolist() == [-2, -1, 0, 1, 2, 3]
        named = [axes.xaxis.get_major_formatter()(x, None) for x in range(-2, 4)]
        assert named == ["1", "2", "3", "1", "2", "3"]


def test_the_legend_hides_no_curve(monkeypatch):
    history = [{"epoch": epoch, **{key: np.sin(epoch) ** 2 for key in list(HISTORY[0])[3:]}} for epoch in range(1, 99)]
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.curves(history, None, kept=50)
    figures[0].canvas.draw()
    for axes in figures[0].axes:
        assert not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent())


def test_the_kept_epoch_is_seen(tmp_path):
    plots.curves(HISTORY, tmp_path / "curves.png", 2)
    assert share_of(pixels(tmp_path / "curves.png"), (178, 34, 34)) > 0  # firebrick


@pytest.mark.parametrize("count", [2, 10, 43, 101])
def test_the_confusion_matrix_of_a_perfect_classifier_is_a_diagonal(count, tmp_path):
    plots.confusion(7 * np.eye(count, dtype=int), [f"Speed limit ({label}km/h)" for label in range(count)],
                    tmp_path / "confusion.png")  # fmt: skip
    image = pixels(tmp_path / "confusion.png")
    assert max(image.shape) < 2500
    dark, light = share_of(image, (8, 48, 107)), share_of(image, (247, 251, 255))  # Blues at 1 and at 0
    assert light / dark == pytest.approx(count - 1, rel=0.35)  # numbers, lines and the colour bar take some


def test_rows_are_shares_and_a_class_without_images_is_grey(tmp_path):
    names = ["a", "b", "c"]
    plots.confusion([[5, 5, 0], [1000, 1000, 0], [0, 0, 0]], names, tmp_path / "confusion.png")
    image = pixels(tmp_path / "confusion.png")
    half, grey, none = (share_of(image, colour) for colour in ((46, 126, 188), (211, 211, 211), (247, 251, 255)))
    assert half / none == pytest.approx(2, rel=0.2)  # four cells, two cells
    assert grey / none == pytest.approx(1.5, rel=0.2)


def test_truth_is_the_row(tmp_path):
    plots.confusion([[0, 9], [0, 0]], ["a", "b"], tmp_path / "confusion.png")
    image = pixels(tmp_path / "confusion.png").astype(int)
    dark = np.argwhere(np.abs(image - (8, 48, 107)).max(axis=2) < 6)  # the right upper cell
    grey = np.argwhere(np.abs(image - (211, 211, 211)).max(axis=2) < 6)  # both lower cells
    assert np.median(dark[:, 0]) < np.median(grey[:, 0]) and dark[:, 1].min() > grey[:, 1].min()


def test_a_mistake_is_shown_pixel_by_pixel(tmp_path):
    images = signs()
    images = images[[5, 9]]
    plots.mistakes(images, [0, 0], one_hot([1, 1], 2), ["a", "b"], tmp_path / "sheet.png", 12)
    sheet = pixels(tmp_path / "sheet.png")
    left = (sheet.shape[1] // plots.COLUMNS - 128) // 2
    first = sheet[40:168, left : left + 128]
    np.testing.assert_array_equal(first, images[0].repeat(4, axis=0).repeat(4, axis=1))
    second = sheet[40:168, left + sheet.shape[1] // plots.COLUMNS :][:, :128]
    np.testing.assert_array_equal(second[::4, ::4], images[1])
    assert (sheet[:, 3 * sheet.shape[1] // 6 :] == 255).all(axis=2).mean() > 0.95  # nothing behind the second


@pytest.mark.parametrize("shape", [(1, 1), (100, 100), (150, 224), (1000, 20)])
def test_images_of_any_size_fit(shape, tmp_path):
    images = np.full((2, *shape, 3), (200, 30, 90), np.uint8)
    plots.mistakes(images, [0, 0], one_hot([1, 1], 2), ["a", "b"], tmp_path / "sheet.png", 2)
    image = pixels(tmp_path / "sheet.png")
    longest = max(shape)
    scale = 128 // longest if longest <= 128 else 128 / longest
    expected = 2 * np.prod([max(1, round(side * scale)) for side in shape])
    assert share_of(image, (200, 30, 90)) * image[..., 0].size == pytest.approx(expected, rel=0.02)


def test_dark_images_are_brightened_and_others_left_alone(tmp_path):
    dark = np.full((32, 32, 3), 20, np.uint8)
    dark[:, :4] = 250  # a bright border makes the sign no easier to see
    dark[12:20, 12:20] = 40
    bright = np.where(dark == 40, 90, dark).astype(np.uint8)
    plots.mistakes(np.stack([dark, bright]), [0, 0], one_hot([1, 1], 2), ["a", "b"], tmp_path / "sheet.png", 2)
    left, right = np.split(pixels(tmp_path / "sheet.png")[40:168, : 2 * (128 + 72)], 2, axis=1)
    np.testing.assert_array_equal(right[:, 36:164], bright.repeat(4, axis=0).repeat(4, axis=1))
    shown = left[:, 36:164][::4, ::4]
    assert (shown[12:20, 12:20] == 200).all() and (shown[20:, 4:] == 100).all() and (shown[:, :4] == 255).all()
    plots.mistakes(np.zeros((1, 32, 32, 3), np.uint8), [0], one_hot([1], 2), ["a", "b"], tmp_path / "black.png", 1)


def test_without_mistakes_the_sheet_says_so(tmp_path):
    plots.mistakes(signs(0), [], np.zeros((0, 2)), ["a", "b"], tmp_path / "sheet.png", 0)
    image = pixels(tmp_path / "sheet.png")
    assert image.shape[0] < 60 and 0 < (image < 128).mean() < 0.05  # a line of text


@pytest.mark.parametrize("channel, colour", [(0, (0, 0, 255)), (1, (0, 255, 0)), (2, (255, 0, 0))])
def test_a_filter_for_one_colour_comes_out_in_it(channel, colour, tmp_path):
    kernel = np.full((11, 11, 3, 1), -0.02)
    kernel[:, :, channel] = 0.3  # blue, green, red
    plots.filters(kernel, tmp_path / "filters.png")
    assert share_of(pixels(tmp_path / "filters.png")[:55, :55], colour) == 1


def test_each_filter_is_stretched_to_its_own_range(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 4)) * [1e-3, 1, 30, 1] + [0, 5, 0, -5]
    plots.filters(kernel, tmp_path / "filters.png")
    sheet = pixels(tmp_path / "filters.png")
    for top, left in (0, 0), (0, 67), (67, 0), (67, 67):
        tile = sheet[top : top + 63, left : left + 63]
        assert tile.min() == 0 and tile.max() == 255


def test_a_filter_lies_as_the_network_sees_it_in_its_place(tmp_path):
    kernel = np.zeros((7, 7, 3, 64), np.float32)
    kernel[0, 6, :, 9] = 1e-4  # its upper right corner; small, but its own largest
    plots.filters(kernel, tmp_path / "filters.png")
    sheet = pixels(tmp_path / "filters.png")
    tile = sheet.shape[0] // 8
    assert sheet.shape[:2] == (8 * tile, 8 * tile)
    tenth = sheet[tile : tile + 63, tile : tile + 63]  # second line, second column
    assert (tenth[:9, 54:] == 255).all() and tenth.sum() == 9 * 9 * 3 * 255


@pytest.mark.parametrize("count, grid", [(96, (8, 12)), (64, (8, 8)), (1, (1, 1)), (6, (2, 3)), (7, (1, 7))])
def test_the_grid_of_filters(count, grid, tmp_path):
    plots.filters(np.zeros((11, 11, 3, count)), tmp_path / "filters.png")
    assert pixels(tmp_path / "filters.png").shape == (59 * grid[0], 59 * grid[1], 3)


def test_a_kernel_of_another_layer_is_refused(tmp_path):
    with pytest.raises(ValueError):
        plots.filters(np.zeros((5, 5, 48, 256)), tmp_path / "filters.png")
