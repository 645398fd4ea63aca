"""Fetching, against a server of our own that misbehaves as real ones do."""

import contextlib
import hashlib
import http.server
import pathlib
import subprocess
import sys
import threading
import time

import pytest
import requests

from common import fetching
from common.files import BadInput

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
        if asked and kind != "ignores-range" and self.headers.get("If-Range") in (None, server.tag):
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
    path = fetching.fetch([server.url + "good"], tmp_path / "new" / "file.bin", sha1=SHA1.upper(), size=len(CONTENT))
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
    assert len(server.ranges) == 2 and int(server.ranges[1][6:-1]) >= 1_000_000


@pytest.mark.parametrize("second", ["same", "ignores-range", "changed", "no-tag"])
def test_next_call_continues_the_part(server, tmp_path, second, monkeypatch):
    """The first call ends after one attempt; the second continues, or starts anew where the rest may not fit."""
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    kind = {"ignores-range": "ignores-range", "no-tag": "no-tag"}.get(second, "good")
    path = tmp_path / "file.bin"
    with monkeypatch.context() as patch:
        patch.setattr(Handler, "answer", cut_short(Handler.answer))
        with pytest.raises(BadInput, match="127.0.0.1"):
            fetching.fetch([server.url + kind], path)
    assert not path.exists() and (tmp_path / "file.bin.part").stat().st_size > 1_000_000
    if second == "changed":
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
    """Older versions of urllib3 do not notice by themselves."""
    monkeypatch.setattr(requests.Response, "iter_content", lambda *_: iter([CONTENT[:1000]]))
    with pytest.raises(BadInput, match="only 4,000 of 5,120,000 bytes came"):
        fetching.fetch([server.url + "good"], tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()


def test_wrong_size(server, tmp_path):
    with pytest.raises(BadInput, match="another size"):
        fetching.fetch([server.url + "good"], tmp_path / "file.bin", size=7)
    assert names(tmp_path) == []


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        fetching.fetch([server.url + "good"], tmp_path / "file" / "file.bin")


def test_two_processes(server, tmp_path):
    code = "import sys; from common.fetching import fetch; fetch([sys.argv[1]], sys.argv[2], sha1=sys.argv[3])"
    command = [sys.executable, "-c", code, server.url + "slow", str(tmp_path / "file.bin"), SHA1]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.ranges) == 1
