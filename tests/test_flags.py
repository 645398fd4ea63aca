"""transfer/flags.py, command_line.py, resuming.py: what the flags stand for, and which --resume takes."""

import json
import os
import pathlib
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import in_one_line, refused

import evaluate
import feature_extraction
import feature_extraction_vgg
import train_feature_extraction as script
from common.errors import BadInput
from common.flags import Parser
from data import cifar10, datasets, own_images, picture_store, splits, traffic_signs
from transfer import command_line, resuming, run_files, runs
from transfer.recipe import Case, Recipe, recipe_for
from weights.cards import ALEXNET, CARDS

SIGNS = datasets.Dataset(np.zeros((2, 2, 2, 3), np.uint8), np.zeros(2, int), ["stop"], None, "signs")
FIGURES = {"loss": 1.0, "accuracy": 0.5, "validation_loss": 1.0, "validation_accuracy": 0.5}


@pytest.fixture
def parse(monkeypatch):
    def parse(*arguments):
        monkeypatch.setattr("sys.argv", ["train_feature_extraction.py", *map(str, arguments)])
        return script.parse_arguments()[0]

    return parse


@pytest.fixture
def begun(parse, tmp_path, monkeypatch):
    """A function: flags, number of epochs so far -> the folder of a run."""
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")

    def begun(*arguments, epochs=11):
        folder = runs.begin("train_feature_extraction", resuming.as_kept(parse(*arguments)), "", "", tmp_path / "run")
        history = {"ended": False, "epochs": [FIGURES | {"epoch": number + 1} for number in range(epochs)]}
        (folder / "history.json").write_text(json.dumps(history))
        return folder

    return begun


def recipe(args):
    card = CARDS[args.network]
    return command_line.recipe_of(args, command_line.case_of(args, card), card, 5000)


def test_recipes_follow_from_flags(parse, tmp_path):
    assert recipe(parse()) == Recipe()  # what is for long runs is off
    taught = recipe(parse("--teacher", tmp_path, "--label_smoothing", 0.1))
    assert taught == Recipe(teacher_share=0.7, label_smoothing=0.1)
    long = recipe(parse("--case", 4, "--layer", "pool5", "--image_size", 131, "--decay_epochs", 3, "--ema", 0.998,
                        "--random_crop", 0.5, "--flip"))  # fmt: skip
    assert (long.decay_epochs, long.ema, long.random_crop, long.augment) == (3, 0.998, 0.5, True)


@pytest.mark.parametrize(("words", "value"), [
    ("--epochs 7", 7), ("--batch_size 16", 16), ("--learning_rate 0.01", 0.01), ("--lower_learning_rate 0.002", 0.002),
    ("--l2 0.3", 0.3), ("--weight_decay 0.04", 0.04), ("--patience 5", 5), ("--head_epochs 4", 4), ("--ema 0.5", 0.5),
    ("--label_smoothing 0.2", 0.2), ("--temperature 3 --teacher .", 3.0), ("--teacher_share 0.3 --teacher .", 0.3),
    ("--decay_epochs 2", 2), ("--random_crop 0.5", 0.5), ("--relight", True), ("--keep_last", True), ("--seed 3", 3),
    ("--progressive_resizing", True), ("--no_augment", False), ("--no_dropout", False),
], ids=str)  # fmt: skip
def test_each_flag_of_the_training_reaches_the_recipe(words, value, parse):
    fine, field = ("--case", 3, "--network", "googlenet", "--image_size", 64), re.match(r"--(?:no_)?(\w+)", words)[1]
    plain, changed = recipe(parse(*fine)), recipe(parse(*fine, *words.split()))
    assert getattr(changed, field) == value != getattr(plain, field)


def test_as_published_the_head_sees_plain_features(parse):
    assert recipe(parse()).standardize and not recipe(parse("--as_published")).standardize


def test_layers_that_begin_with_random_weights_decay(parse):
    fine = ("--network", "googlenet", "--image_size", 64)
    assert (
        recipe(parse(*fine, "--case", 4)).weight_decay == 0.05 and recipe(parse(*fine, "--case", 3)).weight_decay == 0
    )


def test_the_seed_chooses_which_images_are_few(parse):
    images = np.arange(300, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 3), np.uint8)
    many = datasets.Dataset(images, np.zeros(300, int), ["stop"], None, "signs")
    chosen = []
    for seed in (0, 0, 1):
        args = parse("--per_class", 5, "--seed", seed)
        split, _ = command_line.split_of(args, ALEXNET, lambda: splits.Split(many, np.arange(200), np.arange(200, 300)))
        chosen.append(sorted(split.dataset.images[split.training, 0, 0, 0]))
    assert chosen[0] == chosen[1] != chosen[2] and len(chosen[0]) == 5


def test_a_logdir_that_cannot_be_written(parse, tmp_path):
    """Told before the features are computed."""
    (tmp_path / "file").write_text("mine")
    for logdir in (tmp_path / "file", tmp_path / "file" / "sub"):
        assert f"{tmp_path / 'file'} is not a folder" in in_one_line(parse, "--logdir", logdir)
    assert parse("--logdir", tmp_path / "new").logdir == tmp_path / "new"
    assert "is not UTF-8" in in_one_line(parse, "--logdir", tmp_path / os.fsdecode(b"log\xff"))
    assert not list((tmp_path / "new").iterdir()) and (tmp_path / "file").read_text() == "mine"


def test_a_place_for_the_run_that_cannot_be_written(parse, tmp_path):
    """Told before images are decoded, or a teacher has seen them."""
    (tmp_path / "file").write_text("mine")
    said = in_one_line(parse, "--out", tmp_path / "file" / "run")
    assert f"{tmp_path / 'file'} is not a folder" in said and "name another folder with --out" in said
    assert "is not UTF-8" in in_one_line(parse, "--out", tmp_path / os.fsdecode(b"run\xff"))
    assert parse("--out", tmp_path / "new").out == tmp_path / "new"
    assert "is not a folder" in in_one_line(parse, "--out", tmp_path / "file")
    parse("--out", tmp_path / "in" / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # the name is free for the right command
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "name another folder with --out" in in_one_line(parse, "--out", tmp_path / "link")


def test_a_rate_that_would_never_be_reached(parse, begun):
    fine = ["--case", 3, "--decay_epochs", 5]
    assert recipe(parse(*fine, "--epochs", 5)).decay_epochs == 5
    assert "--decay_epochs 5: of 4 epochs" in in_one_line(recipe, parse(*fine, "--epochs", 4))
    folder = begun(*fine, "--epochs", 9, epochs=2)
    assert parse("--resume", folder, "--epochs", 5).epochs == 5
    assert "--decay_epochs 5: of 4 epochs" in in_one_line(parse, "--resume", folder, "--epochs", 4)
    shutil.rmtree(folder)
    old = recipe(parse("--resume", begun(*fine, "--epochs", 4, epochs=2)))  # of an earlier version
    assert (old.epochs, old.decay_epochs) == (4, 5)


def test_a_named_recipe_and_flags_beside_it(parse, begun):
    args = parse("--recipe", "thorough", "--epochs", 3, "--image_size", "48", "--seed", 2)
    assert (args.network, args.case, args.ema) == ("googlenet", 3, 0.998)
    assert (args.epochs, args.image_size, args.seed) == (3, 48, 2)
    thorough = recipe(args)
    assert (thorough.relight, thorough.patience, thorough.head_epochs, thorough.label_smoothing) == (True, 0, 0, 0.1)
    assert thorough.keep_last
    assert parse("--epochs", 10).network == "alexnet"  # nothing is left of it
    folder = begun("--recipe", "thorough", "--epochs", 20)
    again = parse("--resume", folder)
    assert (again.recipe, again.network, again.epochs, again.relight) == ("thorough", "googlenet", 20, True)
    assert parse("--resume", folder, "--recipe", "thorough").epochs == 20
    few = recipe(parse("--recipe", "few"))
    assert (few.epochs, few.batch_size, few.ema, few.relight) == (20, 32, 0.98, True)


@pytest.mark.parametrize("own, given, names, expected", [
    (False, [], traffic_signs.sign_names(), ()),  # signs: only when asked
    (False, ["--flip"], traffic_signs.sign_names(), traffic_signs.MIRROR),
    (False, ["--recipe", "thorough"], traffic_signs.sign_names(), traffic_signs.MIRROR),
    (False, [], cifar10.NAMES, tuple(range(10))),  # always
    (False, [], cifar10.drawn_names(), ()),  # ten signs, one of which points to the right
    (True, [], cifar10.NAMES, ()), (True, ["--flip"], traffic_signs.sign_names(), tuple(range(43))),  # one's own
    (True, ["--recipe", "thorough"], ["a", "b", "c"], ()),
])  # fmt: skip
def test_what_is_mirrored(own, given, names, expected, parse, tmp_path):
    args = parse(*given, *(["--training_dir", tmp_path] if own else []))
    assert command_line.mirror_of(args, names) == expected


def test_real_signs_do_not_pass_for_drawn_ones(parse, tmp_path):
    (tmp_path / "valid.p").touch()
    said = in_one_line(parse, "--demo", "--validation_file", tmp_path / "valid.p")
    assert "--validation_file: does nothing beside --demo" in said


@pytest.mark.parametrize("arguments", [["--port", "9000"], ["--no_browser"]])
def test_flags_of_the_page_without_it(arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["feature_extraction.py", *arguments])
    assert f"{arguments[0]}: --serve is missing" in in_one_line(feature_extraction.parse_arguments)
    monkeypatch.setattr("sys.argv", ["feature_extraction.py", "--serve", *arguments])
    assert feature_extraction.parse_arguments().serve


def test_of_unknown_classes_nothing_can_be_mirrored(parse):
    with pytest.raises(BadInput, match="--flip: .* mirror"):
        command_line.mirror_of(parse("--flip"), cifar10.drawn_names())


@pytest.mark.parametrize("arguments, message", [
    (["--relight"], "only the head is trained"), (["--train", "all", "--relight", "--no_augment"], "--no_augment"),
    (["--train", "all", "--flip", "--no_augment"], "--no_augment"),
    (["--random_crop", 0.5], "only the head is trained"),
    (["--train", "all", "--random_crop", 0.5, "--no_augment"], "--no_augment"),
    (["--image_size", 131], "227 pixels only from fc6"), (["--teacher", "nowhere"], "--teacher nowhere: no such file"),
    (["--image_size", 66, "--layer", "pool5"], "67 to"),
    (["--flip"], "--flip: only the head is trained"), (["--ema", 0.9], "--ema 0.9: only the head is trained"),
    (["--no_dropout"], "--no_dropout: only"), (["--lower_learning_rate", 0.1], "--lower_learning_rate 0.1: only"),
    (["--case", 3, "--keep_last", "--patience", 2], "--patience 2: the last epoch is the result"),
    (["--teacher", ".", "--teacher_share", 0], "--teacher_share 0: nothing would be learned"),
    (["--case", 3, "--progressive_resizing"], "take --network googlenet with --layer pool5"),
])  # fmt: skip
def test_flags_that_contradict_each_other(arguments, message, parse):
    assert message in in_one_line(lambda: command_line.case_of(parse(*arguments), ALEXNET))


@pytest.mark.parametrize("arguments, message", [
    (["--temperature", 3], "--temperature: --teacher is missing"),
    (["--skip_unreadable"], "--skip_unreadable: --training_dir is missing"),
    (["--validation_dir", "."], "--validation_dir: --training_dir is missing"),
    (["--training_dir", ".", "--split", "random"], "--split random: is for the signs"),
    (["--validation_file", "valid.p", "--split", "none"], "--split none: --validation_file says"),
    (["--per_class", 5, "--split", "none"], "--per_class 5: --split none trains on all images"),
    (["--training_dir", ".", "--validation_file", "valid.p"], "--validation_file: does nothing beside --training_dir"),
    (["--training_dir", ".", "--training_file", "my.p"], "--training_file: does nothing beside --training_dir"),
    (["--demo", "--training_file", "my.p"], "--training_file: does nothing beside --demo"),
    (["--no_cache", "--cache", "elsewhere"], "--cache: does nothing beside --no_cache"),
])  # fmt: skip
def test_flags_that_would_do_nothing(arguments, message, parse):
    assert message in in_one_line(parse, *arguments)


def test_a_run_of_an_earlier_version_is_resumed_with_flags_that_do_nothing(parse, begun, tmp_path):
    folder = begun("--training_dir", tmp_path)
    settings = run_files.read_settings(folder)
    settings["flags"]["validation_file"] = str(tmp_path / "valid.p")
    run_files.write_settings(folder, settings, signed=True)
    assert parse("--resume", folder).validation_file == tmp_path / "valid.p"


@pytest.mark.parametrize("arguments, message", [
    (["--test_dir", ".", "--test_file", "test.p"], "--test_file: does nothing beside --test_dir"),
    (["--demo", "--test_file", "test.p"], "--test_file: does nothing beside --demo"),
    (["--skip_unreadable"], "--skip_unreadable: --test_dir is missing"),
    (["--no_cache", "--cache", "elsewhere"], "--cache: does nothing beside --no_cache"),
])  # fmt: skip
def test_flags_that_would_do_nothing_in_an_evaluation(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["evaluate.py", *arguments])
    assert message in in_one_line(evaluate.parse_arguments)
    monkeypatch.setattr("sys.argv", ["evaluate.py", "--seed", "3"])  # nothing is drawn
    with pytest.raises(SystemExit):
        evaluate.parse_arguments()
    assert "unrecognized arguments: --seed" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--training_dir", "--training_file"])
def test_a_data_set_beside_files_or_folders_that_replace_it(flag, monkeypatch):
    monkeypatch.setattr("sys.argv", ["feature_extraction_vgg.py", flag, ".", "--dataset", "traffic"])
    assert f"--dataset: does nothing beside {flag}" in in_one_line(feature_extraction_vgg.parse_arguments)


@pytest.mark.parametrize("arguments, message", [
    (["--case", 1], "only the head is trained"), (["--case", 3, "--no_augment"], "--no_augment"),
    (["--case", 3, "--layer", "pool3"], "pool3 needs images of one size"),
    (["--case", 3, "--patience", 2], "--patience 2"),
    (["--case", 3, "--decay_epochs", 1], "leaves open"), (["--case", 3, "--image_size", 63], "begins with half of it"),
])  # fmt: skip
def test_where_images_cannot_grow(arguments, message, parse):
    given = ["--network", "googlenet", "--image_size", 64, "--progressive_resizing", *arguments]
    assert message in in_one_line(lambda: command_line.case_of(parse(*given), CARDS["googlenet"]))


def test_mistakes_are_told_before_hours_of_training(parse, begun, tmp_path):
    assert "nowhere: no such file" in in_one_line(parse, "--resume", begun(), "--test_file", "nowhere")
    assert "--split none: is for the signs" in in_one_line(parse, "--split", "none", "--training_dir", tmp_path)
    frogs = datasets.Dataset(np.zeros((2, 2, 2, 3), np.uint8), np.zeros(2, int), ["frog"], None, "frogs")
    args = parse("--test_file", tmp_path)
    told = in_one_line(command_line.split_of, args, ALEXNET, lambda: splits.split(frogs, "random", 0))
    assert "holds traffic signs, which frogs are not" in told


@pytest.mark.parametrize("given, kept", [
    ([], picture_store.PICTURES_DIR), (["--cache", "elsewhere"], pathlib.Path("elsewhere/pictures")),
    (["--no_cache"], None),
])  # fmt: skip
def test_decoded_images_go_where_features_do(given, kept, parse, tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(own_images, "load_split", lambda *all: asked.append(all) or (splits.for_test(SIGNS), None))
    asked = []
    command_line.split_of(parse("--training_dir", tmp_path, "--skip_unreadable", "--seed", 3, *given), ALEXNET, None)
    assert asked == [(tmp_path, None, ALEXNET.framing, 227, 227, True, 3, kept)]
    folders.append(asked[0][-1])
    monkeypatch.setattr(own_images, "load", lambda *all: folders.append(all[-1]))
    monkeypatch.setattr("sys.argv", ["evaluate.py", "--test_dir", str(tmp_path), *given])
    framed = SimpleNamespace(size=32, how="whole", resized=0)
    args, head = evaluate.parse_arguments(), SimpleNamespace(provenance=framed, class_names=["a", "b"])
    evaluate.find_images(head, args.test_dir, pictures=command_line.pictures_of(args.cache, args.no_cache))
    assert folders == [kept, kept]


def test_a_weights_file_is_found_from_another_folder_too(parse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resuming.as_kept(parse("--weights", "some.npz"))["weights"] == str(tmp_path / "some.npz")
    assert resuming.as_kept(parse("--weights", "random"))["weights"] == "random"
    assert resuming.as_kept(parse())["weights"] is None


def test_what_lies_in_data_moves_with_the_scripts(parse, begun, tmp_path):
    settings = run_files.read_settings(begun())["flags"]
    assert not {"training_file", "cache"} & settings.keys()
    assert parse("--resume", tmp_path / "run").training_file == traffic_signs.TRAIN_FILE


def test_images_that_were_moved_are_named_again(parse, begun, tmp_path):
    """That they are the same ones is seen by their pixels."""
    folder = begun("--training_dir", tmp_path / "old")
    args = parse("--resume", folder, "--training_dir", tmp_path / "new")
    assert args.training_dir == tmp_path / "new"
    runs.Run(folder, None, []).change_flags(resuming.changeable(args))
    assert parse("--resume", folder).training_dir == tmp_path / "new"


def test_a_file_that_was_moved_to_its_default_place_is_remembered(parse, begun, tmp_path):
    folder = begun("--training_file", tmp_path / "elsewhere.p")
    args = parse("--resume", folder, "--training_file", traffic_signs.TRAIN_FILE)
    runs.Run(folder, None, []).change_flags(resuming.changeable(args))
    assert parse("--resume", folder).training_file == traffic_signs.TRAIN_FILE


def test_files_that_a_run_names_are_looked_for_before_it_trains(parse, begun, tmp_path, capsys):
    """Of test images that are gone it is told that they will not be asked; training needs none."""
    (tmp_path / "test.p").touch()
    folder = begun("--test_file", tmp_path / "test.p")
    assert parse("--resume", folder).test_file == tmp_path / "test.p"
    (tmp_path / "test.p").unlink()
    assert not capsys.readouterr().out and parse("--resume", folder).test_file is None
    assert capsys.readouterr().out.startswith(f"--test_file {tmp_path / 'test.p'}: is gone")
    typed = in_one_line(parse, "--resume", folder, "--test_file", tmp_path / "test.p")
    assert f"--test_file {tmp_path / 'test.p'}: no such file" in typed


@pytest.mark.parametrize("flag", ["--out", "--cache", "--logdir"])
def test_what_is_written_does_not_lie_among_the_classes(flag, parse, tmp_path):
    folder = tmp_path / "animals"
    for images in (folder, folder / ".." / "animals"):
        said = in_one_line(parse, "--training_dir", images, flag, folder / "run")
        assert f"{flag} {folder / 'run'}: lies in {images}" in said and not folder.exists()
    assert parse("--training_dir", folder, flag, tmp_path / "animals2").training_dir == folder


def test_a_run_that_was_begun_among_the_images_goes_on_there(parse, begun, tmp_path):
    """In a folder with train and val, it is no class."""
    folder = begun("--training_dir", tmp_path, "--out", tmp_path.parent / "elsewhere")
    settings = run_files.read_settings(folder)
    run_files.write_settings(folder, settings | {"flags": settings["flags"] | {"out": str(folder)}}, signed=True)
    assert parse("--resume", folder).training_dir == tmp_path


def test_a_teacher_comes_with_the_beginning(parse, begun, tmp_path):
    (tmp_path / "teacher").mkdir()
    folder = begun("--case", 3)
    said = in_one_line(parse, "--resume", folder, "--teacher", tmp_path / "teacher")
    assert "was started without one" in said


def test_what_would_do_nothing_on_resume_is_told(parse, begun, tmp_path):
    (tmp_path / "w.npz").touch()
    folder = begun("--seed", 3)
    for flag, told in ("--seed", "with 3"), ("--batch_size", "without it"):
        assert f"{flag} 32: {folder} was started {told}; leave" in in_one_line(parse, "--resume", folder, flag, 32)
    assert f"--ema 0.5: {folder} was started with 0.0; leave" in in_one_line(parse, "--resume", folder, "--ema", 0.5)
    assert f"--no_augment: {folder} was started without it" in in_one_line(parse, "--resume", folder, "--no_augment")
    assert "--teacher is missing" in in_one_line(parse, "--resume", folder, "--teacher_weights", tmp_path / "w.npz")
    shutil.rmtree(folder)
    folder = begun("--demo")
    said = in_one_line(parse, "--resume", folder, "--training_file", tmp_path / "w.npz")
    assert "--training_file: does nothing beside --demo" in said


def test_a_cache_that_is_named_is_used(parse, begun, tmp_path):
    folder = begun("--no_cache")
    assert parse("--resume", folder).no_cache
    again = parse("--resume", folder, "--cache", tmp_path / "cache")
    assert (again.cache, again.no_cache) == (tmp_path / "cache", False)
    both = ("--resume", folder, "--no_cache", "--cache", tmp_path / "cache")
    assert "--cache: does nothing beside --no_cache" in in_one_line(parse, *both)


def test_a_run_of_an_earlier_version_that_kept_both_of_them_goes_on(parse, begun, tmp_path):
    """In memory only, as it began; and one that keeps its features may go on without."""
    folder = begun("--cache", tmp_path / "cache")
    assert parse("--resume", folder, "--no_cache").no_cache
    settings = run_files.read_settings(folder)
    settings["flags"]["no_cache"] = True
    run_files.write_settings(folder, settings, signed=True)
    assert parse("--resume", folder).no_cache


@pytest.mark.parametrize("words", [["--resume", ""], ["--resume="], ["--out", ""], ["--weights="]])
def test_a_variable_that_is_not_set_is_no_value(words, parse, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(*words)
    assert "is empty; give a value, or leave it out" in capsys.readouterr().err


def test_home_behind_an_equals_sign(monkeypatch):
    """bash leaves the ~ in `--out=~/my_run` as it is; a folder of this name would be made."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")  # Windows
    parser = Parser("")
    parser.add_argument("--out")
    parser.add_argument("images", nargs="*")
    for words in ["--out=~/my_run", "~/a.png", "b~.png"], ["--out", "~/my_run", "~/a.png", "b~.png"]:
        args = parser.parse_args(words)
        assert (args.out, args.images) == ("/home/me/my_run", ["/home/me/a.png", "b~.png"])
    assert parser.parse_args(["--out=~", "~root"]).__dict__ == {"out": "/home/me", "images": ["~root"]}


def test_the_help_tells_the_rates_that_are_taken(capsys, parse):
    with pytest.raises(SystemExit):
        parse("--help")
    told = " ".join(capsys.readouterr().out.split())
    for card in CARDS.values():
        for scratch in (False, True):
            rate = recipe_for(Case("x", "all", scratch), card, learning_rate=1.0).lower_learning_rate
            assert f"{rate:g} for {card.name}" in (told.split("from scratch")[1] if scratch else told)


def test_where_images_grow_the_last_epoch_counts(parse):
    grown = recipe(parse("--network", "googlenet", "--image_size", 64, "--case", 3, "--progressive_resizing"))
    assert grown.keep_last and not grown.patience and grown.progressive_resizing
    pool5 = ("--case", 3, "--layer", "pool5", "--image_size", 131)
    assert recipe(parse(*pool5)).patience and not recipe(parse(*pool5, "--keep_last")).patience


def test_a_flag_that_is_given_counts_even_with_its_default(parse, begun):
    folder = begun("--epochs", 20, "--learning_rate", 0.01)
    assert parse("--resume", folder).epochs == 20
    assert "has 11 epochs already" in in_one_line(parse, "--resume", folder, "--epochs", 10)
    assert "started with 0.01" in in_one_line(parse, "--resume", folder, "--learning_rate", 0.001)
    assert parse("--resume", folder, "--ema", 0).epochs == 20  # as it was


def test_another_number_of_epochs_is_another_course_of_the_learning_rate(parse, begun, capsys):
    fine = ("--case", 3, "--network", "googlenet", "--image_size", 64, "--epochs", 20)
    for words, epochs, told in (
        (fine, 30, "the learning rate is as in a run of 30 epochs, not 20\n"),
        ((*fine, "--progressive_resizing"), 30, "size of the images and learning rate are as in a run of 30 epochs"),
        (fine, 12, "as in a run of 12 epochs, not 20\n"),
        (fine, 20, ""),
        ((*fine, "--decay_epochs", 2), 30, ""),  # held until the end comes near
        ((*fine, "--decay_epochs", 10), 30, "as in a run of 30 epochs"),  # of its 11 epochs one has fallen
        ((*fine, "--decay_epochs", 9), 15, "as in a run of 15 epochs"),
        (("--epochs", 20), 30, ""),  # of a head alone it stays as it is
    ):
        folder = begun(*words)
        parse("--resume", folder)
        assert not capsys.readouterr().out
        parse("--resume", folder, "--epochs", epochs)
        printed = capsys.readouterr().out
        assert told in printed if told else not printed
        shutil.rmtree(folder)


def test_what_resuming_changes_is_kept_and_a_stranger_stays_one(parse, begun):
    folder = begun("--case", 4, "--patience", 2)
    for signed in True, False:
        epochs = 30 + signed
        args = parse("--resume", folder, "--epochs", epochs, "--patience", 0)
        runs.Run(folder, None, []).change_flags(resuming.changeable(args))
        again = parse("--resume", folder)
        assert (again.epochs, again.patience, again.case) == (epochs, 0, 4)
        assert run_files.begun_here(folder) == signed
        settings = run_files.read_settings(folder)
        (folder / "settings.json").write_text(json.dumps(settings | {"signature": "forged"}))


def test_patience_changes_where_the_epoch_it_asks_for_is_kept(parse, begun):
    folder = begun("--patience", 0)
    assert "last epoch only" in in_one_line(parse, "--resume", folder, "--patience", 3)
    assert parse("--resume", folder, "--patience", 0).patience == 0


HOSTILE = [[1], "x", -1, 10**30, float("nan"), True, "\0"]
FREE = {"layer", "train", "weights", "out"}  # texts: what is no layer or file is told where they are used
NUMBERS_TOO = {"l2", "learning_rate", "lower_learning_rate", "weight_decay"}  # 10^30 is the largest


def test_every_value_of_foreign_settings_is_checked(parse, begun):
    folder = begun()
    settings = run_files.read_settings(folder)
    for name, usual in settings["flags"].items():
        for value in HOSTILE:
            changed = settings | {"flags": settings["flags"] | {name: value}}
            (folder / "settings.json").write_text(json.dumps(changed))
            if (value is True and usual is False) or (name in FREE and isinstance(value, (str, int, float))):
                continue
            if name in NUMBERS_TOO and value == 10**30:
                continue
            assert name in refused("run", parse, "--resume", folder), (name, value)
    (folder / "settings.json").write_text(json.dumps(settings))
    assert resuming.as_kept(parse("--resume", folder)) == settings["flags"]


def test_a_stranger_s_teacher_is_named_again_or_left_alone(parse, begun, tmp_path):
    (tmp_path / "teacher").mkdir()
    folder = begun("--teacher", tmp_path / "teacher")
    assert parse("--resume", folder).teacher == tmp_path / "teacher"
    settings = run_files.read_settings(folder)
    del settings["signature"]
    (folder / "settings.json").write_text(json.dumps(settings))
    assert "--teacher" in in_one_line(parse, "--resume", folder)
    (tmp_path / "elsewhere").mkdir()
    assert parse("--resume", folder, "--teacher", tmp_path / "elsewhere").teacher == tmp_path / "elsewhere"


def test_a_typo_is_told_with_what_was_meant(capsys):
    parser = Parser("A script.")
    parser.add_argument("--case", type=int)
    for arguments, told in (["--caes", "2"], "did you mean --case?"), (["--cas", "2"], "did you mean --case?"):
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(["--zzz"])
    assert "did you mean" not in capsys.readouterr().err
