"""Which images a training sees: those of its script or one's own, all of them or a few of each class."""

from data import datasets, own_images


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
    size = args.image_size
    load = lambda folder, names: own_images.load(folder, size, class_names=names, skip_unreadable=args.skip_unreadable)
    dataset = load(args.training_dir, None)
    if not args.validation_dir:
        return datasets.split(dataset, "random", args.seed)
    return datasets.joined(dataset, load(args.validation_dir, dataset.class_names))
