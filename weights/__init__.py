"""How weights are found, fetched, checked and read; also the folder where they land (git ignores them)."""
