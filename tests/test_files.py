"""common/errors.py, files.py, writing.py: one printable line whatever goes wrong, files written whole."""

import errno
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import tokenize
import warnings
import zlib

import pytest
from conftest import ROOT, refused

from common.errors import BadInput, foreign, printable
from common.files import open_regular
from common.locks import exclusive
from common.writing import check_new_folder, check_writable, folder_written_whole, written_whole

NO_REGULAR_FILES = {
    "absent": "No such file", "folder": "is a folder", "pipe": "is a pipe", "link to a pipe": "is a pipe",
    "socket": "is a socket", "/dev/zero": "is a device", "link to zero": "is a device", "/dev/null": "is a device",
    "link to itself": "Too many levels", "dangling link": "No such file", "null\0character": "null",
    "n" * 300: "too long",
    "below/a/file": "Not a directory",
}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("case", NO_REGULAR_FILES)
def test_only_regular_files_are_opened(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # sockets have short names
    pathlib.Path("folder").mkdir()
    os.mkfifo("pipe")
    os.symlink("pipe", "link to a pipe")
    os.symlink("/dev/zero", "link to zero")
    os.symlink("link to itself", "link to itself")
    os.symlink("nowhere", "dangling link")
    pathlib.Path("below").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        message = refused("open_regular", open_regular, case, "a photo")
    assert NO_REGULAR_FILES[case] in message and message.endswith("give the path of a photo")


def test_a_regular_file_and_a_link_to_one(tmp_path):
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for path in (tmp_path / "file", str(tmp_path / "link")):
        with open_regular(path) as file:
            assert file.read() == b"bytes" and file.name == str(path)


def test_a_pipe_that_takes_the_files_place_is_noticed(tmp_path, monkeypatch):
    """Between the look and the opening: the look is at another file."""
    os.mkfifo(tmp_path / "pipe")
    regular = os.stat(__file__)
    monkeypatch.setattr(os, "stat", lambda path: regular)
    assert "is a pipe" in refused("open_regular", open_regular, tmp_path / "pipe")


RAISED = [
    tokenize.TokenError("EOF in multi-line statement"), SyntaxError("invalid syntax"), zlib.error("Error -3"),
    OverflowError("too large"), IndexError(), RecursionError("maximum recursion depth exceeded"), MemoryError(),
    ValueError("line 1\nline 2 \x1b[31m"), KeyError("kernel\n"), EOFError(), OSError(errno.EIO, "Input/output error"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), AssertionError(), TypeError("x" * 10_000),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_reader_raises_is_one_line(error):
    def read():
        with foreign("file\n\x1b]0;title\a.npz", "a .npz of arrays"):
            raise error

    message = refused("foreign", read)
    assert message.startswith("file\\n\\x1b]0;title\\x07.npz: is damaged, or not a .npz of arrays (")
    assert message.endswith("; delete it, and fetch or make it again") and "()" not in message


def test_what_is_no_fault_of_the_file_goes_through():
    with pytest.raises(KeyboardInterrupt), foreign("file", "a list"):
        raise KeyboardInterrupt
    with pytest.raises(BadInput, match="^mine$"), foreign("file", "a list"):
        raise BadInput("mine")


def test_a_readers_warnings_are_kept_back():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with foreign("file", "a list"):
            warnings.warn("an old format", stacklevel=1)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\r", "\u202egnp.exe", "\ud800", "\u2028", "\0", "\x9b31m"])
def test_messages_are_printable_and_keep_both_ends(name):
    assert str(BadInput(f"{name}: is damaged")).isprintable()
    message = str(BadInput(f"data/{name * 1000}: is damaged; delete it"))
    assert message.isprintable() and len(message) == 500
    assert message.startswith("data/") and message.endswith("is damaged; delete it")


def test_readable_names_stay_as_they_are():
    assert printable("停车 naïve café") == "停车 naïve café"
    assert printable("x" * 500, 500) == "x" * 500
    for persian_and_fullwidth in "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "red\u3000apple":
        assert printable(persian_and_fullwidth) == persian_and_fullwidth


@pytest.mark.skipif(os.name == "nt", reason="no locks of this kind")
def test_temporary_files_of_killed_writers_are_deleted_those_at_work_are_not(tmp_path):
    path = tmp_path / "head[1].npz"
    with written_whole(path) as temporary:
        left = [tmp_path / f".head[1].npz.{name}.part" for name in ("killed", "just begun")]
        for one in (*left, tmp_path / ".head1.npz.another.part"):
            one.write_text("half")
        for old in (temporary, left[0], tmp_path / ".head1.npz.another.part"):
            os.utime(old, (time.time() - 100,) * 2)
        check_writable(path)
        assert [one.exists() for one in (temporary, *left)] == [True, False, True]
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        ".head1.npz.another.part",
        ".head[1].npz.just begun.part",
        path.name,
    ]


def written_to(folder):
    check_new_folder(folder, "--export")
    with folder_written_whole(folder, last="model") as temporary:
        assert not folder.exists() or not any(folder.iterdir())
        for name in "model", "variables":
            (temporary / name).mkdir()
            (temporary / name / "file").write_text("whole")
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("place", ["new", "above/new", "empty", ".", "link", "dangling"])
def test_folders_are_written_whole_wherever_one_may_name_them(place, tmp_path, monkeypatch):
    """An empty folder stays the same one: a shell may stand in it, or a link or a disk lead there."""
    here = tmp_path / "here"
    (tmp_path / "empty").mkdir()
    here.mkdir()
    (tmp_path / "link").symlink_to("empty")
    monkeypatch.chdir(here)
    before = here.stat().st_ino
    if place == "dangling":
        (tmp_path / "dangling").symlink_to("nowhere")
        assert "exists already" in refused("check_new_folder", check_new_folder, tmp_path / place, "--export")
        return
    folder = pathlib.Path(".") if place == "." else tmp_path / place
    assert written_to(folder) == ["model", "variables"]
    assert here.stat().st_ino == before == os.stat(".").st_ino and (tmp_path / "link").is_symlink()
    assert not [path for path in tmp_path.rglob("*.part")]


def test_a_folder_that_could_not_be_filled_leaves_nothing(tmp_path):
    for folder in tmp_path / "new", tmp_path:
        with pytest.raises(KeyboardInterrupt), folder_written_whole(folder, last="model") as temporary:
            (temporary / "model").mkdir()
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir()) and not list(tmp_path.parent.glob(f".{tmp_path.name}*"))


def test_a_folder_is_filled_with_all_or_nothing(tmp_path, monkeypatch):
    """On another disk entries are copied, and it may be full."""
    (tmp_path / "there").mkdir()
    move = shutil.move

    def moved(source, target):
        if source.name == "model":
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(shutil, "move", moved)
    with pytest.raises(KeyboardInterrupt):
        written_to(tmp_path / "there")
    monkeypatch.undo()
    assert written_to(tmp_path / "there") == ["model", "variables"]


@pytest.mark.skipif(os.name == "nt", reason="no locks of this kind")
def test_what_killed_writers_leave_of_a_folder_is_deleted(tmp_path):
    left = tmp_path / ".model.killed.part"
    left.mkdir()
    (left / "file").write_text("half")
    with folder_written_whole(tmp_path / "model", last="model") as at_work:
        for old in left, at_work:
            os.utime(old, (time.time() - 100,) * 2)
        with folder_written_whole(tmp_path / "model", last="model"):
            assert at_work.exists() and not left.exists()


@pytest.mark.skipif(os.name == "nt", reason="no permissions of this kind")
def test_a_folder_has_the_permissions_of_any_other(tmp_path):
    before = os.umask(0o027)
    try:
        written_to(tmp_path / "model")
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o750


NOT_WRITABLE = {
    "folder": "it is a folder",
    "file/below": "is not a folder",
    "file/below/it": "file is not a folder",
    "n" * 300: "too long",
    "null\0": "null",
}


@pytest.mark.parametrize("name", NOT_WRITABLE)
def test_places_that_cannot_be_written(name, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert NOT_WRITABLE[name] in refused("check_writable", check_writable, tmp_path / name)


def test_a_lock_where_files_are_numbered_anew_at_each_look_keeps_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "samestat", lambda one, other: False)
    with exclusive(tmp_path / "lock", "held"):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


PROCESS = """
import pathlib, sys, time
from common.locks import one_at_a_time
counter = pathlib.Path(sys.argv[1])
for _ in range(20):
    with one_at_a_time(counter.with_name("lock"), "waiting"):
        count = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(count + 1))
"""


def test_one_at_a_time_counts_to_the_end(tmp_path):
    """Each process reads a number and writes the next; the lock's file is deleted and made again 80 times."""
    (tmp_path / "counter").write_text("0")
    command = [sys.executable, "-c", PROCESS, tmp_path / "counter"]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "counter").read_text() == "80" and not (tmp_path / "lock").exists()
