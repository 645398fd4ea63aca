"""The README: its commands are known to the scripts, its links lead somewhere, its Python runs, its output is real."""

import argparse
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import DEMO_SAYS, NO_NETWORK, ROOT, SHARED
from PIL import Image

from data import cifar10, decoding
from transfer import novelty
from weights import heads

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)  # (language, text)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
INLINE = [span for span in re.findall(r"`([^`]+)`", PROSE) if "…" not in span]
SCRIPTS = [
    "imagenet_inference", "traffic_sign_inference", "feature_extraction", "train_feature_extraction",
    "train_feature_extraction_cifar10", "feature_extraction_vgg", "evaluate",
]  # fmt: skip
DEMO = "pip install -r requirements.txt && python train_feature_extraction.py --demo\n"


def commands():
    """The words of every command, without comments and variables: blocks for a shell, and commands within the text."""
    lines = [line for language, text in BLOCKS if language == "bash" for line in text.replace("\\\n", "").splitlines()]
    lines += [span for span in INLINE if re.match(r"(\w+=\S+ )?(python|pip) ", span)]
    lines += [f"python {span}" for span in INLINE if re.match(r"\w+\.py -", span)]
    for line in lines:
        for command in line.split(" && "):
            words = shlex.split(command, comments=True)
            while "=" in words[0]:
                words.pop(0)
            yield words


class Parsed(Exception):
    """Raised in place of what follows the parsing of the command line."""


@pytest.fixture
def parser_of(monkeypatch):
    """A function: (module, arguments) -> the parser of a script, when it has parsed the arguments."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_only(parser, *_):
        parse_args(parser)
        raise Parsed(parser)

    def parser(name, arguments=()):
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        module = importlib.import_module(name)
        if hasattr(module, "__path__"):  # a package, run as `python -m`
            module = importlib.import_module(f"{name}.__main__")
        with pytest.raises(Parsed) as parsed:
            getattr(module, "parse_arguments", getattr(module, "main", None))()
        return parsed.value.args[0]

    return parser


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_commands_are_known(words, parser_of):
    program, *arguments = words
    if program == "pip" or arguments[:2] == ["-m", "pytest"]:
        files = [word for word in arguments if re.search(r"\.(py|txt)$", word)]
        markers = [word for flag, word in zip(arguments[2:], arguments[3:]) if flag == "-m"]
        assert all((ROOT / file).is_file() for file in files)
        assert all(f'"{marker}: ' in (ROOT / "pyproject.toml").read_text() for marker in markers)
        return
    assert program == "python"
    if arguments[0] == "-m":
        parser_of(arguments[1], arguments[2:])
    else:
        assert (ROOT / arguments[0]).is_file()
        parser_of(os.path.basename(arguments[0]).removesuffix(".py"), arguments[1:])


def test_the_test_would_notice(parser_of):
    assert len(list(commands())) > 20
    with pytest.raises(SystemExit):
        parser_of("evaluate", ["--no_such_flag"])


def test_flags_in_the_text_are_known(parser_of):
    parsers = [parser_of(name) for name in (*SCRIPTS, "images.how_much")]
    parsers += [parser_of("transfer.shrink", ["alexnet.npz", "--out", "packed.npz"])]
    known = {flag for parser in parsers for flag in parser._option_string_actions}
    assert set(re.findall(r"--\w+", " ".join(INLINE))) <= known


def test_links_and_files_exist():
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", README) if ":" not in link}
    files = {span for span in INLINE if re.fullmatch(r"[\w/]+\.(py|txt)", span)}
    missing = [name for name in links | files if not (ROOT / name).exists()]
    assert len(links) > 5 and len(files) > 5 and not missing


def test_links_within_lead_to_headings():
    """Named as GitHub names them: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", README))
    assert len(links) > 15 and links <= anchors


def test_every_picture_is_there_and_says_what_it_shows():
    pictures = {path: text for text, path in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", README)}
    assert pictures.keys() == {f"images/{path.name}" for path in (ROOT / "images").glob("*.*g")}  # none is left over
    for path, text in pictures.items():
        with Image.open(ROOT / path) as image:
            image.verify()
        assert len(text.split()) > 5, f"{path}: the alternative text is {text!r}"


def test_sentences_about_likeness_are_those_that_are_printed():
    assert novelty.sentence(100).split(":")[0] in README
    assert f"\n{novelty.sentence(60)}\n" in README


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The repository as one has it at first: without what was downloaded, computed or trained."""
    folder = tmp_path_factory.mktemp("clone") / "repository"

    def not_code(path, names):
        return [
            name
            for name in names
            if os.path.isfile(os.path.join(path, name)) and not name.endswith((".py", ".csv", ".html", "-tiny.npz"))
        ]

    folder.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    for room in ("common", "data", "networks", "transfer", "weights"):
        shutil.copytree(ROOT / room, folder / room, ignore=not_code)
    return folder


def run_in(clone, *arguments):
    """What a Python program prints, run in the clone and without a network. A script writes nothing to stderr."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | NO_NETWORK
    if f"{arguments[0]}".removesuffix(".py") in SCRIPTS:
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # quiet by their own doing
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert not done.stderr or "TF_CPP_MIN_LOG_LEVEL" in environment
    return done.stdout


def python_block(beginning):
    return next(text for language, text in BLOCKS if language == "python" and text.startswith(beginning))


def test_from_python(clone):
    """Red and green squares, a random GoogLeNet at 32 pixels."""
    rng = np.random.default_rng(0)
    for name, color in ("green", [0, 200, 0]), ("red", [200, 0, 0]):
        (clone / "my_images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.clip(color + rng.integers(-50, 50, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(clone / "my_images" / name / f"{number}.png")
    shutil.copy(clone / "my_images" / "red" / "0.png", clone / "photo.jpg")
    code = python_block("from data import own_images")
    assert len([line for line in code.splitlines() if line]) <= 16
    for read, tried in ("GOOGLENET, None", 'GOOGLENET, "random"'), ("size=64, ", "size=32, "):
        assert read in code
        code = code.replace(read, tried)
    (clone / "from_python.py").write_text(code)
    found = dict(line.split(": ") for line in run_in(clone, "from_python.py").splitlines()[-2:])
    found = {name: float(probability) for name, probability in found.items()}
    assert heads.load(clone / "my_head.npz").provenance.validation_accuracy > 0.5  # squares so unlike are told apart
    assert found.keys() == {"green", "red"} and found["red"] > 0.6 and sum(found.values()) == pytest.approx(1, abs=2e-3)


def form(block):
    """A pattern for output like a block of the README's: other numbers, and anything in place of `...`."""
    parts = [re.escape(re.sub(r"\d[\d.,-]*", "\0", part)) for part in re.split(r"^\.\.\.\n", block, flags=re.MULTILINE)]
    return ".*".join(parts).replace("\0", r"([\d.,-]+)")


def output_of(beginning):
    """The README's one block of output that begins so."""
    (block,) = (text for kind, text in BLOCKS if kind == "text" and text.startswith(beginning))
    return block


def test_the_form_of_output():
    assert re.fullmatch(form("Top-5 accuracy: 0.712\n...\nb\n"), "Top-5 accuracy: 1.000\na\n\nb\n", re.DOTALL)
    assert not re.fullmatch(form("Top-5 accuracy: 0.712\n"), "Accuracy: 0.712\n", re.DOTALL)


@pytest.mark.slow
def test_every_script_has_a_demo(clone):
    for script in SCRIPTS[:3]:
        printed = run_in(clone, f"{script}.py", "--demo")
        assert DEMO_SAYS in printed
    assert re.search(form(output_of("The head is not trained yet")), printed, re.DOTALL), printed
    printed = run_in(clone, "train_feature_extraction.py", "--demo")
    assert re.fullmatch(form(output_of("Weights: small AlexNet")), printed, re.DOTALL), printed
    printed = run_in(clone, "feature_extraction.py", "--demo", "--export", "signs.tflite", "--quantize", "int8")
    assert re.search(form(output_of("...\nExported to signs.tflite")), printed, re.DOTALL), printed
    for script in SCRIPTS[4:]:
        run_in(clone, f"{script}.py", "--demo")


@pytest.mark.slow
def test_an_exported_model_answers(clone):
    run = ["train_feature_extraction.py", "--demo", "--network", "googlenet", "--image_size", 32, "--epochs", 1]
    run_in(clone, *run, "--out", "exported_run")
    run_in(clone, "feature_extraction.py", "--demo", "--head", "exported_run", "--export", "my_model")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 60, 4), dtype=np.uint8)).save(clone / "my_sign.png")  # half transparent
    code = python_block("import numpy").replace("my_sign.jpg", "my_sign.png")
    code += "\nprint(answer['probabilities'].shape)\nnp.save('shown.npy', images)\n"
    (clone / "exported.py").write_text(code)
    assert run_in(clone, "exported.py") == "(1, 43)\n"
    shown = np.load(clone / "shown.npy")[0].astype(int)
    assert np.abs(shown - decoding.read(clone / "my_sign.png")).max() <= 1
    run_in(clone, "feature_extraction.py", "--demo", "--head", "exported_run", "--export", "signs.onnx")
    code = python_block("import numpy as np\nimport onnxruntime").replace("my_sign.jpg", "my_sign.png")
    (clone / "exported.py").write_text(f"{code}\nprint(probabilities.shape)\n")
    assert run_in(clone, "exported.py") == "(1, 43)\n"


@pytest.fixture(scope="module")
def walk(clone, tmp_path_factory):
    """A clone with GoogLeNet's real weights, the course's images, and its signs."""
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    folder = shutil.copytree(clone, tmp_path_factory.mktemp("walk") / "repository")
    shutil.copy(SHARED / "weights/bvlc_googlenet.npz", folder / "weights")
    for name in "construction.jpg", "stop.jpg", "poodle.png", "weasel.png":
        shutil.copy(SHARED / "images" / name, folder / "data")
    run_in(folder, SHARED / "data/make_train_p.py", folder / "data/train.p")
    return folder


def check_output(beginning, printed, within=0.01):
    """That the README's block of output is what was printed: its words, and its shares to within so much."""
    block = output_of(beginning)
    found = re.search(form(block), printed, re.DOTALL)
    assert found, printed
    shown = re.search(form(block.replace("...\n", "")), block.replace("...\n", ""), re.DOTALL).groups()
    for one, other in zip(shown, found.groups(), strict=True):
        if re.fullmatch(r"[01]\.\d{3}", one):
            assert float(other) == pytest.approx(float(one), abs=within), printed


def command_with(*parts):
    """The README's one command that has all these words, without its `python`."""
    (words,) = (words for words in commands() if set(parts) <= set(words))
    return words[1:]


@pytest.mark.slow
def test_steps_1_4_and_5_with_real_weights(walk):
    check_output("Image 0: data/poodle.png", run_in(walk, "imagenet_inference.py", "--network", "googlenet"))
    printed = run_in(walk, *command_with("--validation_per_class", "--case", "2"))
    assert float(re.search(r"^Accuracy: ([\d.]+)", printed, re.MULTILINE)[1]) == pytest.approx(0.742, abs=0.01)
    check_output("Head: runs/", run_in(walk, "feature_extraction.py"))


@pytest.mark.slow
def test_step_6_with_six_of_cifar10_s_classes(walk):
    run_in(walk, SHARED / "data/make_cifar10.py", walk / "data")
    batches = walk / "data" / "cifar-10-batches-py"
    for part, images, count in ("train", cifar10.load(batches), 100), ("test", cifar10.load_test(batches), 50):
        for name in "bird", "cat", "deer", "dog", "frog", "horse":
            folder = walk / "animals" / part / name
            folder.mkdir(parents=True)
            for row in np.flatnonzero(images.labels == images.class_names.index(name))[:count]:
                Image.fromarray(images.images[row]).save(folder / f"{row}.jpg", quality=95)
    printed = run_in(walk, *command_with("animals", "--case", "2"))
    check_output("animals holds a split", printed, within=0.2)  # of other copies of the images, 50 per class
