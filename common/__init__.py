"""What every program needs, whatever its networks and images: starting, flags, files, downloads, safe pickles."""
