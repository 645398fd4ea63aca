"""What every program needs and no network or image is part of: starting, flags, files, downloads, safe pickles."""
