"""PyArrow that does not look for pandas, and a command that imports without looking for garbage."""

from __future__ import annotations

import subprocess
import sys


def test_arrow_imports_no_pandas_and_still_gives_it_when_asked() -> None:
    code = """
import sys
from cagdask.compute.quick_start import use_arrow_without_pandas
use_arrow_without_pandas()
import numpy as np, pyarrow as pa, pyarrow.compute as pc
names = pa.array(["a", "b"], pa.string())
assert pc.index(names, "b").as_py() == 1
assert pa.array(np.array([1.5, np.nan])).to_numpy().tolist()[0] == 1.5
print("pandas" in sys.modules)
frame = pa.table({"name": names}).to_pandas()
print("pandas" in sys.modules, frame["name"].tolist())
assert not any(type(finder).__name__ == "_NoPandas" for finder in sys.meta_path)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["False", "True ['a', 'b']"]


def test_where_pandas_is_there_arrow_knows_it() -> None:
    code = """
import pandas as pd
from cagdask.compute.quick_start import use_arrow_without_pandas
use_arrow_without_pandas()
import pyarrow as pa
print(pa.array(pd.Series([1.0, None])).null_count)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "1"


def test_what_is_left_out_at_the_start_works_once_it_is_asked_for() -> None:
    code = """
import sys
from cagdask.compute.quick_start import start_quickly
start_quickly()
from scipy.special import betaincinv
import numpy as np
print("unittest" in sys.modules, "numpy.f2py.crackfortran" in sys.modules)
np.testing.assert_equal(1, 1)
print("unittest" in sys.modules, callable(np.f2py.get_include), "numpy.f2py.crackfortran" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["False False", "True True True"]


def test_parts_of_scipy_come_without_their_packages_which_still_work() -> None:
    code = """
import sys
from cagdask.compute.quick_start import special_function, start_quickly
start_quickly()
quantile = special_function("stdtrit")
from numba.extending import get_cython_function_address  # as kernels find BLAS
print(get_cython_function_address("scipy.linalg.cython_blas", "sgemm") > 0)
print("scipy.linalg" in sys.modules, "scipy.special" in sys.modules)
import numpy as np, scipy.special, scipy.stats
print(scipy.special.stdtrit is quantile, scipy.linalg.inv(np.eye(2)).sum())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["True", "False False", "True 2.0"]


def test_a_command_hardly_looks_for_garbage_and_not_at_its_end() -> None:
    code = """
import atexit, gc, sys
from cagdask.__main__ import main
# what is registered first is called last
atexit.register(lambda: print(gc.get_threshold()[0] > 10_000, gc.get_freeze_count() > 1000))
sys.argv = ["cagdask", "--version"]
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[1:] == ["True True"]
