"""How every script starts and ends: TensorFlow kept quiet, mistakes told in one line, exit status 2."""

import os
import sys

from data.files import BadInput


def run(main):
    """Call `main()`; a `BadInput` becomes one line on stderr and exit status 2, Ctrl-C exit status 130.

    The scripts import TensorFlow inside their functions, when it is first needed: `--help` and a mistyped flag
    are then answered at once, and the settings below are in force before TensorFlow reads them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's C++ log: errors only (0 shows all)
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        main()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (`| head`) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
