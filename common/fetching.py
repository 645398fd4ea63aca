"""Download a file, trying mirrors in turn.

The bytes go to `<file>.part`, which a later call continues, and get their real name when all are there and their hash
is right. The SHA-256 of what came is kept beside it in `<file>.sha256` (as `sha256sum -c` reads it), so that a file
that has changed since is noticed. A server is not trusted: what it sends has an upper bound in bytes and in seconds
without progress, and whatever it says, the worst is a message.
"""

import os
import pathlib
import re
import sys
import threading
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from common.program import shown

import requests
import urllib3
from tqdm import tqdm

from common.errors import OF_A_PATH, BadInput, reason, reported
from common.files import file_hash, hash_record, recorded_hash, regular_or_absent, start_of
from common.locks import one_at_a_time
from common.writing import record_hash, written_whole

TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
ANSWER = 120  # seconds until an answer begins, redirects included
SLOWEST = 1_000, 60  # bytes a second on average, over this many seconds: slower is no progress
ATTEMPTS = 4  # at one address, as long as each brings bytes
BLOCK = 1 << 20  # bytes
LARGEST = 4_000_000_000  # bytes, of a file whose size is not known; the largest that we fetch has 0.28 GB
LARGEST_OF_KIND = {".png": 50_000_000, ".jpg": 50_000_000}
TOKEN = re.compile(r"[!-~][ -~]{0,199}")  # what may go back to a server in a header


class _Failed(Exception):
    """An address did not give the file; the message is a few words."""


class _Broken(_Failed):
    """The connection ended too early; the same address may give the rest."""


def fetch(
    urls: Iterable[str],
    path: str | os.PathLike,
    sha1: str | None = None,
    md5: str | None = None,
    sha256: str | None = None,
) -> pathlib.Path:
    """Return `path`, downloaded from the first of `urls` that works; a file that is there already is left alone.

    Hashes are in hexadecimal; those given are compared. Shows a progress bar in a terminal, and says on stderr when the
    file came over plain http and no hash vouches for it. Raises BadInput, with each host's reason, when no address
    gives the file.
    """
    urls, path = list(urls), pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    expected = {name: value for name, value in (("sha1", sha1), ("md5", md5), ("sha256", sha256)) if value}
    failures = []
    with reported(path, errors=OF_A_PATH):
        if path.exists():
            return path
        waiting = f"waiting for another process that fetches into {path.parent}"
        with one_at_a_time(path.parent / ".fetching.lock", waiting):
            if path.exists():  # another process has fetched it meanwhile
                return path
            for url in urls:
                try:
                    encrypted = _download(url, part)
                    _check(part, expected)
                except _Failed as error:
                    failures.append(f"{_host(url)}: {error}")
                    continue
                digest = file_hash(part, "sha256")
                os.replace(part, path)
                _note(part).unlink(missing_ok=True)
                record_hash(path, digest)
                if not expected and not encrypted:
                    print(f"note: {path} came over plain http from {_host(url)} and its hash is not known: nobody "
                          "vouches for its bytes", file=sys.stderr)  # fmt: skip
                return path
    reasons = "; ".join(failures)
    raise BadInput(f"{shown(path)}: could not be fetched ({reasons}); put it there by hand, from {urls[0]}")


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def check_recorded(path: str | os.PathLike) -> None:
    """Raise BadInput if `path` has changed since it was fetched (244 MB take 0.15 s)."""
    recorded = recorded_hash(path)
    if recorded and pathlib.Path(path).is_file() and file_hash(path, "sha256") != recorded:
        raise BadInput(
            f"{path}: has changed since it was fetched; delete it to fetch it again, "
            f"or delete {hash_record(path)} if you put the file there yourself"
        )


def _note(part: pathlib.Path) -> pathlib.Path:
    """The file that holds the address and the version of an unfinished download, one line each."""
    return part.with_name(part.name + ".from")


def _download(url: str, part: pathlib.Path) -> bool:
    """Fill `part` from `url`, reconnecting while each attempt brings new bytes. Whether it came encrypted."""
    for _ in range(ATTEMPTS - 1):
        before = _length(part)
        try:
            return _attempt(url, part)
        except _Broken:
            if _length(part) <= before:
                raise
    return _attempt(url, part)


def _attempt(url: str, part: pathlib.Path) -> bool:
    start, headers = _continuation(url, part)
    with _answer(url, headers) as response:
        place = _inspected(response, start, headers.get("If-Range"))
        if place is None:  # the server does not continue this part
            _discard(part)
            return _attempt(url, part)
        start, total = place
        most = LARGEST_OF_KIND.get(pathlib.Path(part.stem).suffix.lower(), LARGEST)
        if total is not None and total > most:
            _discard(part)
            raise _Failed(f"it has {total:,} bytes, expected at most {most:,}")
        with open(part, "ab", buffering=0) as file:  # every byte that came is kept, however the process ends
            file.truncate(start)
            with written_whole(_note(part)) as note:
                note.write_text(f"{url}\n{_version(response)}\n", newline="\n")
            # disable=None: no bar where stderr is not a terminal
            with tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True, disable=None) as bar:
                # A server may call the gzip of a file that is one its encoding: that is to be kept.
                for block in _blocks(response, decode=not url.endswith(".gz")):
                    file.write(block)
                    bar.update(len(block))
                    if file.tell() > most:
                        _discard(part)
                        raise _Failed(f"more than the {most:,} bytes that are expected")
        if total is not None and _length(part) != total:
            raise _Broken(f"only {_length(part):,} of {total:,} bytes came")
        return all(step.url.startswith("https:") for step in (*response.history, response))


def _answer(url: str, headers: dict) -> requests.Response:
    """The answer's beginning. In a thread that may be left behind: a server can send headers a letter a minute."""
    result = []

    def ask() -> None:
        try:
            result.append(requests.get(url, headers=headers, stream=True, timeout=TIMEOUT))
        except Exception as error:  # requests' own, urllib3's, and ValueErrors about odd redirects
            result.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER)
    if not result:
        raise _Broken(f"no answer within {ANSWER} seconds")
    if isinstance(result[0], requests.Response):
        return result[0]
    if isinstance(result[0], requests.Timeout):
        raise _Broken("no answer")
    if isinstance(result[0], requests.ConnectionError):
        raise _Broken("no connection")
    raise _Failed(f"odd answer ({reason(result[0])})")


def _blocks(response: requests.Response, decode: bool) -> Iterable[bytes]:
    """Yield the bytes as they come, so that those before a break are not lost; give up when next to none come.

    decode: undo the answer's Content-Encoding.
    """
    slowest, window = SLOWEST
    came, since = 0, time.monotonic()
    try:
        while block := response.raw.read1(BLOCK, decode_content=decode):
            yield block
            came += len(block)
            if (elapsed := time.monotonic() - since) > window:
                if came < slowest * elapsed:
                    raise _Broken(f"only {came:,} bytes in {elapsed:.0f} seconds")
                came, since = 0, time.monotonic()
    except urllib3.exceptions.HTTPError:
        raise _Broken("connection broken") from None
    except (OSError, ValueError) as error:  # the socket's and http.client's own
        raise _Broken(f"connection broken ({reason(error)})") from None


def _continuation(url: str, part: pathlib.Path) -> tuple[int, dict]:
    """Return the byte to go on from, and the headers that ask for it; only the same version of it is continued."""
    headers = {"Accept-Encoding": "identity"}  # lengths then count the file's own bytes
    start = _length(part)
    noted, version, *_ = (*start_of(_note(part)).split("\n"), "", "")
    if start and noted == url and TOKEN.fullmatch(version):
        return start, headers | {"Range": f"bytes={start}-", "If-Range": version}
    return 0, headers


def _version(response: requests.Response) -> str:
    """Return what tells this version of the file from others (a strong ETag, or the date), or an empty text."""
    tag = response.headers.get("ETag", "")
    version = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return version if "Content-Encoding" not in response.headers else ""


def _inspected(response: requests.Response, start: int, version: str | None) -> tuple[int, int | None] | None:
    """Return where the bytes of the answer belong, and how long the whole file is (None: not said).

    None when the server does not go on from byte `start` of this `version`, as was asked: the part is as long as its
    file, or longer, or it answers with another part, or one of another version.
    """
    if start and response.status_code == 416:
        return None
    if response.status_code not in (200, 206):
        raise _Failed(f"status {response.status_code}")
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _Failed("a web page instead of the file")
    if response.status_code == 200:  # the whole file, whatever was asked for
        length = response.headers.get("Content-Length", "")
        known = re.fullmatch("[0-9]{1,18}", length) and "Content-Encoding" not in response.headers
        return 0, int(length) if known else None
    given = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", response.headers.get("Content-Range", ""))
    if start and _version(response) not in ("", version):  # a server that does not know If-Range
        return None
    if given and int(given[1]) == start:
        return start, int(given[2])
    if start:
        return None
    raise _Failed("another part of the file than asked for")


def _check(part: pathlib.Path, hashes: dict) -> None:
    """Delete `part` and raise if it is empty, or not what was promised."""
    wrong = [name for name, value in hashes.items() if file_hash(part, name) != value.lower()]
    if wrong or not _length(part):
        _discard(part)
        raise _Failed(f"wrong {wrong[0].upper()}" if wrong else "it has 0 bytes, expected more")


def _discard(part: pathlib.Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _length(part: pathlib.Path) -> int:
    status = regular_or_absent(part)
    return status.st_size if status else 0
