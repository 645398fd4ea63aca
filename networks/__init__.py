"""What all networks share, and the two that come from `keras.applications`."""
