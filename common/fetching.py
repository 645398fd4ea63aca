"""Fetch a file from the first of several addresses that gives it whole.

The bytes go to `<file>.part`, which a later call continues, and get their real name when all are there and their hash
is right. The SHA-256 of what came is kept beside it in `<file>.sha256` (as `sha256sum -c` reads it), so that a file
that has changed since is noticed.
"""

import hashlib
import os
import pathlib
import re
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from common.files import BadInput, one_at_a_time, written_whole

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
ATTEMPTS = 4  # at one address, as long as each brings bytes
BLOCK = 1 << 20  # bytes


class _Failed(Exception):
    """An address did not give the file; the message is a few words."""


class _Broken(_Failed):
    """The connection ended too early; the same address may give the rest."""


def fetch(urls, path, sha1=None, md5=None, sha256=None, size=None):
    """Return `path`, fetched from the first of `urls` that gives it; a file that is there already is left as it is.

    Hashes are in hexadecimal, `size` in bytes; those given are compared. Shows a progress bar in a terminal. Raises
    BadInput, with each host's reason, when no address gives the file.
    """
    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    expected = {name: value for name, value in (("sha1", sha1), ("md5", md5), ("sha256", sha256)) if value}
    failures = []
    if path.exists():
        return path
    try:
        waiting = f"waiting for another process that fetches into {path.parent}"
        with one_at_a_time(path.parent / ".fetching.lock", waiting):
            if path.exists():  # another process has fetched it meanwhile
                return path
            for url in urls:
                try:
                    _download(url, part)
                    _check(part, expected, size)
                except _Failed as error:
                    failures.append(f"{urlsplit(url).hostname}: {error}")
                    continue
                digest = file_hash(part, "sha256")
                os.replace(part, path)
                _note(part).unlink(missing_ok=True)
                with written_whole(_record(path)) as temporary:
                    temporary.write_text(f"{digest}  {path.name}\n")
                return path
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); free space or choose another place") from None
    reasons = "; ".join(failures)
    raise BadInput(f"{path}: could not be fetched ({reasons}); download it by hand from {urls[0]} to {path}")


def recorded_hash(path):
    """Return the SHA-256 that was recorded when `path` was fetched, or None."""
    try:
        words = _record(pathlib.Path(path)).read_text().split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words and re.fullmatch("[0-9a-f]{64}", words[0]) else None


def check_recorded(path):
    """Raise BadInput if `path` has changed since it was fetched (244 MB take 0.15 s)."""
    recorded = recorded_hash(path)
    if recorded and pathlib.Path(path).is_file() and file_hash(path, "sha256") != recorded:
        raise BadInput(
            f"{path}: has changed since it was fetched; delete it to fetch it again, "
            f"or delete {_record(pathlib.Path(path))} if you put the file there yourself"
        )


def file_hash(path, name):
    """Return the hash `name` ("md5", "sha1", "sha256") of a file in hexadecimal."""
    digest = hashlib.new(name)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _record(path):
    return path.parent / f"{path.name}.sha256"  # with_name() does not take "."


def _note(part):
    """Where the address and the version of a half-fetched file stand, a line each."""
    return part.with_name(part.name + ".from")


def _download(url, part):
    """Fill `part` from `url`; go on after a break while each attempt brings something."""
    for attempt in range(1, ATTEMPTS + 1):
        before = _length(part)
        try:
            return _attempt(url, part)
        except _Broken:
            if attempt == ATTEMPTS or _length(part) <= before:
                raise


def _attempt(url, part):
    start, headers = _continuation(url, part)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416 and start:  # the part is as long as the file, or longer
                _discard(part)
                return _attempt(url, part)
            start, total = _inspected(response, start)
            with open(part, "ab") as file:
                file.truncate(start)
                _note(part).write_text(f"{url}\n{_version(response)}\n")
                # disable=None: no bar where stderr is not a terminal
                with tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True, disable=None) as bar:
                    for block in response.iter_content(BLOCK):
                        file.write(block)
                        bar.update(len(block))
    except requests.Timeout:
        raise _Broken("no answer") from None
    except requests.ConnectionError:
        raise _Broken("no connection") from None
    except requests.RequestException:
        raise _Broken("connection broken") from None
    if total is not None and _length(part) != total:
        raise _Broken(f"only {_length(part):,} of {total:,} bytes came")


def _continuation(url, part):
    """Return the byte to go on from, and the headers that ask for it; only the same version of it is continued."""
    headers = {"Accept-Encoding": "identity"}  # lengths then count the file's own bytes
    start = _length(part)
    if start and _note(part).exists():
        noted, version = _note(part).read_text().split("\n")[:2]
        if noted == url and version:
            return start, headers | {"Range": f"bytes={start}-", "If-Range": version}
    return 0, headers


def _version(response):
    """Return what tells this version of the file from others (a strong ETag, or the date), or an empty text."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _inspected(response, start):
    """Return where the bytes of the answer belong, and how long the whole file is (None: not said)."""
    if response.status_code not in (200, 206):
        raise _Failed(f"status {response.status_code}")
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _Failed("a web page instead of the file")
    if response.status_code == 200:  # the whole file, whatever was asked for
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() and "Content-Encoding" not in response.headers else None
    given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if not given or int(given[1]) != start:
        raise _Failed("another part of the file than asked for")
    return start, int(given[2])


def _check(part, hashes, size):
    """Delete `part` and raise unless it is what was promised."""
    wrong = [name for name, value in hashes.items() if file_hash(part, name) != value.lower()]
    if wrong or (size is not None and _length(part) != size) or not _length(part):
        reason = f"wrong {wrong[0].upper()}" if wrong else f"{_length(part):,} bytes, another size than expected"
        _discard(part)
        raise _Failed(reason)


def _discard(part):
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _length(part):
    return part.stat().st_size if part.exists() else 0
