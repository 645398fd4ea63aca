"""Zips from elsewhere, as archives of signs and as a Keras model: small files that would take gigabytes or minutes."""

import struct
import zipfile

import pytest
from conftest import in_one_line, refused

from common import zips
from data import gtsrb_archive
from weights import keras_files

SHAPES = {"conv/kernel": (3, 3, 3, 4), "conv/bias": (4,)}
CSV = "GTSRB/Final_Training/Images/00000/GT-00000.csv"
HOSTILE = {
    "bzip2": ({CSV: bytes(10_000)}, zipfile.ZIP_BZIP2, "in an unusual way"),
    "LZMA": ({CSV: bytes(10_000)}, zipfile.ZIP_LZMA, "in an unusual way"),
    "deep names": ({"a/" * 11: b""}, zipfile.ZIP_STORED, "nested too deeply"),
    "long names": ({"a" * 1001: b""}, zipfile.ZIP_STORED, "too long a name"),
}


def write(path, members, compression):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members(kind, tmp_path):
    members, compression, said = HOSTILE[kind]
    write(tmp_path / "signs.zip", members, compression)
    assert said in refused("signs", gtsrb_archive.read_archive, tmp_path / "signs.zip")
    assert said in refused("signs", gtsrb_archive.read_pickle_in, tmp_path / "signs.zip", "train.p")
    write(tmp_path / "model.keras", {"metadata.json": b"{}"} | members, compression)
    assert said in in_one_line(keras_files.read, tmp_path / "model.keras", SHAPES, "VGG16")


def test_a_list_of_too_many_members_is_not_read(tmp_path, monkeypatch):
    record = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, *[0] * 7, 8, *[0] * 6)
    listed = b"".join(record + b"%08d" % number for number in range(20_000))
    sizes = struct.pack("<2Q", len(listed), 30)
    end = b"PK\6\6" + struct.pack("<Q2H2I2Q", 44, 45, 45, 0, 0, 20_000, 20_000) + sizes
    end += b"PK\6\7" + struct.pack("<IQI", 0, 30 + len(listed), 1)
    end += b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path = tmp_path / "signs.zip"
    path.write_bytes(b"PK\3\4" + bytes(26) + listed + end)
    monkeypatch.setattr(gtsrb_archive, "MOST_LISTED", 1_000_000)
    assert "its list of members is too long" in refused("signs", gtsrb_archive.read_archive, path)
    with open(path, "rb") as file, zips.opened(file, 2_000_000) as archive:
        assert len(archive.infolist()) == 20_000
