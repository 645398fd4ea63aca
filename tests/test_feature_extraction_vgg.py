"""Bottleneck files: made here, from the course, and wrong ones; run as a program."""

import argparse
import pickle
import re
import sys

import numpy as np
import pytest
from conftest import DEMO_SAYS, SHARED, in_one_line, run

import feature_extraction_vgg as script
from common.locks import exclusive
from data import bottleneck_files, datasets, splits, traffic_signs
from transfer import bottlenecks, run_files
from weights import cards

RNG = np.random.default_rng(0)


def clusters(count, width=6, classes=3):
    """Features that tell their class, so that a working trainer reaches accuracy 1."""
    labels = np.arange(count) % classes
    centres = np.random.default_rng(1).normal(size=(classes, width)) * 5
    return (centres[labels] + RNG.normal(size=(count, width))).astype(np.float32), labels


def write(path, features, labels, **more):
    path.write_bytes(pickle.dumps({"features": features, "labels": labels, **more}, protocol=2))
    return path


@pytest.mark.slow
def test_the_course_s_files_are_read(tmp_path):
    """(N, 1, 1, 6) features and (N, 1) labels, written by Python 2 where its writer is at hand."""
    features, labels = clusters(90)
    content = {"features": features.reshape(90, 1, 1, 6), "labels": labels[:, None].astype(np.uint8)}
    if (SHARED / "python2_pickle.py").exists():
        sys.path.insert(0, str(SHARED))
        import python2_pickle

        (tmp_path / "train.p").write_bytes(python2_pickle.dumps(content))
    else:
        (tmp_path / "train.p").write_bytes(pickle.dumps(content, protocol=2))
    write(tmp_path / "validation.p", *clusters(30))
    read, read_labels, count = bottleneck_files.read_both(tmp_path / "train.p", tmp_path / "validation.p")
    np.testing.assert_array_equal(read[:90], features)
    np.testing.assert_array_equal(read_labels[:90], labels)
    assert (read.shape, count, read.dtype, read_labels.dtype) == ((120, 6), 90, np.float32, np.int64)

    done = run("feature_extraction_vgg.py", "--training_file", "train.p", "--validation_file", "validation.p",
               "--learning_rate", 0.05, cwd=tmp_path)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "train.p: (90, 6)\nvalidation.p: (30, 6)\n" in done.stdout
    assert re.search(r"^Epoch 50: validation loss 0\.\d{4}, validation accuracy 1\.0000$", done.stdout, re.MULTILINE)
    assert re.search(r"^Best validation accuracy: 1\.0000 \(epoch \d+\), last: 1\.0000$", done.stdout, re.MULTILINE)


def test_one_file_alone(run_here):
    done = run_here("feature_extraction_vgg.py", "--training_file", "train.p")
    assert done.returncode == 2 and done.stderr.startswith("error: --training_file and --validation_file: one is")


@pytest.mark.parametrize(
    "network", ["googlenet", *(pytest.param(each, marks=pytest.mark.slow) for each in ("alexnet", "vgg", "resnet"))]
)
def test_demo_makes_files_that_any_python_reads_and_makes_them_once(network, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    flags = f"--demo --network {network} --per_class 2 --split track --epochs 2 --cache {tmp_path / 'features'}".split()
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", *flags])
    small = traffic_signs.drawn
    source = traffic_signs.SOURCE._replace(drawn=lambda seed: small(per_class=3, seed=seed))
    monkeypatch.setattr(traffic_signs, "SOURCE", source)
    script.main()
    printed = capsys.readouterr().out
    width = {"vgg": 512, "googlenet": 1024, "resnet": 2048, "alexnet": 4096}[network]
    assert f"({43 * 2}, {width})" in printed and f"({43}, {width})" in printed
    assert (DEMO_SAYS if network == "alexnet" else "Random weights") in printed
    files = sorted((tmp_path / "features").glob("demo_*.p"))
    assert len(files) == 2
    for path in files:
        content = pickle.loads(path.read_bytes())
        assert content["features"].dtype == np.float32 and content["features"].shape[1] == width
        assert len(content["labels"]) == len(content["features"]) and np.isfinite(content["features"]).all()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.[pn]*")}
    script.main()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list((tmp_path / "runs").glob("demo-feature_extraction_vgg-*/head.npz"))) == 2
    assert "Features:" not in capsys.readouterr().out  # the files were good: nothing was computed
    others = traffic_signs.SOURCE._replace(drawn=lambda seed: darker(small(per_class=3, seed=seed)))
    monkeypatch.setattr(traffic_signs, "SOURCE", others)
    script.main()
    assert "Features:" in capsys.readouterr().out  # other images under the same labels


@pytest.mark.parametrize("part", ["100_bottleneck_features_train.p", "bottleneck_features_validation.p"])
def test_a_file_of_one_s_own_is_not_replaced(part, tmp_path, monkeypatch):
    """One of the course's two files, without its partner."""
    path = write(tmp_path / f"vgg_cifar10_{part}", *clusters(9))
    before = path.read_bytes()
    monkeypatch.setattr(script, "DATA_DIR", tmp_path)
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py"])
    message = in_one_line(script.main)
    assert f"{path}: was not made here, and its partner" in message and "is missing" in message
    assert path.read_bytes() == before


def test_features_are_those_of_this_process_s_weights(tmp_path, monkeypatch):
    """While it makes the files, no other process does."""
    refusal = "is made by another process"
    write_file, locked = bottleneck_files.write, []

    def written(path, *content):
        for lock in tmp_path.rglob(".*_bottleneck_features_*.p.lock"):
            locked.append(in_one_line(exclusive(lock, refusal).__enter__))
        write_file(path, *content)

    monkeypatch.setattr(bottleneck_files, "write", written)
    monkeypatch.setattr(script, "DATA_DIR", tmp_path)
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    small = traffic_signs.drawn
    source = traffic_signs.SOURCE._replace(drawn=lambda seed: small(per_class=3, seed=seed))
    monkeypatch.setattr(traffic_signs, "SOURCE", source)
    flags = f"--demo --network googlenet --image_size 32 --epochs 1 --cache {tmp_path / 'c'} --plot".split()
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", *flags])
    script.main()
    assert locked == [refusal] * 4  # while it makes either, both
    assert list((tmp_path / "runs").glob("*/filters.png"))  # as the help of --plot says


def test_other_numbers_of_images_share_the_file_of_the_validation_images(tmp_path):
    """Made once for all of them; and what one process has just written there, another does not read as its own."""
    signs = splits.split(traffic_signs.drawn(per_class=6, seed=0), "random", 0)
    computed = []

    def compute(images):
        computed.append(len(images))
        return images.reshape(len(images), -1)[:, :4].astype(np.float32)

    def made(training, validation=0, seed=0):
        per_class = training, validation
        files = bottlenecks.names(tmp_path, cards.VGG, "traffic", 32, per_class)
        split = splits.fewer(signs, *per_class, seed)
        features = bottlenecks.made_once(files, split, compute, {"seed": seed}, per_class)
        np.testing.assert_array_equal(features, split.dataset.images.reshape(len(features), -1)[:, :4])
        return len(split.training), len(split.validation)

    two, validated = made(2)
    three, _ = made(3)
    made(2)
    assert computed == [two, validated, three]
    made(2, seed=1)
    made(3)
    assert computed[3:] == [two, validated, validated]
    _, few = made(3, validation=1)  # in a file of its own: the one with all stays
    made(3)
    assert computed[6:] == [few] and few == 43 < validated


def test_a_validation_image_that_is_a_training_image_too_keeps_its_place(tmp_path):
    """In the files it is there twice; among the images, once."""
    signs = traffic_signs.drawn(per_class=2, seed=0)
    signs = datasets.subset(signs, np.argsort(np.arange(86) % 2, kind="stable"))  # one of each class, then the others
    split = splits.Split(signs, np.arange(43), np.array([43, 3, *range(44, 86)]))
    files = bottlenecks.names(tmp_path, cards.VGG, "traffic", 32, (0, 0))
    compute = lambda images: images.reshape(len(images), -1)[:, 1000:1004].astype(np.float32)  # noqa: E731
    for _ in range(2):  # made, then read
        np.testing.assert_array_equal(bottlenecks.made_once(files, split, compute, {}, (0, 0)), compute(signs.images))


def test_the_course_s_files_are_not_replaced_by_a_run_that_goes_on(tmp_path):
    """It was made of images; the files have come to lie under the same names since."""
    split = splits.split(traffic_signs.drawn(per_class=3, seed=0), "random", 0)
    files = bottlenecks.names(tmp_path, cards.VGG, "traffic", 32, (0, 0))
    before = [write(path, *clusters(9)).read_bytes() for path in files]
    message = in_one_line(bottlenecks.made_once, files, split, lambda images: pytest.fail("computed"), {}, (0, 0))
    assert f"{files[0]}: was not made here" in message and "move both away" in message
    assert [path.read_bytes() for path in files] == before


def test_without_a_cache_no_features_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "DATA_DIR", tmp_path)
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    flags = "--demo --network googlenet --image_size 32 --per_class 2 --epochs 1 --no_cache".split()
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", *flags])
    small = traffic_signs.drawn
    source = traffic_signs.SOURCE._replace(drawn=lambda seed: small(per_class=3, seed=seed))
    monkeypatch.setattr(traffic_signs, "SOURCE", source)
    script.main()
    assert "Training on 86 images, validating on 43" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.p")) and list((tmp_path / "runs").glob("demo-*/head.npz"))


def darker(dataset):
    return dataset._replace(images=dataset.images // 2)


@pytest.mark.parametrize("dataset", ["cifar10", "traffic"])
def test_the_course_s_files_under_their_names_need_no_images(dataset, tmp_path, monkeypatch, capsys):
    """Those of the signs, too, whose split was random, as long as nothing is said about the split."""
    monkeypatch.setattr(script, "DATA_DIR", tmp_path)
    monkeypatch.setattr(script, "load_images", lambda *_: pytest.fail("no images are needed"))
    write(tmp_path / f"vgg_{dataset}_100_bottleneck_features_train.p", *clusters(90))
    write(tmp_path / f"vgg_{dataset}_bottleneck_features_validation.p", *clusters(30))
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", "--epochs", "3", "--dataset", dataset])
    script.main()
    printed = capsys.readouterr().out
    assert "Epoch  3: " in printed and "Training on 90 images, validating on 30\n" in printed
    best = float(re.search(r"last: (.+)", printed)[1])
    assert f"validation.p: 30 images\nAccuracy: {best:.3f} (no confidence interval" in printed
    assert not (tmp_path / "runs").exists()
    if dataset == "traffic":
        monkeypatch.setattr(sys, "argv", [*sys.argv, "--split", "track"])
        args, _, given = script.parse_arguments()
        assert script.feature_files(args, given) is None


def test_files_of_features_do_not_go_on_with_a_run_of_images(tmp_path, monkeypatch):
    given = {"training_file", "validation_file"}
    args = argparse.Namespace(training_file=tmp_path / "a.p", validation_file=tmp_path / "b.p")
    monkeypatch.setattr(script, "parse_arguments", lambda: (args, tmp_path / "run", given))
    assert "a.p: " in (message := in_one_line(script.main)) and "run was made of images" in message


def test_ctrl_c_while_features_are_computed_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "DATA_DIR", tmp_path)
    monkeypatch.setattr(script, "from_images", stopped)
    for flags, told in ([], 1), (["--no_cache"], 0):
        monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", "--demo", *flags])
        with pytest.raises(KeyboardInterrupt):
            script.main()
        assert capsys.readouterr().err.count("to continue, give the same command again") == told


NOTHING = [["--out", "run"], ["--plot"], ["--test_file", "a.p"], ["--weights", "mine.h5"], ["--no_cache"]]
NAMES = [  # defaults as well
    ["--network", "vgg"], ["--dataset", "cifar10"], ["--per_class", "100"], ["--validation_per_class", "0"], ["--demo"],
]  # fmt: skip
OTHER_IMAGES = ["--dataset", "--demo", "--training_dir"]  # beside --training_file, all scripts refuse them


@pytest.mark.parametrize("flags", [*NOTHING, *NAMES, ["--training_dir", "mine"]], ids=" ".join)
def test_flags_that_would_do_nothing_beside_files_of_features(flags, tmp_path, monkeypatch):
    (tmp_path / "a.p").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "DATA_DIR", tmp_path)

    def files(*more):
        monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", "--l2", "0.1", *more])
        args, _, given = script.parse_arguments()
        return script.feature_files(args, given)

    named = ["--training_file", "a.p", "--validation_file", "b.p"]
    assert [path.name for path in files(*named)] == ["a.p", "b.p"]
    message = in_one_line(files, *named, *flags)
    told = "does nothing beside" if flags[0] in OTHER_IMAGES else "the features in a.p are taken as they are"
    assert flags[0] in message and told in message
    assert files(*flags) is None  # made of images
    course = [write(tmp_path / f"{'demo_' * demo}vgg_{images}_{part}.p", *clusters(9))
              for demo, images in ((False, "cifar10"), (True, "traffic_64px_track"))
              for part in ("100_bottleneck_features_train", "bottleneck_features_validation")]  # fmt: skip
    if flags in NOTHING:
        assert f"{flags[0]}: the features in {course[0]} are" in in_one_line(files, *flags)
    elif flags in NAMES:
        assert files(*flags) == tuple(course[2:] if "--demo" in flags else course[:2])
    else:
        assert files(*flags) is None


def test_the_course_s_files_in_another_folder(tmp_path, monkeypatch):
    """--cache names where they are, so it is no flag that does nothing."""
    course = [write(tmp_path / f"vgg_cifar10_{part}.p", *clusters(9))
              for part in ("100_bottleneck_features_train", "bottleneck_features_validation")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", "--cache", str(tmp_path)])
    args, _, given = script.parse_arguments()
    assert script.feature_files(args, given) == tuple(course)


def test_own_images_are_counted_as_in_the_sign_script(tmp_path, monkeypatch, capsys):
    """Of each class 100 are trained on, unless --per_class says otherwise."""
    from PIL import Image

    for name, count in (("frog", 12), ("horse", 5)):
        for number in range(count):
            (tmp_path / "mine" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (32, 32, 3), np.uint8)).save(
                tmp_path / "mine" / name / f"{number}.png"
            )
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    flags = "--network googlenet --weights random --image_size 32 --epochs 1 --no_cache --per_class 4 --training_dir"
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", *flags.split(), str(tmp_path / "mine")])
    script.main()
    printed = capsys.readouterr().out
    assert "Training on 7 images, validating on 6\nFewer than 10 training images: horse (3), frog (4).\n" in printed
