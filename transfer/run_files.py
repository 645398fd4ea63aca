"""Which runs there are, and what their files say: settings.json and history.json, see `transfer.runs`.

A folder may come from elsewhere, so no path in it is followed out of it: `settings.json` carries a signature made with
a key that stays on this machine, and without it the paths among the flags have to be given again.
"""

import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import secrets

from common.errors import BadInput, foreign
from common.files import open_regular
from common.locks import is_held
from common.writing import written_whole
from transfer import checkpoints

RUNS_DIR = pathlib.Path(__file__).resolve().parents[1] / "runs"
MEASURED_DIR = RUNS_DIR / "how_much"  # where images.how_much keeps a fine-tuning that was stopped
SETTINGS, HISTORY, LOCK = "settings.json", "history.json", ".lock"
KEY, KEY_SIZE = ".key", 32  # in RUNS_DIR: random bytes that tell this machine's own settings from foreign ones
DAMAGED = "its history is damaged"  # the state of a run
NEWEST = "newest"  # what --resume means without a folder


def find(name: str, script: str, demo: bool = False) -> pathlib.Path:
    """The folder of the run that `--resume` names; for NEWEST the newest of this script."""
    if name != NEWEST:
        return pathlib.Path(name).absolute()
    folder = newest(SETTINGS, demo, script)
    if folder is None:
        other = "" if demo or not newest(SETTINGS, True, script) else ", but of its demo: add --demo"
        raise BadInput(f"--resume: {RUNS_DIR} holds no run of {script}.py{other or '; start one without --resume'}")
    return folder


def newest(file: str, demo: bool = False, script: str | None = None) -> pathlib.Path | None:
    """The folder of the last run in runs/ that has this file; None if there is none. A demo's runs are kept apart.

    script: only runs that this script began.
    """
    found = []
    for path in RUNS_DIR.glob(f"*/{file}"):
        if demo != is_demo(path.parent):
            continue
        with contextlib.suppress(BadInput):
            if script is None or read_settings(path.parent)["script"] == script:
                found.append(path)
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def is_demo(folder: pathlib.Path) -> bool:
    """Whether the run was begun with --demo; where its settings do not say, its name does."""
    with contextlib.suppress(BadInput):
        flags = read_settings(folder)["flags"]
        if "demo" in flags:
            return flags["demo"] is True
    return folder.name.startswith("demo-")


def age(folder: pathlib.Path) -> float:
    """When its history was last written, or the run begun: the larger, the newer."""
    path = folder / HISTORY
    return (path if path.exists() else folder / SETTINGS).stat().st_mtime


def is_locked(folder: pathlib.Path) -> bool:
    """Whether a process is training it, see `locks.is_held`."""
    return is_held(folder / LOCK)


def state(folder: pathlib.Path) -> str:
    """A clause about the run's state for people: empty when it has finished."""
    try:
        history = read_history(folder)
    except BadInput:
        return DAMAGED
    if history["ended"]:
        return ""
    return f"{'still training' if is_locked(folder) else 'unfinished'}, {len(history['epochs'])} epochs so far"


def read_history(folder: pathlib.Path) -> dict:
    """history.json of a run, or an empty one: {"ended": bool, "kept": int, "head": [epochs], "epochs": [...]}."""
    path = folder / HISTORY
    if not path.exists():
        return {"ended": False, "kept": 0, "head": [], "epochs": []}
    history = checkpoints.read_json(path)
    with foreign(path, "the history of a run", "start a new run"):
        hashed = history.pop("sha256", None)
        if hashed and hashed != checkpoints.hash_of(history):
            raise ValueError("it was changed after it was written")
        for epoch in [*history["epochs"], *history.get("head", [])]:
            for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
                if not abs(epoch[name]) < float("inf"):  # nan, too
                    raise ValueError(f"{name} is {epoch[name]}")
        head, epochs = history.get("head", []), history["epochs"]
        for part in (head, epochs):
            if [epoch["epoch"] for epoch in part] != list(range(1, len(part) + 1)):
                raise ValueError("its epochs are not 1, 2, 3 ...")
        kept = history.get("kept", len(epochs))
        if kept not in range(len(epochs) + 1):
            raise ValueError(f"it kept epoch {kept!a:.60} of {len(epochs)}")
        return {"ended": bool(history["ended"]), "kept": int(kept), "head": head, "epochs": epochs}


def read_settings(folder: pathlib.Path) -> dict:
    """settings.json of a run: {"script": str, "flags": dict, ...}. `BadInput` when it is none."""
    if not (folder / SETTINGS).exists():
        raise BadInput(f"{folder}: no run, it has no {SETTINGS}; give a folder that a training script wrote")
    settings = checkpoints.read_json(folder / SETTINGS)
    if (
        not isinstance(settings, dict)
        or not isinstance(settings.get("script"), str)
        or not isinstance(settings.get("flags"), dict)
    ):
        raise BadInput(f"{folder}: no run, its {SETTINGS} is damaged or of another kind; give a run's folder")
    return settings


def write_settings(folder: pathlib.Path, settings: dict, signed: bool) -> None:
    """signed: with this machine's key, see `begun_here`."""
    settings = {name: value for name, value in settings.items() if name != "signature"}
    if signed:
        settings["signature"] = _signature(settings)
    with written_whole(folder / SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings, indent=1, sort_keys=True))


def begun_here(folder: pathlib.Path) -> bool:
    """Whether this machine began the run: its flags, and the paths among them, can then be trusted."""
    try:
        settings = read_settings(folder)
        given = str(settings.pop("signature", "")).encode(errors="replace")
        return hmac.compare_digest(given, _signature(settings).encode())
    except BadInput:
        return False


def trusted_flags(folder: pathlib.Path) -> dict:
    """The flags of a run that this machine began; {} of any other folder."""
    return read_settings(folder)["flags"] if begun_here(folder) else {}


def _signature(settings: dict) -> str:
    """HMAC-SHA256 of the settings under this machine's key, in hexadecimal."""
    return hmac.new(_key(), json.dumps(settings, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """This machine's key. It is made when it is first needed, once, however many runs start at that moment."""
    path = RUNS_DIR / KEY
    if not os.path.lexists(path):
        with written_whole(path, keep=True) as temporary:
            temporary.write_bytes(secrets.token_bytes(KEY_SIZE))
        path.chmod(0o600)  # whoever reads it could sign settings that name any path
    with open_regular(path, "the key that signs runs") as file:
        key = file.read(KEY_SIZE + 1)
    if len(key) != KEY_SIZE:
        raise BadInput(f"{path}: is damaged, expected {KEY_SIZE} bytes; delete it (a new one is made, and the runs so "
                       "far then count as begun elsewhere)")  # fmt: skip
    return key
