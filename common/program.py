"""How every script starts and ends: TensorFlow kept quiet, mistakes told in one line, exit status 2."""

import contextlib
import os
import pathlib
import re
import sys
import tempfile

from common.files import BadInput


def run(main):
    """Call `main()`; a `BadInput` becomes one line on stderr and exit status 2, Ctrl-C exit status 130.

    The scripts import TensorFlow inside their functions, when it is first needed: `--help` and a mistyped flag
    are then answered at once, and the settings below are in force before TensorFlow reads them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's C++ log: errors only (0 shows all)
    try:
        main()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (`| head`) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def shown(path: str | os.PathLike) -> pathlib.Path:
    """The path as a person would type it here."""
    path, here = pathlib.Path(path), pathlib.Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def start_tensorflow():
    """Import TensorFlow and find its devices without the lines its libraries write while they start.

    They come from C++ through file descriptor 2, some before any setting is read, so for these seconds the descriptor
    leads to a temporary file. Should the start fail, what was written there is shown.
    """
    with stderr_kept_back():
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # no word about functions that are deprecated but still there
        tf.config.list_logical_devices()


def compute_dtype(precision, gradients=False):
    """TensorFlow's type to compute features in, or also gradients, for "float32", "bfloat16" or "auto".

    bfloat16 keeps float32's range with 3 digits, enough for features, and is about twice as fast where the hardware
    multiplies it: GPUs from Nvidia's Ampere on, processors with AVX-512 BF16 or AMX. Elsewhere it would be slower.
    For gradients, "auto" takes it on GPUs only: on a Zen 4 processor AlexNet learns 1.4 times as fast with it,
    GoogLeNet 0.6 times.
    """
    import tensorflow as tf

    if precision == "auto":
        fast = _multiplies_bfloat16() and not (gradients and not tf.config.list_physical_devices("GPU"))
        precision = "bfloat16" if fast else "float32"
    return tf.as_dtype(precision)


def _multiplies_bfloat16():
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    try:
        with open("/proc/cpuinfo") as file:  # Linux
            return bool(re.search(r"^flags.*\b(avx512_bf16|amx_bf16)\b", file.read(), re.MULTILINE))
    except OSError:
        return False


@contextlib.contextmanager
def stderr_kept_back():
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
