"""What kind of file is it? Recognised by the first and last bytes, whatever its name; nothing in it is run.

    kind_of("weights.npy")        # "an HTML page": the download was an error page

Readers choose by it how to read a file, and name it in the message when it is something else.
"""

import os
import pathlib
import re
import struct

from common.files import open_regular

HEAD, TAIL = 4096, 16  # bytes that are looked at

EMPTY = "an empty file"
NPY = "a .npy file"
NPZ = "a .npz file"
HDF5 = "an HDF5 file (.h5)"
KERAS = "a Keras model (.keras)"
ZIP = "a zip archive"
PYTORCH = "a PyTorch file (.pth)"
PICKLE = "a pickle"
CAFFEMODEL = "a .caffemodel"
TEXT = "a text file"
PROTOTXT = "a Caffe .prototxt, a network without its weights"
UNKNOWN = "data of an unknown kind"

MAGIC = {  # kind -> (offset, bytes) pairs; any of them decides
    "a Git LFS pointer, not the file itself": [(0, b"version https://git-lfs.github.com/spec")],
    "a git-annex pointer, not the file itself": [(0, b"/annex/objects/"), (0, b"../.git/annex/")],
    NPY: [(0, b"\x93NUMPY")],
    HDF5: [(offset, b"\x89HDF\r\n\x1a\n") for offset in (0, 512, 1024, 2048)],
    PYTORCH: [(0, b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")],  # before its version 1.6
    "a TensorFlow Lite model": [(4, b"TFL3")],
    "a GGUF model": [(0, b"GGUF")],
    "a MATLAB file (.mat)": [(0, b"MATLAB 5.0 MAT-file")],
    "a gzip file": [(0, b"\x1f\x8b")],
    "a bzip2 file": [(0, b"BZh")],
    "an xz file": [(0, b"\xfd7zXZ\0")],
    "a Zstandard file": [(0, b"\x28\xb5\x2f\xfd")],
    "a 7-Zip archive": [(0, b"7z\xbc\xaf\x27\x1c")],
    "a RAR archive": [(0, b"Rar!\x1a\x07")],
    "a tar archive": [(257, b"ustar")],
    "a JPEG image": [(0, b"\xff\xd8\xff")],
    "a PNG image": [(0, b"\x89PNG\r\n\x1a\n")],
    "a GIF image": [(0, b"GIF87a"), (0, b"GIF89a")],
    "a TIFF image": [(0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")],
    "a WebP image": [(8, b"WEBP")],
    "a HEIC image": [(4, b"ftyphei"), (4, b"ftyphev"), (4, b"ftypmif1"), (4, b"ftypmsf1")],  # heic, heix, hevc ...
    "an AVIF image": [(4, b"ftypavif"), (4, b"ftypavis")],
    "a JPEG 2000 image": [(0, b"\0\0\0\x0cjP  "), (0, b"\xff\x4f\xff\x51")],
    "a JPEG XL image": [(0, b"\0\0\0\x0cJXL "), (0, b"\xff\x0a")],
    "a Photoshop image": [(0, b"8BPS")],
    "an OpenEXR image": [(0, b"\x76\x2f\x31\x01")],
    "a DICOM image": [(128, b"DICM")],
    "a FITS image": [(0, b"SIMPLE  =")],
    "a QOI image": [(0, b"qoif")],
    "a DDS texture": [(0, b"DDS \x7c\0\0\0")],
    "a Radiance image (.hdr)": [(0, b"#?RADIANCE"), (0, b"#?RGBE")],
    "an icon (.ico)": [(0, bytes((0, 0, 1, 0, sizes, 0))) for sizes in range(1, 16)],
    "a camera's raw file": [(4, b"ftypcrx"), (0, b"FUJIFILMCCD-RAW"), (0, b"IIU\0"), (0, b"IIRO"), (0, b"IIRS")],
    "a video": [(4, b"ftyp"), (8, b"AVI "), (0, b"\x1a\x45\xdf\xa3")],  # MP4 and QuickTime, AVI, Matroska and WebM
    "a PostScript file (.ps, .eps)": [(0, b"%!PS"), (0, b"\xc5\xd0\xd3\xc6")],
    "a PDF file": [(0, b"%PDF")],
    "an SQLite database": [(0, b"SQLite format 3\0")],
    "a Parquet file": [(0, b"PAR1")],
    "a program": [(0, b"\x7fELF"), (0, b"MZ\x90\0")],
}
TEXTS = {  # kind -> pattern at the beginning of a text
    "an HTML page": rb"(<\?xml[^>]*>\s*)?(<!--((?!-->).)*-->\s*)*<(!doctype html|html|head|body|title|script|meta)\b",
    "an SVG image": rb"(<\?xml[^>]*>\s*)?(<![^>]*>\s*)*<svg\b",
    "an XML text": rb"<\?xml|<error>",
    "a JSON text": rb"[{\[]\s*[\"{\[\]}]",
    "a TensorFlow checkpoint's list of files": rb"model_checkpoint_path:",
    PROTOTXT: rb"(\s*#[^\n]*\n)*\s*(name\s*:\s*\"|(layers?|net|input)\s*[:{])",
}
NETPBM = {  # kind -> pattern at the beginning; all that follows may be text
    "a PNM image": rb"P[1-6f]\s+(#[^\n]*\n\s*)*\d+\s",  # Pf: floats in grey
    "a PFM image in colour": rb"PF\s+(#[^\n]*\n\s*)*\d+\s",
    "a PAM image": rb"P7\s+(#[^\n]*\n\s*)*(WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE)\s",
}
TENSORFLOW_CHECKPOINT = "a TensorFlow checkpoint"
TABLE_END = bytes.fromhex("57fb808b247547db")  # of TensorFlow's tables: a version 1 checkpoint, version 2's .index
CHECKPOINT_NAME = re.compile(r"\.data-\d{5}-of-\d{5}$|\.ckpt(-\d+)?\.(meta|index)$")
TEXT_PICKLE = re.compile(rb"(\(?[dl]p\d+\n|\(i|c[\w.]+\n\w+\n|[)\]}(]+(q[\0-\xff]|[lt.]))")  # protocols 0 and 1
PYTORCH_MEMBER = re.compile(rb"[^/]+/(data\.pkl|version|byteorder|\.format_version|constants\.pkl|code/)")


def kind_of(source: str | os.PathLike | bytes, expected: str = "a file") -> str:
    """The kind of a file, or of the bytes given (all or the first 4,096), as it goes into a message: "a gzip file".

    Raises BadInput when the path does not lead to a regular file that can be read; it names what was `expected`.
    """
    if isinstance(source, bytes):
        return _kind(source[:HEAD], source[-TAIL:])
    with open_regular(source, expected) as file:
        head = file.read(HEAD)
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        tail = file.read(TAIL)
    if head and CHECKPOINT_NAME.search(pathlib.Path(source).name):
        return TENSORFLOW_CHECKPOINT
    return _kind(head, tail)


def _kind(head: bytes, tail: bytes) -> str:
    if not head:
        return EMPTY
    for kind, places in MAGIC.items():
        if any(head.startswith(magic, offset) for offset, magic in places):
            return kind
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(head)
    if tail.endswith(TABLE_END):
        return TENSORFLOW_CHECKPOINT
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return PICKLE
    if tail.endswith(b".") and TEXT_PICKLE.match(head):
        return PICKLE
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 1 << 32:
        return "a safetensors file"
    for kind, start in NETPBM.items():
        if re.match(start, head):
            return kind
    if _is_text(head):
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        return next((kind for kind, text in TEXTS.items() if re.match(text, start, re.DOTALL)), TEXT)
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "a BMP image"
    return _message(head)


def _zip(head: bytes) -> str:
    """What an archive is, by the name of its first member."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith(b".npy"):
        return NPZ
    if name in (b"metadata.json", b"config.json", b"model.weights.h5"):
        return KERAS
    return PYTORCH if PYTORCH_MEMBER.match(name) else ZIP


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16
        return True
    if re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]", head):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and len(head) > 4  # a character cut in two at the end
    return True


def _message(head: bytes) -> str:
    """What a protocol-buffer message is; they have no mark of their own, only numbered fields."""
    start = 0
    # Field 1: Caffe's name of the network.
    if head[0] == 10 and re.fullmatch(rb"[ -~\x80-\xff]+", head[2 : 2 + head[1]]):
        start = 2 + head[1]
    if re.match(rb"\x12|\xa2\x06|[\x1a\x22].|\x20", head[start:], re.DOTALL):  # its layers, old and new, or its input
        return CAFFEMODEL
    if head[0] == 8 and head[2:3] in (b"\x12", b"\x3a"):  # a version, then who wrote it, or the graph
        return "an ONNX model"
    return UNKNOWN
