"""Transfer learning: networks with a new head, their features, training, kept runs, evaluation, export."""
