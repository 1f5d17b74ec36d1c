"""Kernels that were compiled before are loaded without what compiles; what is new is compiled, and calls them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODULE = """
from cagdask.compute.kernels import njit

@njit(cache=True)
def power(n):
    return 2.0 ** n

@njit(cache=True)
def twice(n):
    return power(n) * 2
"""
PROGRAM = """
import sys
import module
print(module.power(3), dict(module.power.stats.cache_hits) != {}, "numba.np.linalg" in sys.modules)
if len(sys.argv) > 1:
    print(module.twice(3), dict(module.twice.stats.cache_hits) != {})
"""


def test_a_compiled_kernel_is_loaded_without_the_compiler_and_a_new_one_still_compiles(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)

    def printed(*arguments: str) -> list[str]:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        return ended.stdout.splitlines()

    assert printed() == ["8.0 False True"]
    assert printed("twice") == ["8.0 True False", "16.0 False"]
