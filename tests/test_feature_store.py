"""Features are computed once, survive kill -9, are shared by processes, and are read in bounded memory."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from common.errors import BadInput
from transfer import feature_store

ROOT = pathlib.Path(__file__).resolve().parents[1]
KEY = {"network": "alexnet", "layer": "fc7", "precision": "float32"}
COUNT, BATCH, WIDTH = 50, 8, 6  # the last batch is smaller
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), dtype=np.uint8)
MATRIX = np.random.default_rng(1).standard_normal((48, WIDTH)).astype(np.float32)

# What the subprocesses share with this file: `compute` also writes down which batch it was asked for.
CHILD = f"""
    import os, pathlib, signal, sys, time
    sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
    import numpy as np
    from common import errors
    from transfer import feature_store
    from test_feature_store import BATCH, IMAGES, KEY, compute
    folder = pathlib.Path(sys.argv[1])

    def noted(images):
        with open(folder / "calls", "a") as calls:
            calls.write(f"{{int(np.flatnonzero((IMAGES == images[0]).all(axis=(1, 2, 3)))[0])}}\\n")
        return compute(images)
"""


def compute(images):
    """Each row depends on its whole batch, as a matrix product's last bits may."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    return flat @ MATRIX + flat.mean()


def expected():
    return np.concatenate([compute(IMAGES[row : row + BATCH]) for row in range(0, COUNT, BATCH)])


class Counted:
    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        return compute(images)


def store(folder, compute=compute, images=IMAGES, key=KEY):
    return feature_store.stored(images, compute, key, folder, batch_size=BATCH)


def start(folder, code, **options):
    program = textwrap.dedent(CHILD) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program, str(folder)], stderr=subprocess.PIPE, text=True, **options)


def computed(folder):
    return [int(line) for line in (folder / "calls").read_text().split()]


def test_features_are_those_of_compute_and_are_computed_once(tmp_path):
    first = store(tmp_path)
    np.testing.assert_array_equal(first[:], expected())
    assert first.shape == (COUNT, WIDTH) and len(first) == COUNT and first[:].dtype == np.float32
    counted = Counted()
    np.testing.assert_array_equal(store(tmp_path, counted)[:], expected())
    assert counted.calls == 0


def test_the_files_can_be_read_by_others(tmp_path):
    path = store(tmp_path).path
    assert path.name.startswith("alexnet-fc7-") and len(path.stem) == len("alexnet-fc7-") + 16
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), expected())
    assert json.loads(path.with_suffix(".json").read_text())["key"] == KEY
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".npy", ".sha256"]


@pytest.mark.parametrize("folder", ["file", None])
def test_rows_are_chosen_as_numpy_does(tmp_path, folder):
    features, array = store(folder and tmp_path), expected()
    mask = np.arange(COUNT) % 3 == 0
    for rows in (np.array([3, 0, 49, 3, 3, -1, -50]), slice(5, 40, 7), slice(None, None, -1), mask, [4, 2], 7, -1,
                 np.array([], int), np.array([[1, 2], [3, 4]])):  # fmt: skip
        np.testing.assert_array_equal(features[rows], array[rows], strict=True)
    for rows in (np.array([0, COUNT]), np.array([-COUNT - 1]), mask[:-1], np.array([0.5]), COUNT):
        with pytest.raises(IndexError):
            features[rows]


def test_no_cache_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(feature_store, "open", None, raising=False)
    features = store(None)
    assert isinstance(features, np.ndarray) and features.shape == (COUNT, WIDTH)
    np.testing.assert_array_equal(features[:], expected())
    assert not list(tmp_path.iterdir())


def test_another_image_order_shape_or_key_is_another_file(tmp_path):
    changed = IMAGES.copy()
    changed[30, 2, 2, 1] ^= 1
    others = [
        store(tmp_path, images=images).path
        for images in (IMAGES, changed, IMAGES[::-1], IMAGES[:-1], IMAGES.reshape(COUNT, 2, 8, 3))
    ]
    others += [store(tmp_path, key=KEY | change).path for change in ({"precision": "bfloat16"}, {"weights": "ab"})]
    assert len(set(others)) == len(others)
    assert store(tmp_path, images=np.asfortranarray(IMAGES)).path == others[0]  # the layout in memory does not matter


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("moment", ["compute", "half a row", "header", "record", "last rename"])
def test_killed_runs_are_continued_to_the_same_bits(tmp_path, moment):
    code = """
        moment = sys.argv[2]
        def die():
            os.kill(os.getpid(), signal.SIGKILL)
        def deadly(images):
            if moment == "compute" and (images[0] == IMAGES[4 * BATCH]).all():
                die()
            return noted(images)
        real_fsync, real_replace, synced = os.fsync, os.replace, []
        def fsync(handle):
            synced.append(handle)
            if moment == "half a row" and len(synced) == 4:
                os.ftruncate(handle, os.fstat(handle).st_size - 10)
                die()
            if moment == "header" and len(synced) == 1:
                os.ftruncate(handle, 90)
                die()
            real_fsync(handle)
        def replace(source, target):
            if moment == ("record" if str(target).endswith(".json") else "last rename"):
                die()
            real_replace(source, target)
        os.fsync, os.replace = fsync, replace
        feature_store.stored(IMAGES, deadly, KEY, folder, BATCH)
    """
    program = textwrap.dedent(CHILD) + textwrap.dedent(code)
    child = subprocess.run([sys.executable, "-c", program, str(tmp_path), moment], timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("*.npy"))
    counted = Counted()
    np.testing.assert_array_equal(store(tmp_path, counted)[:], expected())
    # of 7 batches: those that were never whole, and the last that was
    assert counted.calls == {"compute": 4, "half a row": 5, "header": 7, "record": 7, "last rename": 2}[moment]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_two_processes_compute_each_batch_once_and_the_second_goes_on_when_the_first_dies(tmp_path):
    code = """
        def slow(images):
            time.sleep(0.1)
            return noted(images)
        feature_store.stored(IMAGES, slow, KEY, folder, BATCH)
    """
    both = [start(tmp_path, code), start(tmp_path, code)]
    messages = [child.communicate(timeout=60)[1] for child in both]
    assert [child.returncode for child in both] == [0, 0], messages
    assert computed(tmp_path) == list(range(0, COUNT, BATCH))
    assert sorted(message.count("waiting for another process") for message in messages) == [0, 1]

    for path in (*tmp_path.glob("*.npy"), tmp_path / "calls"):
        path.unlink()
    both = [start(tmp_path, code)]
    wait_until(lambda: (tmp_path / "calls").exists())
    both.append(start(tmp_path, code))
    wait_until(lambda: len(computed(tmp_path)) >= 4)
    both[0].kill()
    assert both[1].communicate(timeout=60)[0] is None and both[1].returncode == 0
    both[0].communicate()
    calls = computed(tmp_path)
    assert set(calls) == set(range(0, COUNT, BATCH)) and calls.count(0) == 1 and len(calls) <= COUNT // BATCH + 3
    counted = Counted()
    np.testing.assert_array_equal(store(tmp_path, counted)[:], expected())
    assert counted.calls == 0


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


DAMAGES = ["cut", "longer", "no header", "record cut", "record of another", "record gone", "flipped", "other hash"]
DAMAGES += ["no hash", "a pipe", "a device", "damaged header"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_computed_again(tmp_path, damage, capsys):
    path = store(tmp_path).path
    record, content = path.with_suffix(".json"), path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "longer":
        path.write_bytes(content + b"\0")
    elif damage == "no header":
        path.write_bytes(b"\0" * len(content))
    elif damage == "record cut":
        record.write_text(record.read_text()[:-5])
    elif damage == "record of another":
        record.write_text(record.read_text().replace("float32", "bfloat16"))
    elif damage == "record gone":
        record.unlink()
    elif damage == "flipped":
        path.write_bytes(content[:700] + bytes([content[700] ^ 1]) + content[701:])
    elif damage == "damaged header":  # of the right length; numpy's reader raises a SyntaxError
        path.write_bytes(content.replace(b"{'descr'", b"{0'descr"))
    elif "hash" in damage:
        (tmp_path / f"{path.name}.sha256").write_text("0" * (64 if damage == "other hash" else 63))
    else:
        path.unlink()
        os.mkfifo(path) if damage == "a pipe" else path.symlink_to("/dev/zero")
    counted = Counted()
    np.testing.assert_array_equal(store(tmp_path, counted)[:], expected())
    assert counted.calls == 7 and path.read_bytes() == content
    assert ("changed since it was written" in capsys.readouterr().err) == (damage in TOLD)
    assert store(tmp_path, counted).path and counted.calls == 7


TOLD = ("cut", "longer", "no header", "flipped", "other hash", "no hash", "damaged header")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("damage", ["flipped", "other sum", "pipe", "device", "device for sums", "link elsewhere"])
def test_a_damaged_part_is_not_continued(tmp_path, damage):
    def stopped(images):
        if (images[0] == IMAGES[4 * BATCH]).all():
            raise KeyboardInterrupt
        return compute(images)

    folder = tmp_path / "features"
    with pytest.raises(KeyboardInterrupt):
        store(folder, stopped)
    (part,), (sums,) = folder.glob("*.part"), folder.glob("*.part.sha256")
    content = part.read_bytes()
    if damage == "flipped":
        part.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
    elif damage == "other sum":
        sums.write_text(sums.read_text().replace(f"{3 * BATCH} ", f"{3 * BATCH} 0"))
    elif damage == "device for sums":
        sums.unlink()
        sums.symlink_to("/dev/zero")
    else:
        (tmp_path / "elsewhere").write_bytes(content)
        part.unlink()
        os.mkfifo(part) if damage == "pipe" else part.symlink_to("/dev/zero" if damage == "device" else "../elsewhere")
    counted = Counted()
    np.testing.assert_array_equal(store(folder, counted)[:], expected())
    assert counted.calls == (4 if damage == "device for sums" else 7)  # without sums as earlier versions left it
    assert damage != "link elsewhere" or (tmp_path / "elsewhere").read_bytes() == content


def test_features_kept_by_an_earlier_version_are_used_if_their_hash_is_there(tmp_path):
    """Its files, byte by byte."""
    images = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
    name = "alexnet-fc7-5851452d9641a839"
    record = {"format": 1, "key": KEY, "pictures": "bf6e46916ec8a47cae4ea00de838bfd8634d484414b952bf00365949206d11d9"}
    (tmp_path / f"{name}.json").write_text(json.dumps(record, indent=2, sort_keys=True))
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"
    rows = np.array([0, 0.5, 6, 6.5, 12, 12.5], "<f4")
    (tmp_path / f"{name}.npy").write_bytes(header.ljust(127) + b"\n" + rows.tobytes())
    digest = hashlib.sha256((tmp_path / f"{name}.npy").read_bytes()).hexdigest()
    (tmp_path / f"{name}.npy.sha256").write_text(f"{digest}  {name}.npy\n")
    features = feature_store.stored(images, None, KEY, tmp_path, batch_size=2)
    assert features[:].tolist() == [[0, 0.5], [6, 6.5], [12, 12.5]]
    (tmp_path / f"{name}.npy.sha256").unlink()
    features = feature_store.stored(images, lambda batch: np.ones((len(batch), 2), np.float32), KEY, tmp_path)
    assert features[:].tolist() == [[1, 1]] * 3


def test_what_killed_runs_have_left_is_cleared_away(tmp_path):
    store(tmp_path)
    old, young = (f"vgg-{name * 16}.part" for name in "ab")
    mine = {"other.npy": 99, "thesis.pdf.part": 99, "x-0123.part": 99}  # browsers keep unfinished downloads so
    for name, age in {old: 8, f"{old}.sha256": 8, young: 6, **mine}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age * 24 * 3600,) * 2)
    store(tmp_path, images=IMAGES[1:])
    assert {path.name for path in tmp_path.iterdir() if "alexnet" not in path.name} == {young, *mine}


def test_a_part_whose_record_is_gone_or_that_is_no_part_is_not_continued(tmp_path):
    path = store(tmp_path).path
    for content in (path.read_bytes().replace(b"(50, 6)", b"(49, 6)"), b"\x93NUMPY nonsense", path.read_bytes() * 2):
        path.with_suffix(".part").write_bytes(content)
        path.unlink()
        np.testing.assert_array_equal(store(tmp_path)[:], expected())
    path.with_suffix(".part").write_bytes(path.read_bytes().replace(b"\0", b"\1"))
    path.with_suffix(".json").unlink()
    np.testing.assert_array_equal(store(tmp_path)[:], expected())


def test_the_fingerprint_is_of_every_pixel():
    """Of more images than are hashed at a time, too."""
    images = np.zeros((2 * feature_store.PIECE + 5, 2, 2, 3), np.uint8)
    expected = hashlib.sha256(f"uint8 {images.shape} ".encode() + images.tobytes()).hexdigest()
    assert feature_store.fingerprint(images) == expected
    for row in (0, feature_store.PIECE, len(images) - 1):
        changed = images.copy()
        changed[row, 1, 1, 2] = 1
        assert feature_store.fingerprint(changed) != expected


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("folder", ["file", None])
def test_features_that_are_not_finite_name_the_image(tmp_path, value, folder):
    def broken(images):
        features = compute(images)
        features[(images == IMAGES[21]).all(axis=(1, 2, 3)), 2] = value
        return features

    with pytest.raises(BadInput, match="^the network returned nan or inf for image 21: the weights"):
        store(folder and tmp_path, broken)
    counted = Counted()
    store(folder and tmp_path, counted)  # with sound weights of the same key: from the last sound batch on
    assert counted.calls == (6 if folder else 7)


def test_no_images(tmp_path):
    with pytest.raises(BadInput, match="no images"):
        store(tmp_path, images=IMAGES[:0])


def test_a_folder_that_takes_nothing(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BadInput, match="taken") as caught:
        store(tmp_path / "taken")
    assert "\n" not in str(caught.value)
    path = store(tmp_path).path
    path.unlink()
    path.mkdir()
    with pytest.raises(BadInput, match="cannot be kept .*--no_cache"):
        store(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_one_line_and_what_was_written_stays(tmp_path):
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            feature_store.stored(IMAGES, noted, KEY, folder, BATCH)
        except errors.BadInput as error:
            sys.exit(str(error))
    """
    message = start(tmp_path, code).communicate(timeout=60)[1]
    assert "cannot be kept (File too large); free space" in message and message.count("\n") == 1
    counted = Counted()
    np.testing.assert_array_equal(store(tmp_path, counted)[:], expected())
    assert counted.calls == 4  # 4 batches of 192 bytes went in whole behind 128 bytes of header; 3 are trusted


def test_deleted_while_in_use(tmp_path):
    features = store(tmp_path)
    features.path.write_bytes(features.path.read_bytes()[:-1])
    features[: COUNT - 1]
    with pytest.raises(BadInput, match="too short.*start again"):
        features[[COUNT - 1]]
    features.path.unlink()
    with pytest.raises(BadInput, match="changed while in use"):
        features[:2]


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="no /proc here")
def test_reading_takes_no_memory_that_grows_with_the_images(tmp_path):
    code = """
        images = np.zeros((8192, 1, 1, 3), np.uint8)
        wide = lambda images: np.ones((len(images), 4096), np.float32)  # 134 MB in all

        def resident():
            return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])  # peak, in KiB

        feature_store.stored(images[:1024], wide, KEY, folder)[:128]
        before = resident()
        features = feature_store.stored(images, wide, KEY, folder)
        for _ in range(2):
            for rows in np.random.default_rng(0).permutation(8192).reshape(-1, 128):
                assert features[rows].all()
        sys.exit(f"{(resident() - before) / 1024}")
    """
    grown = float(start(tmp_path, code).communicate(timeout=60)[1])  # MB
    assert grown < 16


def test_a_bar_while_computing_none_when_all_is_there(tmp_path, monkeypatch):
    bars = []

    class Bar(feature_store.tqdm):
        def __init__(self, **options):
            bars.append((options["initial"], options["total"]))
            super().__init__(**options)

    monkeypatch.setattr(feature_store, "tqdm", Bar)

    def stopped(images):
        if (images[0] == IMAGES[3 * BATCH]).all():
            raise KeyboardInterrupt
        return compute(images)

    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, stopped)
    store(tmp_path)
    store(tmp_path)
    assert bars == [(0, COUNT), (2 * BATCH, COUNT)]


def test_an_unwritable_folder_still_gives_what_it_has(tmp_path, monkeypatch):
    store(tmp_path)
    monkeypatch.setattr(os, "replace", None)
    monkeypatch.setattr(feature_store, "one_at_a_time", None)
    np.testing.assert_array_equal(store(tmp_path)[:], expected())
