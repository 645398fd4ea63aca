"""A page in the browser: drop an image on it, and see what the classifier makes of it. `feature_extraction.py --serve`.

    with serve.listen(serve.PORT) as server:
        about = serve.About("my run", "43 classes ...")
        serve.run(server, classifier, about, known=None, top=5, browser=True)    # until Ctrl-C

Two things are served and nothing else: `GET /` is page.html, `POST /answer` takes the bytes of one image file and
answers in JSON, {"top": [{"name": ..., "probability": ...}], "hint": ..., "unlike": ...} or {"error": "one line"}.

Only programs on this machine reach the server, but the browser is one of them, and it runs other people's pages. So a
request must name the server by its own address (a page whose domain name is made to lead here, by DNS rebinding, does
not), must not come from another page (Origin), and must have a content type that no form sends. One image is read and
classified at a time, the others wait.
"""

import base64
import errno
import hashlib
import html
import http.server
import io
import json
import os
import pathlib
import re
import socketserver
import sys
import threading
import urllib.parse
import webbrowser
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from common.errors import BadInput
from data import decoding, images
from transfer import answers, novelty, trained
from transfer.novelty import Known
from transfer.trained import Trained
from weights import cards
from weights.heads import Head

PAGE = pathlib.Path(__file__).with_name("page.html")
HOST = "127.0.0.1"  # this machine alone
PORT = 8227  # ends like AlexNet's 227 pixels; few programs use it
MOST_BYTES = 20 * 10**6  # of an image file, which is held in memory
MOST_DISCARDED = 10 * MOST_BYTES  # of one that is too large
BLOCK = 1 << 16
PATIENCE = 30  # seconds without a byte, then the connection is closed
LONGEST_NAME = 255  # characters of a file's name
CONTENT_TYPE = "application/octet-stream"  # of an image file, whatever its kind
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class About(NamedTuple):
    """What the page says about the classifier."""

    run: str  # its folder
    facts: str  # network, classes, validation accuracy
    warning: str = ""  # why its answers are worth nothing


class Server(socketserver.ThreadingTCPServer):
    """Listens from the start; what follows is set before `serve_forever` is called."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # on Windows, two programs could then have the same port
    page: bytes
    policy: str  # Content-Security-Policy
    answer: Callable[[bytes, str], dict[str, Any]]  # to the bytes of a file and its name; `BadInput` for a bad one

    def __init__(self, port: int) -> None:
        self.one_at_a_time = threading.Lock()
        super().__init__((HOST, port), Handler)
        self.port = self.server_address[1]
        port = f":{self.port}" if self.port != 80 else ""  # browsers leave 80 out
        self.addresses = {f"{host}{port}" for host in (HOST, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no error; a fault of ours shows its traceback in the terminal."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request, in a thread of its own."""

    server: Server
    timeout = PATIENCE

    def do_GET(self) -> None:  # noqa: N802
        refusal = self._stranger() or self._elsewhere("/")
        if refusal:
            self._refuse(*refusal)
        else:
            self._send(200, "text/html; charset=utf-8", self.server.page)

    def do_POST(self) -> None:  # noqa: N802
        refusal = self._stranger() or self._elsewhere("/answer") or self._unfit()
        if refusal:
            self._refuse(*refusal)
            self._discard()
            return
        length = int(self.headers["Content-Length"])
        data = self.rfile.read(length)
        if len(data) < length:
            return  # the browser has gone
        try:
            with self.server.one_at_a_time:
                answer = self.server.answer(data, self._name())
        except BadInput as error:
            self._refuse(400, str(error))
        else:
            self._send(200, "application/json", json.dumps(answer).encode())

    def end_headers(self) -> None:
        """Every response, errors too, has the headers that keep it to itself."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", self.server.policy)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """The terminal stays quiet."""

    def _stranger(self) -> tuple[int, str] | None:
        """The refusal of a request that another page may have sent, else None."""
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or hosts[0] not in self.server.addresses:
            return 403, f"expected the address http://{HOST}:{self.server.port}/"
        if origins and origins != [f"http://{hosts[0]}"]:
            return 403, "sent by another page"
        return None

    def _elsewhere(self, path: str) -> tuple[int, str] | None:
        return None if self.path == path else (404, f"nothing is here; the page is http://{HOST}:{self.server.port}/")

    def _unfit(self) -> tuple[int, str] | None:
        """The refusal of what cannot be an image file of a fair size, else None."""
        if self.headers.get("Content-Type") != CONTENT_TYPE:
            return 415, f"expected the bytes of an image file, sent as {CONTENT_TYPE}"
        length = self._length()
        if length is None:
            return 411, "expected the length of the image file in bytes (Content-Length)"
        if length > MOST_BYTES:
            sizes = f"has {length / 10**6:,.1f} MB, expected at most {MOST_BYTES // 10**6}"
            return 413, str(BadInput(f"{self._name()}: {sizes}; make it smaller"))
        return None

    def _length(self) -> int | None:
        text = self.headers.get("Content-Length", "")
        return int(text) if re.fullmatch("[0-9]{1,15}", text) else None

    def _name(self) -> str:
        """The file's name, for messages, and for the kind of a Targa file, which has no other mark."""
        return urllib.parse.unquote(self.headers.get("X-File-Name", ""))[-LONGEST_NAME:] or "the image"

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, "application/json", json.dumps({"error": message}).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _discard(self) -> None:
        """Read on: a connection that is closed before is reset, and the browser may never see the refusal."""
        left = min(self._length() or 0, MOST_DISCARDED)
        while left > 0 and (block := self.rfile.read(min(left, BLOCK))):
            left -= len(block)


def listen(port: int) -> Server:
    """Take the port (0: any free one), before the network is loaded; `BadInput` if it cannot be had."""
    try:
        return Server(port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        what = "is taken by another program" if taken else f"cannot be used ({error.strerror})"
        raise BadInput(f"--port {port}: {what}; choose another, or 0 for any that is free") from None


def run(server: Server, classifier: Trained, about: About, known: Known | None, top: int, browser: bool) -> None:
    """Serve the page until Ctrl-C, a `KeyboardInterrupt`.

    known: what the training images look like, for the hint; None: no hint. top: how many classes an answer has.
    browser: open one.
    """
    server.page, server.policy = page(about)
    server.answer = answerer(classifier, known, top)
    size = classifier.framing.size
    classifier.features(np.zeros((1, size, size, 3), np.uint8))  # the first image is slow: TensorFlow builds its graph
    address = f"http://{HOST}:{server.port}/"
    print(f"Drop images on {address} (Ctrl-C ends it)", flush=True)
    if browser and _has_screen():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        server.serve_forever()
    finally:
        server.one_at_a_time.acquire()  # what is being computed ends, and nothing begins while Python closes


def about(head: Head, path: pathlib.Path | None) -> About:
    """What the page says about a head: one that was kept at `path`, or with None an untrained one."""
    origin, classes = head.provenance, f"{len(head.class_names)} classes"
    card = cards.CARDS[origin.network]
    title = card.small.title if card.small and origin.weights == "small" else card.title
    if path is None:
        return About("A head before training", f"{title}, {classes}", "The head is not trained yet: it guesses.")
    facts = f"{title}, {classes}, trained on {origin.trained_on}, {trained.accuracy(origin)}"
    return About(
        trained.place(path),
        facts + trained.state(path),
        f"Random weights: {title} has learned nothing, only the head on top." if origin.weights == "random" else "",
    )


def answerer(classifier: Trained, known: Known | None, top: int) -> Callable[[bytes, str], dict[str, Any]]:
    """A function: (bytes of an image file, its name) -> what the page shows; `BadInput` if they are not an image."""

    def answer(data: bytes, name: str) -> dict[str, Any]:
        image = images.frame(decoding.read(io.BytesIO(data), name), classifier.framing)
        features = classifier.features(image[None])  # e.g. fc7: (1, 4096)
        row = classifier.head.probabilities(features)[0]
        best = answers.most_probable(row, top)
        found = {"top": [{"name": classifier.class_names[index], "probability": float(row[index])} for index in best]}
        if known:
            percentile = novelty.percentiles(known, features)[0]
            found |= {"hint": novelty.sentence(percentile), "unlike": novelty.is_unlike(percentile)}
        return found

    return answer


def page(about: About) -> tuple[bytes, str]:
    """page.html with its blanks filled, and the policy under which its own script and style run, and no others."""
    text = PAGE.read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_hashes(text, 'script')}; style-src {_hashes(text, 'style')}; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    blanks = about._asdict() | {"kinds": decoding.NAMES, "most_bytes": MOST_BYTES, "most_mb": MOST_BYTES // 10**6,
                                "most_pixels": decoding.MOST_PIXELS // 10**6}  # fmt: skip
    filled = re.sub(r"\{\{(\w+)\}\}", lambda blank: html.escape(str(blanks[blank[1]])), text)
    return filled.encode("utf-8", "backslashreplace"), policy


def _hashes(text: str, tag: str) -> str:
    """The content of each <tag> as a source for the policy."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _has_screen() -> bool:
    """Without one, `webbrowser` would start a browser for terminals, which runs no scripts."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
