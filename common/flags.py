"""The parser of all scripts, the types of numbers on the command line, and which flags go together."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from common.errors import LONGEST_MESSAGE, BadInput, printable

LARGEST = 10**9
LARGEST_SEED = 2**32 - 1  # NumPy's generators and Keras take 32 bits


class Parser(argparse.ArgumentParser):
    """argparse's parser, with a script's docstring as its help, and mistakes told in one printable line."""

    def __init__(self, description: str | None, **settings: Any) -> None:
        # No abbreviations: a flag that a later version adds would make them ambiguous.
        settings = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False} | settings
        super().__init__(description=description, **settings)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple:
        """As argparse's, but for what shells do to words.

        They make an empty text of a variable that is not set: a mistake. And they leave the ~ of `--out=~/my_run` as it
        is, which would make a folder of this name: it stands for the home folder all the same.
        """
        args = [_at_home(word) for word in (sys.argv[1:] if args is None else args)]
        for word in args:
            if not word or re.fullmatch(r"--\w+=", word):
                self.error(f"{word or 'an argument'}: is empty; give a value, or leave it out")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the mistake, with the flag that was probably meant; exit with status 2."""
        unknown = re.search(r"unrecognized arguments: (--\w+)", message)
        near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1) if unknown else []
        message += f"; did you mean {near[0]}?" if near else ""
        super().error(printable(message, LONGEST_MESSAGE))


def _at_home(word: str) -> str:
    """Only ~ itself and what lies in it: ~a.png is a file, which Windows would look for in C:\\Users."""
    flag, path = re.fullmatch(r"(--\w+=)?(.*)", word, re.DOTALL).groups("")
    return flag + (os.path.expanduser(path) if re.match(r"~([/\\]|\Z)", path) else path)


def at_least(least: float, kind: type = int, most: float = LARGEST) -> Callable[[str], float]:
    """argparse's type for numbers from `least` to `most`."""

    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:  # nan, too, is refused
            limits = f"{least} or more" if most == LARGEST else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"{text:.50}: expected {limits}")
        return value

    number.__name__ = kind.__name__  # as argparse calls it in "invalid int value"
    return number


def spelled(name: str, value: object) -> str:
    """A flag as it is typed."""
    return f"--{name}" if value is True else f"--{name} {value}"


def check_together(
    args: argparse.Namespace,
    defaults: argparse.Namespace,
    needs: dict[str, str] | None = None,
    useless_beside: dict[str, Sequence[str]] | None = None,
) -> None:
    """`BadInput` for a flag that would do nothing, rather than to leave it unheard.

    needs: {flag: another, without which it does nothing}. useless_beside: {flag: others that make it do nothing}.
    """

    def given(name: str) -> bool:
        return getattr(args, name, None) != getattr(defaults, name, None)

    for name, needed in (needs or {}).items():
        if given(name) and not given(needed):
            raise BadInput(f"--{name}: --{needed} is missing; give both, or neither")
    for name, others in (useless_beside or {}).items():
        for other in filter(given, others):
            if given(name):
                raise BadInput(f"--{name}: does nothing beside --{other}; leave out one of them")
