"""Which images a training sees: those of its script or one's own, all of them or a few of each class."""

from data import datasets, images, own_images
from weights import cards


def chosen(args, load):
    """(dataset, rows for training, rows for validation): what `load(args)` returns, or `--training_dir`'s images.

    With `--per_class` and `--validation_per_class`, the others are not in the dataset any more.
    """
    dataset, rows, validation_rows = own(args) if args.training_dir else load(args)
    if not (args.per_class or args.validation_per_class):
        return dataset, rows, validation_rows
    parts = datasets.Split(dataset, rows, validation_rows)
    return datasets.fewer(parts, args.per_class, args.validation_per_class, args.seed)


def own(args):
    """The images of `--training_dir`, with those of `--validation_dir` or a third of them for validation."""
    training_dir, validation_dir, said = own_images.find_split(args.training_dir, args.validation_dir)
    if said:
        print(said)
    card = cards.CARDS[args.network]
    size = own_images.side_to_keep(training_dir, args.image_size)
    framing = images.as_trained(card.framing, size, card.input_size)
    load = lambda folder, names: own_images.load(folder, framing, names, args.skip_unreadable)
    dataset = load(training_dir, None)
    if not validation_dir:
        return datasets.split(dataset, "random", args.seed)
    if said := own_images.overlap(training_dir, validation_dir):
        print(said)
    return datasets.joined(dataset, load(validation_dir, dataset.class_names))


def framing_settings(dataset, args):
    """What a head keeps of how its images were framed: squares of the dataset's size."""
    card, size = cards.CARDS[args.network], dataset.images.shape[1]
    framing = images.as_trained(card.framing, size, card.input_size) if args.training_dir else images.Framing(size)
    return {"picture_size": size, "crop": bool(args.training_dir), "framing": list(framing)}
