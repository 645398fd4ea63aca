"""Folders of runs: one for each run however many start at once, locked, and believed only as far as their hashes go."""

import concurrent.futures
import json
import os
import shlex
import threading

import numpy as np
import pytest
from conftest import in_one_line, refused
from PIL import Image

from common.errors import BadInput
from data import own_images
from data.datasets import Dataset
from data.splits import Split
from transfer import exports, results, run_files, runs, trained
from weights import heads
from weights.heads import Provenance

ORIGIN = Provenance("googlenet", "pool5", 64, False, "float32", "random", 0, "0" * 16, "signs", 0.5, 32, "whole", 0)
EPOCHS = [{"epoch": number, "seconds": 1.0, "loss": 1 / number, "accuracy": 0.5, "validation_loss": 1 / number,
           "validation_accuracy": 0.5} for number in (1, 2, 3)]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    return runs.begin("script", {"epochs": 3}, "the split", ORIGIN.fingerprint)


def split_of(labels):
    dataset = Dataset(np.zeros((len(labels), 1, 1, 3), np.uint8), np.array(labels), ["a", "b"], None, "made up")
    return Split(dataset, np.arange(len(labels) - 1), np.array([len(labels) - 1]))


def test_a_run_is_begun_then_resumed(folder, tmp_path):
    """folder: puts the runs into `tmp_path`."""
    split, flags = split_of([0, 1, 0]), {"out": None, "demo": True, "epochs": 3}
    begun = runs.begin_or_resume(None, "script", flags, split, ORIGIN)
    assert begun.folder.name.startswith("demo-script-")
    assert run_files.read_settings(begun.folder)["flags"] == flags | {"precision": ORIGIN.precision}
    assert (begun.class_names, begun.provenance, begun.writes) == (["a", "b"], ORIGIN, True)
    again = runs.begin_or_resume(begun.folder, "script", flags, split, ORIGIN)
    assert again.folder == begun.folder
    message = in_one_line(runs.begin_or_resume, begun.folder, "script", flags, split_of([0, 1, 1]), ORIGIN)
    assert "the images have changed since it was begun" in message
    out = flags | {"out": str(tmp_path / "mine")}
    assert runs.begin_or_resume(None, "script", out, split, ORIGIN).folder == tmp_path / "mine"
    assert runs.begin_or_resume(None, "script", flags, split, ORIGIN, chief=False).folder is None


def test_a_log_has_the_name_of_its_run(folder, tmp_path):
    logs = tmp_path / "logs"
    assert runs.log_folder(logs, runs.Run(folder, ORIGIN, []), "script") == logs / folder.name
    assert runs.log_folder(logs, None, "script") == logs / "script"  # nothing is kept
    assert runs.log_folder(None, None, "script") is None


def test_runs_that_start_in_the_same_second_get_a_folder_each(folder):
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        folders = list(pool.map(lambda _: runs.begin("script", {}, "", ""), range(60)))
    assert len({folder, *folders}) == 61 and all((each / run_files.SETTINGS).exists() for each in folders)


@pytest.mark.parametrize("name", [
    "head.npz", "network-3.npz", "history.json", "checkpoint/ckpt-1.index", "known.npz", "curves.png", "filters.png",
    "validation-confusion.csv", "test-mistakes.png",
])  # fmt: skip
def test_somebody_s_files_are_not_replaced_by_a_run(name, folder, tmp_path):
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert "belongs to no run" in in_one_line(runs.begin, "script", {}, "", "", tmp_path / "mine")
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [mine]
    mine.rename(tmp_path / "mine" / "notes.txt")
    if mine.parent.name == "checkpoint":
        mine.parent.rmdir()
    assert runs.begin("script", {}, "", "", tmp_path / "mine") == tmp_path / "mine"


def test_only_its_owner_reads_the_key(folder):
    assert oct((run_files.RUNS_DIR / run_files.KEY).stat().st_mode & 0o777) == "0o600"


def test_where_only_a_demo_has_run_the_flag_is_named(folder, monkeypatch):
    runs.begin("demos", {"demo": True}, "", "", demo=True)
    assert run_files.find(run_files.NEWEST, "demos", demo=True).name.startswith("demo-")
    assert "but of its demo: add --demo" in in_one_line(run_files.find, run_files.NEWEST, "demos")
    assert "start one without --resume" in in_one_line(run_files.find, run_files.NEWEST, "nobody")


def test_a_path_that_tensorflow_cannot_write_is_refused_before_the_training(folder, tmp_path):
    """A name in Latin-1, as old disks have it."""
    path = tmp_path / "caf\udce9" / "run"
    assert "is not UTF-8 text" in in_one_line(runs.begin, "script", {}, "", "", path)
    assert "is not UTF-8 text" in in_one_line(exports.check, path)
    assert not path.parent.exists()


@pytest.mark.parametrize("letter", "*?[")
def test_a_model_whose_path_is_a_pattern_could_not_be_read(letter, tmp_path):
    for path in (tmp_path / f"my{letter}model", tmp_path / f"my{letter}folder" / "model"):
        assert f"does not read a model from a path with {letter}" in in_one_line(exports.check, path)
    exports.check(tmp_path / f"my{letter}model.tflite")


def test_a_run_goes_on_with_the_teacher_that_it_was_begun_with(folder, tmp_path):
    run = runs.Run(folder, ORIGIN, ["a", "b"])
    for _ in range(2):
        run.check_teacher("wise")
    assert run_files.begun_here(folder) and run_files.read_settings(folder)["flags"] == {"epochs": 3}
    assert "was begun with another teacher" in in_one_line(run.check_teacher, "wiser")
    runs.Run(None, ORIGIN, ["a", "b"], writes=False).check_teacher("wiser")  # a worker that knows no folder


def test_a_link_to_a_head_is_the_head(folder, tmp_path):
    """What belongs to it lies in its own folder."""
    heads.save(heads.untrained(4, ["a", "b"], provenance=ORIGIN), folder / heads.FILE)
    (tmp_path / "best.npz").symlink_to(folder / heads.FILE)
    assert trained.find(tmp_path / "best.npz") == (folder / heads.FILE).resolve()
    assert trained.find(folder) == folder / heads.FILE


def test_the_newest_run_that_has_a_file(folder):
    assert run_files.newest("no such file") is None
    assert run_files.newest(run_files.SETTINGS) == folder
    earlier = runs.begin("another", {}, "", "")
    os.utime(earlier / run_files.SETTINGS, (1, 1))
    assert (
        run_files.newest(run_files.SETTINGS) == folder
        and run_files.newest(run_files.SETTINGS, script="another") == earlier
    )
    assert run_files.newest(run_files.SETTINGS, demo=True) is None


def test_a_run_is_trained_by_one_process_at_a_time(folder):
    first, second = (runs.Run(folder, ORIGIN, ["a", "b"]) for _ in range(2))
    with first.locked():
        assert run_files.is_locked(folder)
        assert "is being trained by another process" in in_one_line(second.locked().__enter__)
    assert not run_files.is_locked(folder)


def test_other_images_than_those_it_was_begun_with(folder):
    run = runs.Run(folder, ORIGIN, ["a", "b"])
    run.check("the split")
    assert "the images have changed since it was begun" in in_one_line(run.check, "another split")


def test_images_that_have_changed_in_the_same_rows(tmp_path, monkeypatch):
    """One of two images per class is renamed: labels and rows stay, but another image would be trained on."""
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    names = [tmp_path / "pets" / name for name in ("cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png")]
    for number, path in enumerate(names):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)

    def opened(folder):
        split, _ = own_images.load_split(tmp_path / "pets", None, "crop", 8, 8, cache=tmp_path / "kept")
        return runs.begin_or_resume(folder, "script", {"out": None, "demo": False}, split, ORIGIN).folder

    folder = opened(None)
    assert opened(folder) == folder
    names[0].rename(names[0].with_name("c.png"))
    assert "the images have changed since it was begun (added, removed, renamed" in in_one_line(opened, folder)
    settings = run_files.read_settings(folder)
    del settings["images"]  # begun by an earlier version
    (folder / run_files.SETTINGS).write_text(json.dumps(settings))
    assert opened(folder) == folder


def test_images_that_are_framed_otherwise(folder):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    assert runs.as_seen(images, ORIGIN) != runs.as_seen(images, ORIGIN._replace(how="crop", resized=9))


def test_other_weights_than_those_it_was_begun_with(folder):
    """A head for the features of one network would be trained further on those of another."""
    run = runs.Run(folder, ORIGIN._replace(fingerprint="1" * 16, weights="other.npz"), ["a", "b"])
    assert "other weights of the network than other.npz" in in_one_line(run.check, "the split")
    run.provenance = run.provenance._replace(weights=None)
    assert "other weights of the network than the published ones" in in_one_line(run.check, "the split")


def test_a_network_that_is_replaced_while_its_run_trains(folder):
    """Between a look at the head and one at the network that it names, a better epoch may have been kept."""
    head = heads.untrained(4, ["a", "b"], provenance=ORIGIN._replace(weights="network-1.npz"))
    heads.save(head, folder / heads.FILE)
    assert "which is gone; name its new place with --weights" in in_one_line(trained.load, folder)
    with runs.Run(folder, ORIGIN, ["a", "b"]).locked():
        assert "another epoch has been kept meanwhile; try again" in in_one_line(trained.load, folder)


def test_demos_are_kept_apart_wherever_they_lie(folder):
    """By the flag that a run was begun with; by the folder's name where it is not kept."""
    mine = runs.begin("script", {"demo": True}, "", "", run_files.RUNS_DIR / "mine", demo=True)
    named = runs.begin("script", {"demo": False}, "", "", run_files.RUNS_DIR / "demo-of-mine")
    old = runs.begin("script", {}, "", "", demo=True)
    assert [run_files.is_demo(each) for each in (folder, mine, named, old)] == [False, True, False, True]
    for number, each in enumerate((named, folder, old, mine)):
        os.utime(each / run_files.SETTINGS, (number, number))
    assert run_files.newest(run_files.SETTINGS) == folder and run_files.newest(run_files.SETTINGS, demo=True) == mine


def test_the_command_that_comes_next_finds_the_run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = runs.begin("script", {}, "", "", tmp_path / "else where")
    for number, each in enumerate((folder, elsewhere)):
        heads.save(heads.untrained(4, ["a", "b"], provenance=ORIGIN), each / heads.FILE)
        os.utime(each / heads.FILE, (number, number))
    plain = "python feature_extraction.py YOUR_IMAGE.jpg"
    assert results.next_step(folder, False, ["a"]).endswith(plain)
    told = results.next_step(elsewhere, False, ["a"])
    assert told.endswith("python feature_extraction.py --head 'else where' YOUR_IMAGE.jpg")
    assert " --demo --head runs/" in results.next_step(folder, True, ["a"])  # begun without --demo
    newer = runs.begin("script", {}, "", "", tmp_path / "runs" / "newer")
    heads.save(heads.load(folder), newer / heads.FILE)
    assert " --head runs/script-" in results.next_step(folder, False, ["a"])


def test_the_accuracy_of_the_report_is_what_is_remembered(folder):
    head = heads.Head(np.ones((4, 2), np.float32), np.zeros(2, np.float32), ["a", "b"], ORIGIN)
    heads.save(head, folder / heads.FILE)
    runs.Run(folder, ORIGIN, ["a", "b"]).remember(0.25)
    kept = heads.load(folder / heads.FILE)
    assert kept.provenance == ORIGIN._replace(validation_accuracy=0.25)
    np.testing.assert_array_equal(kept.kernel, head.kernel)


def test_the_head_to_beat_is_the_one_that_was_kept(folder):
    """A resumed run trains its head again, maybe with another teacher or precision."""
    head = [dict(EPOCHS[0], validation_loss=0.7)]
    other = [dict(EPOCHS[0], validation_loss=0.1)]
    run = runs.Run(folder, ORIGIN, ["a", "b"])
    run.head_history = head
    run._write_history(EPOCHS[:2], kept=2)
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "ckpt-2.index").touch()
    again = runs.Run(folder, ORIGIN, ["a", "b"])
    assert again.keep_head(None, other) == head and again.head_history == head
    assert runs.Run(None, ORIGIN, ["a", "b"], writes=False).keep_head(None, other) == other  # a worker of a new run


def test_the_command_after_ctrl_c_can_be_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    run = runs.Run(runs.begin("script", {}, "", "", tmp_path / "my run"), ORIGIN, [])
    with pytest.raises(KeyboardInterrupt), run.locked():
        raise KeyboardInterrupt
    assert shlex.split(capsys.readouterr().err)[-3:] == ["script.py", "--resume", "my run"]


def test_a_run_that_cannot_be_written_is_not_taken_for_one_in_training(folder, monkeypatch):
    def closed(path, refusal):
        raise BadInput(f"{path}: cannot be written (Permission denied); choose another place")

    (folder / run_files.HISTORY).write_text(json.dumps({"ended": False, "epochs": EPOCHS}))
    monkeypatch.setattr("common.locks.exclusive", closed)
    assert run_files.state(folder) == "unfinished, 3 epochs so far"


def test_only_settings_that_were_signed_here_are_trusted(folder):
    assert run_files.begun_here(folder)
    settings = json.loads((folder / run_files.SETTINGS).read_text())
    settings["flags"]["cache"] = "/somewhere/else"
    (folder / run_files.SETTINGS).write_text(json.dumps(settings))
    assert not run_files.begun_here(folder)
    assert run_files.read_settings(folder)["flags"]["cache"] == "/somewhere/else"  # read, not trusted


def test_links_in_a_run_lead_nowhere(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("template.txt", ".x.part", "ckpt-9.index"):
        (elsewhere / name).write_text("mine")
    (folder / "checkpoint").symlink_to(elsewhere)
    assert "is a link" in in_one_line(runs.Run(folder, ORIGIN, ["a", "b"]).restore, [], [])
    (folder / "checkpoint").unlink()
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "ckpt-1_temp").symlink_to(elsewhere)
    assert runs.Run(folder, ORIGIN, ["a", "b"]).restore([], []) == []
    assert not list((folder / "checkpoint").iterdir()) and len(list(elsewhere.iterdir())) == 3
    (folder / ".lock").symlink_to(elsewhere / "made")
    with runs.Run(folder, ORIGIN, ["a", "b"]).locked():
        assert run_files.is_locked(folder) and not (elsewhere / "made").exists()


def test_what_a_killed_run_was_writing_is_deleted_and_what_others_write_is_not(folder):
    """An evaluation, or an export into the run's folder, may be at work while the run goes on."""
    others = {".test-per_class.csv.x1.part", ".test-confusion.png.x1.part", ".signs.tflite.x1.part"}
    for name in {".head.npz.x1.part", ".network-12.npz.x1.part", ".history.json.x1.part", ".settings.json.x1.part",
                 ".validation-per_class.csv.x1.part", *others}:  # fmt: skip
        (folder / name).touch()
    assert runs.Run(folder, ORIGIN, ["a", "b"]).restore([], []) == []
    assert {path.name for path in folder.iterdir()} == {run_files.SETTINGS, *others}


def test_a_history_without_its_checkpoint_is_not_started_anew(folder):
    run = runs.Run(folder, ORIGIN, ["a", "b"])
    run._write_history(EPOCHS, kept=0)
    assert "3 epochs in history.json, no checkpoint" in in_one_line(run.restore, [], [])


def test_runs_that_start_at_the_same_moment_make_one_key(tmp_path, monkeypatch):
    start = threading.Barrier(8)

    def sign(_):
        start.wait()
        return run_files._signature({"script": "x"})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number in range(50):
            monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / str(number))
            signatures = set(pool.map(sign, range(8)))
            assert len(signatures) == 1 and [path.name for path in run_files.RUNS_DIR.iterdir()] == [run_files.KEY]


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33), None])
def test_a_damaged_key_signs_nothing(folder, content):
    (run_files.RUNS_DIR / run_files.KEY).unlink()
    if content is None:
        os.mkfifo(run_files.RUNS_DIR / run_files.KEY)
    else:
        (run_files.RUNS_DIR / run_files.KEY).write_bytes(content)
    assert not run_files.begun_here(folder)
    assert ".key" in in_one_line(runs.begin, "script", {}, "", "")


@pytest.mark.parametrize("signature", ["é", "\udcff", "", None, 1, [], {"a": 1}, "0" * 64])
def test_signatures_that_are_none(folder, signature):
    settings = json.loads((folder / run_files.SETTINGS).read_text()) | {"signature": signature}
    (folder / run_files.SETTINGS).write_text(json.dumps(settings))
    assert not run_files.begun_here(folder)


CHANGES = {
    "another loss": lambda content: content["epochs"][0].update(loss=0.1),
    "an epoch less": lambda content: content["epochs"].pop(),
    "another result": lambda content: content.update(kept=1),
    "nan": lambda content: (content["epochs"][0].update(loss=float("nan")), content.pop("sha256")),
    "epochs out of order": lambda content: (content["epochs"].reverse(), content.pop("sha256")),
    "a text for a number": lambda content: (content["epochs"][0].update(loss="1"), content.pop("sha256")),
    "a result that is none": lambda content: (content.update(kept=4), content.pop("sha256")),
    "a text for a result": lambda content: (content.update(kept="x"), content.pop("sha256")),
    "a head's epoch without number": lambda content: (
        content["head"].append({**EPOCHS[0], "epoch": None}),
        content.pop("sha256"),
    ),
    "no epochs": lambda content: (content.pop("epochs"), content.pop("sha256")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_history_that_was_changed(folder, change):
    runs.Run(folder, ORIGIN, ["a", "b"])._write_history(EPOCHS, kept=0)
    assert run_files.read_history(folder)["epochs"] == EPOCHS
    content = json.loads((folder / run_files.HISTORY).read_text())
    CHANGES[change](content)
    (folder / run_files.HISTORY).write_text(json.dumps(content))
    assert "history.json" in refused("run", run_files.read_history, folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"script": 1, "flags": {}}', '{"script": "x", "flags": []}', "\x00"]
)
def test_settings_that_are_none(folder, content):
    (folder / run_files.SETTINGS).write_text(content)
    assert "settings.json" in refused("run", run_files.read_settings, folder) and not run_files.begun_here(folder)
