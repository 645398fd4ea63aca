"""Pictures and tables of the README, and the commands that make them."""
