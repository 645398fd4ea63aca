"""Weights: finding, downloading, checking and reading them; also the folder that holds them (git ignores them)."""
