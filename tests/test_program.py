"""How scripts end: one printable line and exit status 2, 130 after Ctrl-C, no traceback from a terminal or a pipe."""

import os
import subprocess
import sys

from common.program import run

import pytest
from conftest import ROOT, in_one_line, refused

from common import program
from common.errors import BadInput
from transfer.answers import most_probable, print_top

SCRIPT = """
import argparse, os, signal, sys
from common.errors import BadInput
from common.program import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
{before}
def main():
    {body}
run(main)
"""
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"


def script(body, before="", redirected="", python="", **environment):
    """Run a script whose `main` is `body`; `redirected` as a shell writes it."""
    program = SCRIPT.format(body=body, before=before)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "PYTHONUNBUFFERED": ""} | environment
    command = f'"$0" {python} -c "$1" {redirected}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, program], env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "x" * 5000, "\udcff", "\u202e", "停车"])
def test_a_mistake_is_one_printable_line(name, capsys):
    def main():
        raise BadInput(f"{name}: is no image; give another")

    def told():
        with pytest.raises(SystemExit) as end:
            run(main)
        out, err = capsys.readouterr()
        assert end.value.code == 2 and out == "" and err.startswith("error: ") and err.endswith("give another\n")
        raise BadInput(err.removeprefix("error: ").removesuffix("\n"))

    assert refused("run", told) == str(BadInput(f"{name}: is no image; give another"))


RAISED = {
    "open('/absent/\\n')": "error: /absent/\\n: No such file or directory; free space, or choose another place\n",
    "open('x' * 300)": "error: " + "x" * 300 + ": File name too long; free space, or choose another place\n",
    "raise OSError(5, 'Input/output error')": "error: Input/output error; free space, or choose another place\n",
    "raise MemoryError('Unable to allocate 2. TiB')": "error: not enough memory (Unable to allocate 2. TiB); take "
    "smaller batches, or fewer or smaller images\n",
}  # fmt: skip


@pytest.mark.parametrize("body", RAISED)
def test_what_the_system_refuses_is_one_line(body):
    done = script(body)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", RAISED[body])


def test_what_tensorflow_is_refused_is_one_line(capsys, tmp_path):
    """By the system, or for lack of memory; its other errors are faults of ours."""
    import tensorflow as tf

    def told(main):
        with pytest.raises(SystemExit) as end:
            run(main)
        assert end.value.code == 2
        return capsys.readouterr().err

    def full():  # as a graph that saves variables
        said = (
            f"Graph execution error:\n\n{tmp_path}/model; No space left on device\n\t [[{{{{node Save}}}}]] [Op:Save]"
        )
        raise tf.errors.ResourceExhaustedError(None, None, said)

    absent = f"{tmp_path}/a; b/x"
    advice = "free space, or choose another place\n"
    assert told(lambda: tf.io.read_file(absent)) == f"error: {absent}: No such file or directory; {advice}"
    assert told(full) == f"error: {tmp_path}/model: No space left on device; {advice}"
    expected = "not enough memory (for numbers of the shape[16777216,16777216])"
    assert told(lambda: tf.zeros((2**24, 2**24)) + 1).startswith(f"error: {expected}; take smaller batches")
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(lambda: tf.debugging.Assert(False, ["a file; No such file"]))


def test_a_fault_of_ours_shows_its_traceback():
    done = script("{}['absent']")
    assert done.returncode == 1 and done.stderr.startswith("Traceback") and "KeyError: 'absent'" in done.stderr


NO_SPACE = "error: No space left on device; free space, or choose another place\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("python", ["", "-u"])
@pytest.mark.parametrize("body", [
    "print('little')", "print('much' * 100_000)", "print('little'); sys.exit(3)",
    "argparse.ArgumentParser().parse_args(['--help'])", "print('much\\n' * 9); raise BadInput('the mistake')",
])  # fmt: skip
def test_a_full_stdout(body, python):
    done = script(body, redirected=">/dev/full", python=python)
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr
    if python and "help" in body:  # argparse keeps the error for itself, but for Python 3.11's first releases
        assert done.stderr == "" or done.stderr.endswith(NO_SPACE)
    else:
        assert done.returncode == 2 and done.stderr.endswith(NO_SPACE)
        assert ("the mistake" in done.stderr) == ("the mistake" in body and not python)  # else it is not reached


@pytest.mark.parametrize("body", ["print('little')", "print('much\\n' * 100_000)", "print(1); print(2, flush=True)"])
def test_a_reader_that_has_gone(body):
    done = script(f"import time; time.sleep(0.2); {body}", redirected="| true")
    assert done.stderr == ""


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
def test_closed_or_full_streams(redirected):
    assert script("print('little')", redirected=redirected).returncode == 0
    done = script("raise BadInput('the mistake')", redirected=redirected)
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_names_that_the_terminal_cannot_show(encoding):
    done = script("print('停车'); raise BadInput('停车: no such class')", PYTHONIOENCODING=encoding)
    shown = "停车" if encoding == "utf-8" else "\\u505c\\u8f66"
    assert (done.returncode, done.stdout, done.stderr) == (2, f"{shown}\n", f"error: {shown}: no such class\n")


@pytest.mark.parametrize(("body", "before"), [
    (INTERRUPT, ""), ("pass", INTERRUPT),
    (f"try: {INTERRUPT}\n    except KeyboardInterrupt: raise ImportError('half imported')", ""),
    ("pass", f"try: {INTERRUPT}\nexcept KeyboardInterrupt: raise ImportError('half imported')"),
])  # fmt: skip
def test_ctrl_c(body, before):
    done = script(body, before)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_after_the_work():
    """While Python closes, nothing handles it: the process would end by the signal, though all is done."""
    done = script(f"import atexit; atexit.register(lambda: {INTERRUPT}); print('done')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_program_that_imports_ours_keeps_its_hook():
    code = "import sys; sys.excepthook = lambda kind, *_: print(kind.__name__); import common.program; 1 / 0"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "ZeroDivisionError\n", "")


def test_a_place_whose_name_tensorflow_cannot_read(monkeypatch):
    monkeypatch.setattr(program, "__file__", "/home/caf\udce9/transfer/common/program.py")
    told = in_one_line(program.start_tensorflow)
    assert "/home/caf" in told and "/transfer: is not UTF-8 text, which TensorFlow needs; move the folder" in told


def test_classes_without_a_chance_are_not_listed(capsys):
    probabilities = [0.25, 0.0, 0.5, 0.25]
    assert most_probable(probabilities, 2) == [2, 0] and most_probable(probabilities, 4) == [2, 0, 3]
    print_top(0, "cat.jpg", probabilities, ["a", "b", "c", "d"], top=4)
    assert capsys.readouterr().out == "Image 0: cat.jpg\nc: 0.500\na: 0.250\nd: 0.250\n\n"


SCRIPTS = sorted(path for path in ROOT.glob("*.py") if "run(main)" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_ctrl_c_while_a_script_imports_the_slow_modules(path, tmp_path):
    """In NumPy's place stands a module during whose import the user presses Ctrl-C."""
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
