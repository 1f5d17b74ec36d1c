"""Scripts that would start themselves again in every worker process.

Worker processes are spawned: each imports the script that started them. What such a script does outside of
``if __name__ == "__main__":`` is then done by every worker too, which fails in hundreds of lines.
"""

from __future__ import annotations

import sys

from cagdask.errors import ClusterError


def check_main_guard() -> None:
    """Refuse to start worker processes from a script without a guard; notebooks and prompts need none.

    Raises
    ------
    ClusterError
        Naming the script and the lines to add.
    """
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if path is None or not path.endswith(".py"):
        return
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            guarded = "__name__" in handle.read()
    except OSError:
        return
    if not guarded:
        raise ClusterError(
            f"{path}: every worker process imports this script and would run it again. Put what it does below a line "
            'if __name__ == "__main__": and indent it.'
        )
