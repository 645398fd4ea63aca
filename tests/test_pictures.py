"""The README's pictures: small files in which no text is cut off or lies on another; they show what the code does."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, in_one_line
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from data import drawn_signs
from data.traffic_signs import sign_names
from images import canvas, diagrams, how_much, measured, predictions
from images.__main__ import FILES, main
from weights.cards import ALEXNET

LARGEST = 60_000  # bytes
MADE_BY_HAND = {"browser_page.png"}
SHAPES = {
    "conv1": (55, 55, 96), "norm1": (55, 55, 96), "pool1": (27, 27, 96), "conv2": (27, 27, 256),
    "norm2": (27, 27, 256), "pool2": (13, 13, 256), "conv3": (13, 13, 384), "conv4": (13, 13, 384),
    "conv5": (13, 13, 256), "pool5": (6, 6, 256), "fc6": (4096,), "fc7": (4096,), "fc8": (1000,), "prob": (1000,),
}  # fmt: skip
LAYERS = list(SHAPES)[:-2]
RESULTS = [
    {"dataset": dataset, "network": "googlenet", "weights": "w.npz", "image_size": 64, "case": case, "per_class": count,
     "seed": seed, "accuracy": (0.4, 0.7, 0.71, 0.1)[case - 1] + 0.01 * seed + (0.1 if not count else 0)}
    for dataset, case, count in itertools.product(("signs", "cifar10"), (1, 2, 3, 4), (10, 100, 0))
    for seed in range(3 if count else 1)
]  # fmt: skip


class AlexNet:
    """What a drawing asks a network, without its 244 MB."""

    image_size, layer_names, weights = 227, list(SHAPES), dict.fromkeys(ALEXNET.shapes)

    def layer_of(self, name):
        return name

    def output_shape(self, name):
        return SHAPES[name]


def signs():
    images, labels = drawn_signs.draw(per_class=1)
    return images, labels, 0.9 * np.eye(43)[(labels + 1) % 43]


def mistakes():
    images, labels, probabilities = signs()
    longest = np.argsort([-len(name) for name in sign_names()])[:6]
    return predictions.mistakes(images[longest], labels[longest], probabilities[longest], sign_names())


def answers(count):
    return np.random.default_rng(0).dirichlet(np.full(1000, 0.01), count)


def long_names(letters="a name as long as ImageNet's longest are "):
    return [f"{number} {letters}, another" for number in range(1000)]


DRAWINGS = {
    "four_cases": lambda: diagrams.four_cases(ALEXNET, LAYERS),
    "layers": lambda: diagrams.layers(AlexNet()),
    "new_head": lambda: diagrams.new_head(ALEXNET, LAYERS, 43),
    "mistakes": mistakes,
    "photo": lambda: predictions.photo(np.zeros((427, 640, 3), np.uint8), answers(1)[0], long_names()),
    "stop_sign": lambda: predictions.stop_sign((32, 227), np.eye(1000)[:2], long_names()),
    "how_much": lambda: measured.how_much(RESULTS),
}


def texts(figure):
    """{text: its box in pixels} of all that is written."""
    FigureCanvasAgg(figure).draw()
    found = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in found]


@pytest.mark.parametrize("name", DRAWINGS)
def test_nothing_is_cut_off_or_lies_on_another(name):
    figure = DRAWINGS[name]()
    found = texts(figure)
    assert len(found) >= 6
    for text, box in found:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (one, first), (other, second) in itertools.combinations(found, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        down = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 0 or down <= 2, (one, other)  # 2: the room above letters without accents


@pytest.mark.parametrize("name", DRAWINGS)
def test_type_can_be_read_on_a_phone(name):
    figure = DRAWINGS[name]()
    scale = 350 / canvas.WIDTH  # a phone's pixels to a unit
    for text in figure.findobj(Text):
        assert not text.get_text().strip() or text.get_size() / 72 * canvas.UNITS_PER_INCH * scale > 9.5, text


@pytest.mark.parametrize("name", DRAWINGS)
def test_files_are_small_white_and_whole(name, tmp_path):
    canvas.save(DRAWINGS[name](), tmp_path / FILES[name])
    assert [path.name for path in tmp_path.iterdir()] == [FILES[name]]
    assert (tmp_path / FILES[name]).stat().st_size < LARGEST
    with Image.open(tmp_path / FILES[name]) as image:
        assert image.format == ("JPEG" if FILES[name].endswith(".jpg") else "PNG")
        assert image.width in (canvas.WIDTH, canvas.WIDTH * canvas.SCALE)
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255) and "transparency" not in image.info


def start(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["images", *map(str, arguments)])
    main()


def test_what_a_picture_lacks_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(how_much, "RESULTS", tmp_path / "how_much.jsonl")
    start(monkeypatch, "--only", "signs", "photo", "loss", "how_much", "--out", tmp_path)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in told] == ["drawn_signs.png", "photo.jpg", "loss.png", "how_much.png"]
    assert "kB" in told[0] and all("left out, needs " in line for line in told[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["drawn_signs.png"]


def test_the_loss_of_no_run_is_refused(tmp_path, monkeypatch):
    assert "settings.json" in in_one_line(start, monkeypatch, "--only", "loss", "--run", tmp_path)


@pytest.mark.slow
def test_all_pictures_are_made_by_one_command(tmp_path):
    command = [sys.executable, "-m", "images", "--weights", "random", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES.values()} - {"loss.png"}


def test_the_pictures_that_are_kept():
    for path in (ROOT / "images").glob("*.*g"):
        with Image.open(path) as image:
            image.load()
        assert path.name in {*FILES.values(), *MADE_BY_HAND} and path.stat().st_size < LARGEST


def test_the_sheet_of_signs_shows_their_pixels(tmp_path):
    images, _, _ = signs()
    sheet = np.asarray(predictions.drawn_signs(images))
    side, gap = 3 * 32, 2
    tenth = sheet[100 + gap : 100 + gap + side, gap : gap + side]  # first of the second row
    np.testing.assert_array_equal(tenth[::3, ::3], images[9])
    canvas.save(predictions.drawn_signs(images), tmp_path / "signs.png")
    assert (tmp_path / "signs.png").stat().st_size < LARGEST
    with Image.open(tmp_path / "signs.png") as image:
        kept = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(kept - sheet).mean() < 5
    priority = kept[100 + 48, 300 + 50]  # the middle of a sign that is yellow
    assert priority[0] > 1.2 * priority[1] > 3 * priority[2]


def test_layers_are_those_of_the_network():
    volumes = diagrams.volumes(AlexNet())
    assert [names for names, _, _ in volumes] == [
        "image", "conv1, norm1", "pool1", "conv2, norm2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7",
        "fc8, prob",
    ]  # fmt: skip
    assert [names for names, _, learned in volumes if not learned] == ["image", "pool1", "pool2", "pool5"]
    written = [text for text, _ in texts(diagrams.layers(AlexNet()))]
    assert "55 × 55" in written and "× 96" in written and written.count("4,096") == 2 and "1,000" in written


def test_a_case_is_drawn_as_it_is_trained():
    figure = diagrams.four_cases(ALEXNET, LAYERS)
    rectangles = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    bars = [each for each in rectangles if each.get_x() == rectangles[0].get_x()]
    assert [bar.get_hatch() for bar in bars] == [None, None, None, "///"]
    assert [round(bar.get_width() / bars[0].get_width(), 2) for bar in bars] == [1, 0.5, 1, 1]  # pool2 is the sixth
    assert len({bar.get_facecolor() for bar in bars}) == 3 and bars[0].get_facecolor() == bars[1].get_facecolor()


def test_the_new_head_counts_its_parameters():
    assert any("4,096 × 43 + 43 = 176,171" in text for text, _ in texts(DRAWINGS["new_head"]()))


def test_bars_are_the_five_most_probable_classes():
    probabilities = np.zeros(1000)
    probabilities[[7, 3, 900, 1, 20, 5]] = [0.5, 0.2, 0.1, 0.08, 0.07, 0.05]
    names = [f"name {number}, other" for number in range(1000)]
    written = [text for text, _ in texts(predictions.photo(np.zeros((10, 15, 3), np.uint8), probabilities, names))]
    assert written == ["name 7", "0.50", "name 3", "0.20", "name 900", "0.10", "name 1", "0.08", "name 20", "0.07"]


def test_a_small_stop_sign_is_the_large_one_reduced():
    large, small = predictions.drawn_stop_sign(227), predictions.drawn_stop_sign(32)
    assert large.shape == (227, 227, 3) and small.shape == (32, 32, 3)
    reduced = np.asarray(Image.fromarray(large).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(reduced - small).max() <= 1
    assert tuple(large[5, 5]) == predictions.SKY and large[60, 113, 0] > 140 > 80 > large[60, 113, 1]


def test_the_loss_of_a_training(tmp_path):
    history = [{"epoch": epoch, "loss": 1 / epoch, "validation_loss": 2 / epoch} for epoch in range(1, 31)]
    picture = measured.loss(history, kept=30)
    canvas.save(picture, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size < LARGEST and picture.width > picture.height


def test_weights_have_a_panel_each():
    others = [dict(each, weights="random", accuracy=0.05) for each in RESULTS if each["case"] != 4]
    scratch = [dict(each, weights="random") if each["case"] == 4 else each for each in RESULTS]
    before, axes = measured.how_much(scratch).axes, measured.how_much([*others, *scratch]).axes
    assert len(axes) == 2 * len(before) - 1  # the sheet beneath them is one
    for each in axes[1:]:
        assert len(each.containers) == 4
        assert all(len(line.get_ydata()) == 3 for line, *_ in each.containers)


def test_medians_and_the_spread_of_seeds():
    lines = [dict(RESULTS[0], seed=seed, accuracy=accuracy) for seed, accuracy in enumerate((0.2, 0.5, 0.6))]
    axes = measured.how_much([*lines, dict(RESULTS[0], per_class=0, accuracy=0.9)]).axes[1]
    ((line, _, (bars,)),) = axes.containers
    np.testing.assert_allclose(line.get_ydata().astype(float), [0.5, 0.9])
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [0.2, 0.6])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "all"]
