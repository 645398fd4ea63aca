"""Every reader of foreign files, on damaged ones by the thousand: `python -m pytest -m fuzz` (25 minutes)."""

import os
import re
import subprocess
import sys

import pytest
from conftest import REFUSED, ROOT

pytest.importorskip("resource", reason="limits are not known here")
import fuzzing

INPUTS = os.environ.get("FUZZ_INPUTS", "10000")  # for each reader; those marked as slow take fewer; 111,600 in all


@pytest.mark.parametrize("name", fuzzing.READERS)
def test_what_is_damaged_is_sound_before(name, tmp_path):
    reader = fuzzing.READERS[name]
    for sample in reader.corpus:
        path = tmp_path / f"input{reader.suffix}"
        path.write_bytes(sample.pack(sample.members) if isinstance(sample, fuzzing.Packed) else sample)
        reader.read(path)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", fuzzing.READERS)
def test_damaged_files_end_in_one_line_in_bounded_time_and_memory(name, tmp_path):
    command = [sys.executable, "tests/fuzzing.py", name, "--inputs", INPUTS, "--keep", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-2000:]}\nits input is in {tmp_path}"
    REFUSED[f"fuzzed {name}"] += int(re.search(r"'refused': (\d+)|$", done.stdout)[1] or 0)
