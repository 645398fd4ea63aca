"""Transfer learning: networks with a new head, their features, training, kept runs, evaluation, export.

What the scripts call, in the order in which they do; each module says the rest itself:

    flags, command_line, resuming     what was asked for
    recipe, cases                     which of the four cases, and how it is trained
    loading, features, fast           frozen layers: their output, computed once ...
    feature_store, bottlenecks        ... and kept
    classifier, loop, steps           what is trained, epoch by epoch; under the steps: losses, schedules, averaging,
                                      augmentation, teacher, devices
    runs, run_files, checkpoints      what is kept of it, after every epoch
    results, evaluation, plots, seen  how good it is
    trained, answers, novelty         what it says about images
    exports                           where it can go: saved_model, lite (with calibration), onnx_file; serve
    clean                             what all this leaves on the disk

Commands of their own: distill (with least_squares), shrink and packing make the small AlexNet.
"""
