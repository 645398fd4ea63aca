"""Write a contact sheet of the 43 drawn traffic signs.

python -m data.drawn_signs sheet.png
"""

import argparse

from common.program import run

from data.drawn_signs import contact_sheet


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data.drawn_signs", description="Write a contact sheet of the 43 drawn traffic signs."
    )
    parser.add_argument("path", help="the PNG to write")
    contact_sheet(parser.parse_args().path)


if __name__ == "__main__":
    run(main)
