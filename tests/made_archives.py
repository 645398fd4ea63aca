"""Small files in the layouts that GTSRB and CIFAR-10 are published in, made of random images."""

import io
import pickle
import tarfile
import zipfile

import numpy as np
from PIL import Image


def signs(count=4 * 43):
    """A small train.p: of every class a track of three images, which come closer, and one of another sign."""
    each = count // 43
    return {
        "features": np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        "labels": np.repeat(np.arange(43, dtype=np.uint8), each),
        "sizes": np.tile(np.array([[50, 51], [55, 54], [60, 61], [15, 16]][:each], np.uint8), (43, 1)),
        "coords": np.tile(np.array([5, 6, 15, 16], np.uint8), (count, 1)),
    }


def archive_files(change=lambda name, data: data):
    """The official archive in small, {name: bytes}: 43 classes of two tracks of two images; and its images."""
    rng = np.random.default_rng(1)
    files, images = {}, []
    for label in range(43):
        folder = f"GTSRB/Final_Training/Images/{label:05}"
        csv = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
        for name in ("00000_00000.ppm", "00000_00001.ppm", "00001_00000.ppm", "00001_00001.ppm"):
            height, width = rng.integers(15, 60, 2)
            images.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            stream = io.BytesIO()
            Image.fromarray(images[-1]).save(stream, "PPM")
            files[f"{folder}/{name}"] = stream.getvalue()
            csv += f"{name};{width};{height};5;6;{width - 5};{height - 6};{label}\r\n"
        files[f"{folder}/GT-{label:05}.csv"] = csv.encode()
    return {name: change(name, data) for name, data in files.items() if change(name, data) is not None}, images


COLUMNS = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"


def kaggle_files():
    """The same images as Kaggle has them, in another order, with three test images; and the official arrays."""
    files, images = archive_files()
    lines, archive = [], {}
    for number, image in enumerate(images):
        label, track, frame = number // 4, number % 4 // 2, number % 2
        path = f"Train/{label}/{label:05}_{track:05}_{frame:05}.png"
        archive[path] = png(image)
        height, width, _ = image.shape
        lines.append(f"{width},{height},5,6,{width - 5},{height - 6},{label},{path}")
        if number < 3:
            archive[f"Test/{number:05}.png"] = archive[path]
    test = [
        line[: line.index(",Train")].rpartition(",")[0] + f",{40 + n},Test/{n:05}.png"
        for n, line in enumerate(lines[:3])
    ]
    archive["Meta.csv"] = b"Path,ClassId"
    archive["Test.csv"] = "\n".join([COLUMNS, *test]).encode()
    archive["Train.csv"] = "\n".join([COLUMNS, *lines[::-1]]).encode()
    return archive, files


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


TEST_LABELS = [16, 1, 38, 0, 42]


def official_test_set(change=lambda name, data: data):
    """Both official archives of the test set in small: {name: bytes} of the images, of the labels; the images."""
    rng = np.random.default_rng(2)
    files, images = {}, []
    columns = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"
    unlabelled, labelled = f"{columns}\r\n", f"{columns};ClassId\r\n"
    for number, label in enumerate(TEST_LABELS):
        height, width = rng.integers(15, 60, 2)
        images.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        stream = io.BytesIO()
        Image.fromarray(images[-1]).save(stream, "PPM")
        files[f"GTSRB/Final_Test/Images/{number:05}.ppm"] = stream.getvalue()
        line = f"{number:05}.ppm;{width};{height};5;6;{width - 5};{height - 6}"
        unlabelled, labelled = f"{unlabelled}{line}\r\n", f"{labelled}{line};{label}\r\n"
    files["GTSRB/Final_Test/Images/GT-final_test.test.csv"] = unlabelled.encode()
    files["GT-final_test.csv"] = labelled.encode()
    files = {name: change(name, data) for name, data in files.items() if change(name, data) is not None}
    return files, {"GT-final_test.csv": files.pop("GT-final_test.csv")}, images


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def unpacked(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


CIFAR_NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


def cifar_batches(rows=3):
    """The files of the official layout in small, {name: content}."""
    rng = np.random.default_rng(0)
    files = {"batches.meta": {b"label_names": CIFAR_NAMES, b"num_vis": 3072}}
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]:
        data = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
        files[name] = {b"data": data, b"labels": rng.integers(0, 10, rows).tolist()}
    return files


def write_tar(path, files, mode="w:gz", folder="cifar-10-batches-py/", extra=()):
    with tarfile.open(path, mode) as tar:
        for member, data in extra:
            tar.addfile(member, io.BytesIO(data))
        for name, content in files.items():
            member, data = tarfile.TarInfo(f"{folder}{name}"), pickle.dumps(content)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path
