"""Fetching, against a server of our own that misbehaves as real ones do."""

import contextlib
import gzip
import hashlib
import http.server
import os
import pathlib
import socketserver
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest
from conftest import refused

from common import fetching
from common.errors import BadInput

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONTENT = bytes(range(256)) * 20_000  # 5 MB, more than one block
SHA1 = hashlib.sha1(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the path says how badly. `server.ranges` collects the Range of each request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, kind = self.server, self.path.strip("/")
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        content, status, start = server.content, 200, 0
        if kind == "absent":
            return self.answer(404, b"not here")
        if kind == "page":
            return self.answer(200, b"<html>please log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        same = kind == "ignores-if-range" or self.headers.get("If-Range") in (None, server.tag)
        if asked and kind != "ignores-range" and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            status = 206
        headers = {"Content-Type": "application/octet-stream", "ETag": server.tag}
        if kind == "no-tag":
            del headers["ETag"]
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body, end = content[start:], None
        if kind == "breaks" or (kind == "breaks-once" and not asked):
            end = 2_000_000
        if kind == "breaks-at-once":
            end = 0
        if kind == "slow":
            time.sleep(0.7)
        self.answer(status, body, headers, end)

    def answer(self, status, body, headers=(), end=None):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body[:end])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ranges, server.content, server.tag = [], CONTENT, '"version 1"'
    server.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_and_record(server, tmp_path):
    path = fetching.fetch([server.url + "good"], tmp_path / "new" / "file.bin", sha1=SHA1.upper())
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.bin", "file.bin.sha256"]
    assert fetching.recorded_hash(path) == hashlib.sha256(CONTENT).hexdigest()
    assert (path.parent / "file.bin.sha256").read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  file.bin\n"
    fetching.check_recorded(path)
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(BadInput, match="has changed since"):
        fetching.check_recorded(path)


def test_a_file_that_is_there_is_left(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"mine")
    assert fetching.fetch([server.url + "good"], path).read_bytes() == b"mine"
    assert server.ranges == [] and fetching.recorded_hash(path) is None


def test_goes_on_after_a_break(server, tmp_path):
    path = fetching.fetch([server.url + "breaks-once"], tmp_path / "file.bin", sha1=SHA1)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=2000000-"]  # every byte that came is kept


@pytest.mark.parametrize("second", ["same", "ignores-range", "changed", "changed, If-Range ignored", "no-tag"])
def test_next_call_continues_the_part(server, tmp_path, second, monkeypatch):
    """The first call ends after one attempt; the second continues, or starts anew where the rest may not fit."""
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    kinds = {"ignores-range": "ignores-range", "no-tag": "no-tag", "changed, If-Range ignored": "ignores-if-range"}
    kind = kinds.get(second, "good")
    path = tmp_path / "file.bin"
    with monkeypatch.context() as patch:
        patch.setattr(Handler, "answer", cut_short(Handler.answer))
        with pytest.raises(BadInput, match="127.0.0.1"):
            fetching.fetch([server.url + kind], path)
    assert not path.exists() and (tmp_path / "file.bin.part").stat().st_size == 2_000_000
    if second.startswith("changed"):
        server.content, server.tag = CONTENT[::-1], '"version 2"'
    assert fetching.fetch([server.url + kind], path).read_bytes() == server.content
    assert (server.ranges[1] is None) == (second == "no-tag")
    assert names(tmp_path) == ["file.bin", "file.bin.sha256"]


def cut_short(answer):
    return lambda self, status, body, headers=(), end=None: answer(self, status, body, headers, 2_000_000)


def test_part_that_is_whole_already(server, tmp_path):
    """Stopped between the last byte and the renaming: the server answers 416."""
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.from").write_text(f"{server.url}good\n{server.tag}\n")
    assert fetching.fetch([server.url + "good"], tmp_path / "file.bin", sha1=SHA1).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-", None]


def test_part_of_another_address_is_not_continued(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"other")
    (tmp_path / "file.bin.part.from").write_text(f"http://elsewhere/file\n{server.tag}\n")
    assert fetching.fetch([server.url + "good"], tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == [None]


@pytest.mark.parametrize("first", ["absent", "page", "breaks-at-once", "dead"])
def test_next_address_when_one_fails(server, tmp_path, first):
    url = "http://127.0.0.1:9/file" if first == "dead" else server.url + first
    path = fetching.fetch([url, server.url + "good"], tmp_path / "file.bin")
    assert path.read_bytes() == CONTENT


def test_wrong_hash(server, tmp_path):
    with pytest.raises(BadInput, match="wrong MD5") as error:
        fetching.fetch([server.url + "good", server.url + "page"], tmp_path / "file.bin", md5="0" * 32)
    message = str(error.value)
    assert "\n" not in message and "a web page" in message and "by hand" in message and "file.bin" in message
    assert names(tmp_path) == []


def test_less_than_announced(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "_blocks", lambda response, decode: iter([CONTENT[:1000]]))
    with pytest.raises(BadInput, match="only 4,000 of 5,120,000 bytes came"):
        fetching.fetch([server.url + "good"], tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()


def test_larger_than_allowed(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST", 7)
    with pytest.raises(BadInput, match="it has 5,120,000 bytes, expected at most 7\\)"):
        fetching.fetch([server.url + "good"], tmp_path / "file.bin")
    assert names(tmp_path) == []


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        fetching.fetch([server.url + "good"], tmp_path / "file" / "file.bin")


BODY = CONTENT[:1000]
OK = b"HTTP/1.1 200 OK\r\n"
PARTIAL = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\n"
GZIPPED = OK + b"Content-Encoding: gzip\r\n\r\n"
SENT = {  # what a server sends before it closes the connection
    "nothing": b"",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "only bytes": bytes(range(128, 256)) * 100,
    "status a word": b"HTTP/1.1 fine OK\r\n\r\n",
    "status of six digits": b"HTTP/1.1 200000 OK\r\n\r\n",
    "version 9": b"HTTP/9.9 200 OK\r\n\r\n" + BODY,
    "no end of headers": OK + b"Content-Length: 5",
    "10,000 headers": OK + b"X: y\r\n" * 10_000 + b"\r\n",
    "a header of 100 kB": OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    "length with a sign": OK + b"Content-Length: -5\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5, 6\r\n\r\n" + BODY,
    "length twice": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + BODY,
    "length of 18 digits": OK + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n" + BODY,
    "length too large": OK + b"Content-Length: 1001\r\n\r\n" + BODY,
    "length 0": OK + b"Content-Length: 0\r\n\r\n",
    "length too small": OK + b"Content-Length: 999\r\n\r\n" + BODY,
    "endless": OK + b"\r\n" + bytes(7_000_000),
    "range with a star": PARTIAL + b"Content-Range: bytes 0-999/*\r\n\r\n" + BODY,
    "range of words": PARTIAL + b"Content-Range: bytes a-b/c\r\n\r\n" + BODY,
    "range of 5,000 digits": PARTIAL + b"Content-Range: bytes 0-9/" + b"9" * 5000 + b"\r\n\r\n" + BODY,
    "range that was not asked for": PARTIAL + b"Content-Range: bytes 5-999/1000\r\n\r\n" + BODY,
    "no range": PARTIAL + b"\r\n" + BODY,
    "no more to redirect to": b"HTTP/1.1 302 Found\r\n\r\n",
    "status 304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "status 416": b"HTTP/1.1 416 Range Not Satisfiable\r\n\r\n",
    "chunk of no number": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + BODY,
    "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + BODY,
    "endless chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n" + BODY,
    "chunks cut off": OK + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + BODY[:500],
    "gzip that is none": GZIPPED + BODY,
    "a gzip bomb": GZIPPED + gzip.compress(bytes(50_000_000)),
    "a page": OK + b"Content-Type: TEXT/HTML\r\n\r\n<html>",
    "other bytes": OK + b"\r\n" + BODY[::-1],
} | {
    f"redirected to {place[:30]}": b"HTTP/1.1 302 Found\r\nLocation: " + place.encode("latin-1") + b"\r\n\r\n"
    for place in ("/itself", "file:///etc/passwd", "http://[::1", "http://", "//", "http://127.0.0.1:99999/", "ftp://x/",
                  "http://127.0.0.1:abc/", "http://\xff\xfe/", "http://a..b/", "http://" + "a" * 300 + "/", "ht!tp:",
                  "\t")
}  # fmt: skip
WHOLE = {  # odd, but all bytes are there
    "length a word": OK + b"Content-Length: many\r\n\r\n" + BODY,
    "length in other digits": OK + b"Content-Length: \xb9\xb2\r\n\r\n" + BODY,
    "length of 5,000 digits": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + BODY,
    "tag of other letters": OK + b'ETag: "\xff\xfe"\r\n\r\n' + BODY,
    "tag of 5,000 letters": OK + b'ETag: "' + b"x" * 5000 + b'"\r\n\r\n' + BODY,
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n1f4\r\n" + BODY[:500] + b"\r\n1f4\r\n" + BODY[500:]
        + b"\r\n0\r\n\r\n",
    "gzip": GZIPPED + gzip.compress(BODY),
    "an unknown encoding": OK + b"Content-Encoding: none\r\n\r\n" + BODY,
}  # fmt: skip


class RawHandler(socketserver.BaseRequestHandler):
    """Answers whatever is asked with `server.sent`: bytes, or (bytes, seconds between, how often)."""

    def handle(self):
        sent = self.server.sent
        sent, pause, times = sent if isinstance(sent, tuple) else (sent, 0, 1)
        with contextlib.suppress(OSError):
            self.request.recv(65536)
            for _ in range(times):
                self.request.sendall(sent)
                time.sleep(pause)


@pytest.fixture
def raw(server, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST", 6_000_000)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RawHandler) as raw:
        raw.daemon_threads, raw.block_on_close = True, False
        raw.url = f"http://127.0.0.1:{raw.server_address[1]}/"
        threading.Thread(target=raw.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield raw
        raw.shutdown()


@pytest.mark.parametrize("case", SENT)
def test_a_hostile_server_gets_a_message_and_does_no_harm_to_the_next_run(case, raw, server, tmp_path):
    raw.sent = SENT[case]
    sha1 = hashlib.sha1(BODY).hexdigest()
    for url in (raw.url + "once", raw.url + "once", raw.url + "other"):
        message = refused("fetch", fetching.fetch, [url], tmp_path / "file.bin", sha1=sha1)
        assert message.startswith(f"{tmp_path / 'file.bin'}: could not be fetched (127.0.0.1: ")
        assert not (tmp_path / "file.bin").exists()
    path = fetching.fetch([raw.url, server.url + "good"], tmp_path / "file.bin", sha1=SHA1)
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["file.bin", "file.bin.sha256"]


@pytest.mark.parametrize("case", WHOLE)
def test_an_odd_server_that_gives_all_bytes(case, raw, tmp_path):
    raw.sent = WHOLE[case]
    assert fetching.fetch([raw.url], tmp_path / "file.bin").read_bytes() == BODY
    assert names(tmp_path) == ["file.bin", "file.bin.sha256"]


def test_bytes_that_the_server_has_compressed_are_unpacked_piece_by_piece(raw, tmp_path):
    """60 MB in 60 kB, and these in 250 bytes."""
    packed = gzip.compress(gzip.compress(bytes(60_000_000), 9), 9)
    raw.sent = OK + b"Content-Encoding: gzip, gzip\r\n\r\n" + packed
    tracemalloc.start()
    try:
        assert "more than the 6,000,000 bytes" in refused("fetch", fetching.fetch, [raw.url], tmp_path / "file.bin")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_what_the_server_calls_the_gzip_of_a_gzip_is_kept(raw, tmp_path):
    packed = gzip.compress(BODY)
    raw.sent = OK + b"Content-Encoding: x-gzip\r\n\r\n" + packed
    assert fetching.fetch([f"{raw.url}.tar.gz"], tmp_path / "file.tar.gz").read_bytes() == packed
    assert fetching.fetch([raw.url], tmp_path / "file.bin").read_bytes() == BODY


SLOW = {
    "silent": (b"", 60, 1),
    "a letter of a header at a time": (b"X", 0.05, 1000),
    "continue, continue": (b"HTTP/1.1 100 Continue\r\n\r\n", 0.05, 1000),
    "headers without end": (OK + b"X: y\r\n", 0.05, 1000),
    "a byte at a time": (OK + b"\r\nx", 0.05, 1000),
}  # fmt: skip


@pytest.mark.parametrize("case", SLOW)
def test_no_progress_is_noticed(case, raw, tmp_path, monkeypatch):
    for name, value in {"ANSWER": 0.4, "SLOWEST": (10_000, 0.3), "ATTEMPTS": 2, "TIMEOUT": (1, 30)}.items():
        monkeypatch.setattr(fetching, name, value)
    raw.sent = SLOW[case]
    message = refused("fetch", fetching.fetch, [raw.url], tmp_path / "file.bin")
    assert "no answer within 0.4 seconds" in message or "bytes in 0 seconds" in message


def test_a_slow_line_is_no_stalled_one(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "SLOWEST", (100, 0.1))
    raw.sent = (OK + b"Content-Length: 1000\r\n\r\n" + BODY[:500], 0.3, 1)
    monkeypatch.setattr(RawHandler, "finish", lambda self: self.request.sendall(BODY[500:]))
    assert fetching.fetch([raw.url], tmp_path / "file.bin").read_bytes() == BODY


LARGE_PNG = {"announced": OK + b"Content-Length: 99\r\n\r\n" + BODY[:99], "not": OK + b"\r\n" + BODY[:99]}


@pytest.mark.parametrize("case", LARGE_PNG)
def test_the_limit_of_a_kind_of_file(case, raw, tmp_path, monkeypatch):
    monkeypatch.setitem(fetching.LARGEST_OF_KIND, ".png", 98)
    raw.sent = LARGE_PNG[case]
    assert "98" in refused("fetch", fetching.fetch, [raw.url], tmp_path / "photo.PNG")
    assert names(tmp_path) == []
    monkeypatch.setitem(fetching.LARGEST_OF_KIND, ".png", 99)
    assert fetching.fetch([raw.url], tmp_path / "photo.PNG").read_bytes() == BODY[:99]


NOTES = {
    "empty": b"", "address": b"URL", "cut off": b"URL\n", "no version": b"URL\n\n", "half a version": b'URL\n"ver',
    "not UTF-8": b"URL\n\xff\xfe", "control": b"URL\n\x00\x01\n", "a header": b'URL\n"x"\r\nCookie: y\n',
    "other letters": "URL\n停\n".encode(), "large": b"URL\n" + b"x" * 5_000_000, "spaces": b"URL\n   \n",
    "folder": "folder", "pipe": "pipe", "device": "device", "absent": None,
}  # fmt: skip


def put(path, content):
    """Bytes, or what is no file, at `path`."""
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content == "device":
        path.symlink_to("/dev/zero")
    elif content is not None:
        path.write_bytes(content)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("case", NOTES)
def test_notes_that_are_damaged(case, server, tmp_path):
    note = NOTES[case]
    put(
        tmp_path / "file.bin.part.from",
        note.replace(b"URL", server.url.encode() + b"good") if isinstance(note, bytes) else note,
    )
    (tmp_path / "file.bin.part").write_bytes(b"other bytes, from elsewhere")
    if case == "folder":
        assert "folder" in refused("fetch", fetching.fetch, [server.url + "good"], tmp_path / "file.bin")
    else:
        assert fetching.fetch([server.url + "good"], tmp_path / "file.bin", sha1=SHA1).read_bytes() == CONTENT


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("place", ["file.bin.part", ".fetching.lock", "file.bin.sha256"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_lies_in_the_place_of_our_files(kind, place, server, tmp_path):
    put(tmp_path / place, kind)
    if kind == "folder" or (kind == "pipe" and "lock" in place):
        refused("fetch", fetching.fetch, [server.url + "good"], tmp_path / "file.bin")
    else:
        assert fetching.fetch([server.url + "good"], tmp_path / "file.bin").read_bytes() == CONTENT
        fetching.check_recorded(tmp_path / "file.bin")


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"x" * 64, b"0" * 63, b"\0" * 10_000_000, "folder", "pipe", "device"]
)
def test_records_that_are_none(content, tmp_path):
    put(tmp_path / "file.bin.sha256", content)
    assert fetching.recorded_hash(tmp_path / "file.bin") is None


def test_names_that_cannot_be(server, tmp_path):
    for name in ("x" * 300, "null\0", "file.bin/file.bin"):
        (tmp_path / "file.bin").touch()
        refused("fetch", fetching.fetch, [server.url + "good"], tmp_path / name)


@pytest.mark.parametrize("known", [True, False])
def test_plain_http_is_told_where_no_hash_vouches_for_the_bytes(known, server, tmp_path, capsys):
    fetching.fetch([server.url + "good"], tmp_path / "file.bin", sha1=SHA1 if known else None)
    assert ("nobody vouches for its bytes" in capsys.readouterr().err) == (not known)


def test_two_processes(server, tmp_path):
    code = "import sys; from common.fetching import fetch; fetch([sys.argv[1]], sys.argv[2], sha1=sys.argv[3])"
    command = [sys.executable, "-c", code, server.url + "slow", str(tmp_path / "file.bin"), SHA1]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.ranges) == 1
