"""Labelled images: how they are found, checked and read; also the folder where they land (git ignores them)."""

import pathlib

DATA_DIR = pathlib.Path(__file__).resolve().parent
