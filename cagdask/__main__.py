"""The program ``cagdask``, also as ``python -m cagdask``."""

from __future__ import annotations

import atexit
import gc
import sys

from cagdask.compute import signals
from cagdask.compute.quick_start import rarely_collect


def main() -> None:
    """Run the command; what ends it while it is being imported ends it in one line, too."""
    rarely_collect()
    atexit.register(gc.freeze)  # else Python looks through all objects once more before it ends: 0.2 s
    try:
        with signals.raised():
            from cagdask.cli import main as command

            command()
    except KeyboardInterrupt as err:
        line, code = signals.line_and_code(err)
        sys.stderr.write(f"cagdask: {line}\n")
        sys.exit(code)


if __name__ == "__main__":
    main()
