"""Training: what is trained, the loop, runs that can be resumed, evaluation and plots."""
