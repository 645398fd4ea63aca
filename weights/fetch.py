"""Download a network's weights, check them, and say what they are.

    python -m weights.fetch alexnet        # 244 MB, into weights/

The scripts download what they need; this is for downloading it beforehand. VGG16 and ResNet50 are not
among the choices: Keras downloads those.
"""

from common.program import run

from common.files import file_hash
from common.flags import Parser
from weights import cards, reading


def main() -> None:
    parser = Parser(__doc__, prog="python -m weights.fetch")
    parser.add_argument("network", choices=[card.name for card in cards.CARDS.values() if card.shapes])
    card = cards.CARDS[parser.parse_args().network]
    path = reading.default_path(card)
    weights = reading.load(card, path)
    parameters = sum(array.size for arrays in weights.values() for array in arrays)
    print(f"{card.title}: {path}")
    print(f"{path.stat().st_size:,} bytes, SHA-256 {file_hash(path, 'sha256')}")
    print(f"{parameters:,} parameters in {len(weights)} layers, all finite; {card.licence}")
    print(f"ImageNet validation images, as published: top-1 {card.top1} %, top-5 {card.top5} %")


if __name__ == "__main__":
    run(main)
