"""Headless Chromium without a driver: the browser's own protocol (DevTools), JSON over a pipe.

with Chromium(folder) as browser:
    browser.open("http://127.0.0.1:8227/")
    browser.drop("stop.png", "#drop")
    browser.wait_for("document.querySelector('ol')?.innerText")
"""

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
SECONDS = 60  # for an answer; a slow machine starts Chromium in 10
# Chromium reads commands from descriptor 3 and writes to 4.
START = """
import os, sys
for number, ours in (3, sys.argv[1]), (4, sys.argv[2]):
    os.dup2(int(ours), number)
    os.set_inheritable(int(ours), False)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Chromium:
    """A browser with one page, its settings in `folder`. A camera is pretended, and allowed."""

    def __init__(self, folder):
        commands, self._commands = high_pipe()
        self._answers, answers = high_pipe()
        flags = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--disable-gpu",
                 "--no-first-run", "--no-proxy-server", "--use-fake-device-for-media-stream",
                 "--use-fake-ui-for-media-stream", *["--no-sandbox"] * (os.geteuid() == 0)]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(commands), str(answers), PROGRAM, *flags],
            pass_fds=(commands, answers), stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._read, self._number, self._session = b"", 0, {}
        self.complaints = []  # exceptions, and what the browser has logged: a violated policy, a failed request
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in "Page", "Runtime", "Log":
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method, **parameters):
        """The result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(answer["params"]))
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _message(self):
        end = time.monotonic() + SECONDS
        while b"\0" not in self._read:
            ready = select.select([self._answers], [], [], max(0, end - time.monotonic()))[0]
            assert ready, "Chromium does not answer"
            piece = os.read(self._answers, 1 << 20)
            assert piece, "Chromium has ended"
            self._read += piece
        message, self._read = self._read.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression):
        """The value of the expression as soon as it is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"not within {SECONDS} seconds: {expression}"
            time.sleep(0.05)
        return value

    def window(self, width, height, scale=1, dark=False):
        """The size of the window in CSS pixels, and the colours that the user likes."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=width < 600)  # fmt: skip
        liked = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[liked])

    def open(self, address):
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState == 'complete' && location.href != 'about:blank'")

    def drop(self, path, selector):
        """Drag a file from elsewhere and drop it on an element."""
        x, y = self._centre(selector)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for step in "dragEnter", "dragOver", "drop":
            self.call("Input.dispatchDragEvent", type=step, x=x, y=y, data=data)

    def _centre(self, selector):
        return self.evaluate(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )

    def choose(self, path, selector):
        """Choose a file in an <input>."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key, code):
        """Press a key and let it go."""
        for step in "rawKeyDown", "keyUp":
            self.call("Input.dispatchKeyEvent", type=step, key=key, code=key, windowsVirtualKeyCode=code)

    def click(self, selector):
        """As a user's click: `element.click()` asks for no camera."""
        x, y = self._centre(selector)
        for step in "mousePressed", "mouseReleased":
            self.call("Input.dispatchMouseEvent", type=step, x=x, y=y, button="left", clickCount=1)

    def screenshot(self):
        """PNG bytes of the window."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


def high_pipe():
    """A pipe whose descriptors are not 3 or 4."""
    import fcntl  # not on Windows, where the other tests run all the same

    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high
