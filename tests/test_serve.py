"""transfer/serve.py and page.html: answers as the scripts give them, none for strangers, and the page in Chromium."""

import base64
import contextlib
import hashlib
import html.parser
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import chromium
import numpy as np
import pytest
from conftest import NO_NETWORK, ROOT, in_one_line
from PIL import Image

import feature_extraction
from data import drawn_signs, images
from googlenet import GoogLeNet
from networks.network import pooled_size
from transfer import novelty, serve, trained
from weights import cards, heads, reading

SIZE = 32  # pixels
CLASSES = [f"class {number}" for number in range(6)] + ["<b>größe</b> 花"]
TARGA = b"\0\0\x02" + bytes(9) + b"\x01\0\x01\0\x18\0" + b"\0\0\xff"  # one red pixel; only its name says what it is


@pytest.fixture(scope="module")
def classifier():
    """GoogLeNet with random weights; a head that tells images apart."""
    network = GoogLeNet(reading.load(cards.GOOGLENET, "random", seed=3), image_size=SIZE)
    origin = trained.provenance_of(network, "pool3", "random", 3, "noise", images.Framing(SIZE, "crop", 40))
    head = heads.untrained(pooled_size(network.output_shape("pool3")), CLASSES, provenance=origin)
    head = head._replace(kernel=head.kernel * 30, provenance=origin._replace(validation_accuracy=0.5))
    return trained.Trained(network, head, ROOT)


@pytest.fixture(scope="module")
def known(classifier, files):
    """The stop sign is a class mean, so it lies at distance 0; 0.2 is far."""
    others = drawn_signs.draw(per_class=1, size=SIZE)[0][:9]
    features = classifier.features(np.concatenate([classifier.read([files / "stop.png"]), others]))
    fitted = novelty.fit(features, np.arange(10), np.arange(10), np.arange(0))
    return fitted._replace(quantiles=np.linspace(0, 0.2, 101, dtype=np.float32))


@pytest.fixture(scope="module")
def server(classifier, known):
    """A server that answers, in a thread of its own."""
    about = serve.About("runs/<my run>", "facts & figures", "")
    with serve.listen(0) as server:
        thread = threading.Thread(target=serve.run, args=(server, classifier, about, known, 3, False))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a drawn sign, and files that are no images."""
    folder = tmp_path_factory.mktemp("files")
    Image.fromarray(drawn_signs.draw(per_class=1, size=90)[0][14]).save(folder / "stop.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)).save(folder / "größe.png")
    (folder / "text.jpg").write_text("these are no pixels\n")
    (folder / "large.png").write_bytes(bytes(serve.MOST_BYTES + 1))
    return folder


def ask(server, data=None, path="/answer", **headers):
    """(status, headers, text) of a GET, or of a POST with `data`; headers of None are left out."""
    name = f"127.0.0.1:{server.port}"
    headers = {"Host": name} | ({} if data is None else {"Content-Type": serve.CONTENT_TYPE}) | headers
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    request = urllib.request.Request(f"http://{name}{path}", data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def refusal(*arguments, **headers):
    """(status, message)"""
    status, _, text = ask(*arguments, **headers)
    message = json.loads(text)["error"]
    assert message.isprintable()
    return status, message


@pytest.mark.parametrize("name", ["stop.png", "größe.png"])
def test_answers_as_the_scripts_do(server, classifier, known, files, name):
    status, _, text = ask(server, (files / name).read_bytes(), X_File_Name=urllib.request.quote(name))
    answer = json.loads(text)
    image = classifier.read([files / name])
    row = classifier.probabilities(image)[0]
    best = np.argsort(-row)[:3]
    assert status == 200 and [each["name"] for each in answer["top"]] == [CLASSES[index] for index in best]
    assert [each["probability"] for each in answer["top"]] == pytest.approx(row[best], abs=1e-6)
    assert np.ptp(row) > 0.1
    (percentile,) = novelty.percentiles(known, classifier.features(image))
    assert answer["hint"] == novelty.sentence(percentile)
    assert answer["unlike"] == (name == "größe.png")  # noise


def test_a_bad_file_is_told_in_one_line(server, files, capfd):
    name = "\n<b>.jpg"
    status, message = refusal(server, (files / "text.jpg").read_bytes(), X_File_Name=urllib.request.quote(name))
    assert status == 400 and message.startswith("\\n<b>.jpg: is a text file, not an image") and "JPEG" in message
    damaged = (files / "stop.png").read_bytes()[:2000]
    assert refusal(server, damaged)[1].startswith("the image: ")
    assert "empty" in refusal(server, b"")[1]
    assert ask(server, (files / "stop.png").read_bytes())[0] == 200
    assert capfd.readouterr() == ("", "")


def test_the_name_says_what_a_targa_file_is(server):
    assert ask(server, TARGA, X_File_Name="red.tga")[0] == 200
    assert refusal(server, TARGA)[0] == 400


@pytest.mark.parametrize("more", [1, serve.MOST_BYTES])
def test_a_file_that_is_too_large(server, more):
    """The refusal arrives, though the file is not read into memory."""
    status, message = refusal(server, bytes(serve.MOST_BYTES + more), X_File_Name="large.png")
    assert status == 413 and re.fullmatch(r"large\.png: has [24]0\.0 MB, expected at most 20; make it smaller", message)


STRANGERS = {
    "a name that leads here": (403, {"Host": "evil.example:{port}"}),
    "another port": (403, {"Host": "127.0.0.1:1"}),
    "no port": (403, {"Host": "localhost"}),
    "another page": (403, {"Origin": "http://evil.example"}),
    "another server of this machine": (403, {"Origin": "http://127.0.0.1:1"}),
    "a page without an address": (403, {"Origin": "null"}),
    "a form": (415, {"Content_Type": "multipart/form-data; boundary=x"}),
    "a form of text": (415, {"Content_Type": "text/plain"}),
}


@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_get_no_answer(server, files, who):
    expected, headers = STRANGERS[who]
    headers = {name: value.format(port=server.port) for name, value in headers.items()}
    assert refusal(server, (files / "stop.png").read_bytes(), **headers)[0] == expected
    if "Content_Type" not in headers:
        assert refusal(server, None, "/", **headers)[0] == expected


def test_its_own_page_may_ask_under_both_names(server, files):
    for host in "127.0.0.1", "localhost":
        name = f"{host}:{server.port}"
        assert ask(server, (files / "stop.png").read_bytes(), Host=name, Origin=f"http://{name}")[0] == 200
    own, other = f"127.0.0.1:{server.port}", f"http://localhost:{server.port}"
    assert refusal(server, b"", Host=own, Origin=other)[0] == 403


@pytest.mark.parametrize("path", ["/answer", "/page.html", "/../feature_extraction.py", "/favicon.ico", "/?", "/."])
def test_no_other_path(server, path):
    assert refusal(server, None, path)[0] == 404
    assert refusal(server, b"", "/" if path == "/answer" else path)[0] == 404


@pytest.mark.parametrize("lines", [
    "POST /answer HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n\r\n",
    "POST /answer HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /answer HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: -1\r\n\r\n",
    "POST /answer HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: 9e9\r\n\r\n",
    "POST /answer HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: 0\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nOrigin: http://evil.example\r\n\r\n",
    "OPTIONS /answer HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "PUT /answer HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc",
    "no HTTP at all\r\n\r\n",
])  # fmt: skip
def test_odd_requests(server, lines, capfd):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(lines.format(host=f"127.0.0.1:{server.port}", kind=serve.CONTENT_TYPE).encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert re.match(rb"HTTP/1.0 (403|411|501)|.*Error code: 400", answer, re.DOTALL), answer
    assert capfd.readouterr() == ("", "")


def test_one_image_at_a_time(server, files, monkeypatch):
    inside, most, answer = [], [], server.answer

    def watched(*arguments):
        inside.append(None)
        most.append(len(inside))
        time.sleep(0.05)
        try:
            return answer(*arguments)
        finally:
            inside.pop()

    monkeypatch.setattr(server, "answer", watched)
    statuses, data = [], (files / "stop.png").read_bytes()
    threads = [threading.Thread(target=lambda: statuses.append(ask(server, data)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4 and most == [1] * 4


def test_a_browser_that_goes_away(server, files, capfd):
    """In the middle of an image, and before the answer; others are served meanwhile."""
    head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: {serve.CONTENT_TYPE}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as waiting:
        waiting.sendall(f"{head}Content-Length: 9000\r\n\r\nabc".encode())
        assert ask(server, (files / "stop.png").read_bytes())[0] == 200
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets the connection
        gone.sendall(f"{head}Content-Length: 3\r\n\r\nabc".encode())
    assert ask(server, (files / "stop.png").read_bytes())[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_ours_is_seen_in_the_terminal(server, files, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(server, "answer", lambda *_: {}["absent"])
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            ask(server, b"abc")
    assert "KeyError: 'absent'" in capfd.readouterr().err
    assert ask(server, (files / "stop.png").read_bytes())[0] == 200


class Elements(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.contents = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.contents.append((self.tags[-1][0], data))
            self.tags.append(("end", {}))


def test_the_page_and_its_headers(server):
    status, headers, text = ask(server, path="/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert "runs/&lt;my run&gt;" in text and "facts &amp; figures" in text and "up to 20 MB" in text
    assert "{{" not in text and "http" not in re.sub("<!--.*?-->", "", text)  # all of it is here
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    elements = Elements(text)
    for tag, content in elements.contents:
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert {tag for tag, _ in elements.contents} == {"script", "style"}
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    for _, others, _ in ask(server, b""), ask(server, path="/no"):
        assert others["Content-Security-Policy"] == headers["Content-Security-Policy"]


def test_what_the_page_says_of_a_head(classifier, tmp_path):
    about = serve.about(classifier.head, tmp_path / "my_run" / "head.npz")
    assert about.run == str(tmp_path / "my_run") and "Random weights" in about.warning
    assert about.facts == "BVLC GoogLeNet (Inception v1), 7 classes, trained on noise, validation accuracy 0.500"
    published = classifier.head._replace(provenance=classifier.head.provenance._replace(weights=None))
    assert serve.about(published, tmp_path / "other.npz")[::2] == (str(tmp_path / "other.npz"), "")
    assert "guesses" in serve.about(classifier.head, None).warning


def test_a_port_that_is_taken(server):
    message = in_one_line(serve.listen, server.port)
    assert message.startswith(f"--port {server.port}: is taken by another program")


def test_only_this_machine_is_listened_to(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("screen", ["", ":0"])
def test_a_browser_is_opened_where_it_can_be_seen(classifier, monkeypatch, screen):
    opened = []
    monkeypatch.setattr(serve.webbrowser, "open", opened.append)
    monkeypatch.setattr(serve.sys, "platform", "linux")
    for name in "DISPLAY", "WAYLAND_DISPLAY", "BROWSER":
        monkeypatch.setenv(name, screen)
    with serve.listen(0) as server:
        monkeypatch.setattr(server, "serve_forever", lambda: time.sleep(0.1))
        serve.run(server, classifier, serve.About("", ""), None, 5, browser=True)
    assert opened == [f"http://127.0.0.1:{server.port}/"] * bool(screen)


@pytest.mark.parametrize("arguments, message", [
    (["a.png"], "leave out a.png"), (["--export", "model"], "leave out --export"),
])  # fmt: skip
def test_flags_that_contradict_each_other(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["feature_extraction.py", "--demo", "--serve", *arguments])
    assert message in in_one_line(feature_extraction.main)


def test_before_a_training(monkeypatch, capsys):
    """The head guesses, as without --serve, and the page says so."""
    told = []
    monkeypatch.setattr(serve, "run", lambda *arguments: told.append(arguments))
    monkeypatch.setattr(sys, "argv", ["feature_extraction.py", "--demo", "--serve", "--port", "0", "--no_browser"])
    feature_extraction.answer_in_browser(feature_extraction.parse_arguments(), None)
    ((_, classifier, about, known, top, browser),) = told
    assert "guesses" in about.warning and "guesses" in capsys.readouterr().out
    assert (known, top, browser) == (None, 5, False)
    assert classifier.framing == images.Framing(32) and classifier.head.kernel.shape == (4096, 43)


@pytest.mark.slow
def test_the_script_serves_from_any_folder_until_ctrl_c(classifier, files, tmp_path):
    heads.save(classifier.head, tmp_path / "head.npz")
    command = [sys.executable, ROOT / "feature_extraction.py", "--serve", "--head", "head.npz", "--port", "0"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    script = subprocess.Popen([*command, "--no_browser", "--top", "7"], cwd=tmp_path, text=True, env=NO_NETWORK,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    with script:
        try:
            address = next(filter(None, (re.search(r"http://[\d.:]+/", line) for line in script.stdout)))[0]
            data = (files / "stop.png").read_bytes()
            request = urllib.request.Request(f"{address}answer", data, {"Content-Type": serve.CONTENT_TYPE})
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
                found = {each["name"]: each["probability"] for each in json.load(answer)["top"]}
            script.send_signal(signal.SIGINT)
            rest = script.communicate(timeout=60)
        finally:
            script.kill()
    row = classifier.probabilities(classifier.read([files / "stop.png"]))[0]
    assert [found[name] for name in CLASSES] == pytest.approx(row, abs=1e-4)
    assert (script.returncode, rest) == (130, ("", ""))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium or Chrome is here")
    with chromium.Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@contextlib.contextmanager
def page(server, browser, width=1000, height=800, dark=False):
    """The page, newly opened; afterwards, the browser must not have complained (a refusal of ours is in its log)."""
    browser.window(width, height, dark=dark)
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.complaints.clear()
    yield
    assert not [text for text in browser.complaints if "the server responded with a status of 400" not in text]


TEXT = "document.getElementById('{}').innerText"
ROWS = "[...document.querySelectorAll('li')].map((row) => row.innerText.replace(/\\s+/g, ' '))"
PROBLEM, ANSWER = TEXT.format("problem"), TEXT.format("result")


@pytest.mark.slow
def test_a_dropped_image(server, browser, classifier, files):
    with page(server, browser):
        browser.drop(files / "stop.png", "#drop")
        browser.wait_for(ANSWER)
        row = classifier.probabilities(classifier.read([files / "stop.png"]))[0]
        best = np.argsort(-row)[:3]
        assert browser.evaluate(ROWS) == [f"{CLASSES[index]} {row[index]:.3f}" for index in best]
        assert "than" in browser.evaluate(ANSWER).splitlines()[-1]
        alt = browser.evaluate("document.getElementById('shown').alt")
        assert alt == "The image you gave: stop.png" and browser.evaluate(PROBLEM) == ""
        time.sleep(0.5)  # the bars grow
        share = "document.querySelector('.bar').offsetWidth / document.querySelector('.rail').offsetWidth"
        assert browser.evaluate(share) == pytest.approx(row[best[0]], abs=0.01)


@pytest.mark.slow
def test_anywhere_on_the_page(server, browser, files):
    with page(server, browser):
        browser.drop(files / "größe.png", "h1")
        browser.wait_for(ANSWER)
        assert "Unlike anything in training" in browser.evaluate(ANSWER)
        assert browser.evaluate("document.querySelector('#result .note').className") == "note warn"
        assert browser.evaluate("document.title") == "What is in this image?"


@pytest.mark.slow
@pytest.mark.parametrize("name, message", [
    ("text.jpg", "text.jpg: is a text file, not an image"),
    ("large.png", "large.png: has 20.0 MB, expected at most 20"), (".", "no answer. Is it a file that can be read"),
])  # fmt: skip
def test_a_bad_file_after_a_good_one(server, browser, files, name, message):
    with page(server, browser):
        browser.drop(files / "stop.png", "#drop")
        browser.wait_for(ANSWER)
        browser.drop(files / name, "#drop")
        assert message in browser.wait_for(PROBLEM)
        assert browser.evaluate(ANSWER) == "" and browser.evaluate("document.getElementById('given').hidden")
        browser.drop(files / "stop.png", "#drop")
        browser.wait_for(ANSWER)
        assert browser.evaluate(PROBLEM) == ""
        if name == ".":
            browser.complaints.clear()  # the browser's own about a folder


@pytest.mark.slow
def test_a_chosen_and_a_pasted_image(server, browser, files):
    with page(server, browser):
        browser.choose(files / "stop.png", "#file")
        browser.wait_for(ANSWER)
        answer = browser.evaluate(ROWS)
        browser.open(f"http://127.0.0.1:{server.port}/")
        data = base64.b64encode((files / "stop.png").read_bytes()).decode()
        browser.evaluate(f"""
            (() => {{
                const clipboard = new DataTransfer();
                const bytes = Uint8Array.from(atob("{data}"), (character) => character.charCodeAt(0));
                clipboard.items.add(new File([bytes], "image.png", {{type: "image/png"}}));
                dispatchEvent(new ClipboardEvent("paste", {{clipboardData: clipboard}}));
            }})()""")
        browser.wait_for(ANSWER)
        assert browser.evaluate(ROWS) == answer
        browser.evaluate("dispatchEvent(new ClipboardEvent('paste', {clipboardData: new DataTransfer()}))")
        assert "no image to paste" in browser.evaluate(PROBLEM)


@pytest.mark.slow
def test_a_photo_from_the_camera(server, browser):
    with page(server, browser):
        browser.click("#camera")
        browser.wait_for("document.getElementById('video').videoWidth")
        assert browser.evaluate("document.activeElement.id") == "take"
        browser.click("#take")
        browser.wait_for(ANSWER)
        assert browser.evaluate(TEXT.format("name")) == "photo.png"
        assert browser.evaluate("document.getElementById('finder').hidden && document.activeElement.id == 'camera'")


@pytest.mark.slow
def test_with_the_keyboard(server, browser):
    with page(server, browser):
        for expected in "file", "camera":
            browser.press("Tab", 9)
            assert browser.evaluate("document.activeElement.id") == expected
        assert browser.evaluate("document.querySelector('#file').labels[0].id") == "drop"


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone(server, browser, files, monkeypatch, dark):
    """390 x 844: nothing to scroll to the side, not even for a long name without a space; text is legible."""
    long = {"top": [{"name": "x" * 200, "probability": 1.0}], "hint": "y" * 100, "unlike": True}
    monkeypatch.setattr(server, "answer", lambda *_: long)
    with page(server, browser, 390, 844, dark):
        browser.drop(files / "stop.png", "#drop")
        browser.wait_for(ANSWER)
        assert browser.evaluate("document.documentElement.scrollWidth") == 390 == browser.evaluate("innerWidth")
        style = "getComputedStyle(document.body)"
        paper, ink = browser.evaluate(f"[{style}.backgroundColor, {style}.color]")
        assert (brightness(paper) < brightness(ink)) == dark
        for selector in "h1", ".faint", "#drop", "#camera", ".number", ".warn:not(:empty)":
            assert contrast(browser, selector) >= 4.5, selector


def brightness(color):
    """Relative luminance of "rgb(r, g, b)" as the Web Content Accessibility Guidelines define it, 0 to 1."""
    channels = np.array([int(channel) for channel in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(browser, selector):
    """The contrast ratio of an element's text with what lies behind it, 1 to 21."""
    found = browser.evaluate(f"""
        ((element) => {{
            const color = getComputedStyle(element).color;
            while (getComputedStyle(element).backgroundColor == "rgba(0, 0, 0, 0)") element = element.parentElement;
            return [color, getComputedStyle(element).backgroundColor];
        }})(document.querySelector({selector!r}))""")
    dark, light = sorted(map(brightness, found))
    return (light + 0.05) / (dark + 0.05)
