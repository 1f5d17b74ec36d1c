"""``njit`` for the kernels of this package: Numba's, but a kernel that was compiled before is loaded sooner.

    first run    compile (seconds a kernel) ---> file in the cache
    all others   file in the cache ------------> machine code, 5 to 20 ms a kernel

Before it loads a kernel, Numba brings together all that it can compile: 240 modules and most of SciPy's linear algebra,
0.3 s in every process. Machine code that is there already needs only the symbols that it calls. What has to be compiled
still gets all of it: the compiler asks for it by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys
from numba.cpython import hashing  # noqa: F401  # has symbols of its own, for kernels with sets or dictionaries

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


class _SoonerCache(FunctionCache):
    """Numba's cache of one function, which loads without what only compiling needs."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)  # for arrays that kernels make
        return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


def njit(**options: Any) -> Callable[[_Kernel], _Kernel]:
    """Compile a function as ``numba.njit`` does, with the same options.

    Examples
    --------
    >>> @njit(nogil=True)
    ... def add(a, b):
    ...     return a + b
    >>> add(1, 2)
    3
    """
    compiled = numba.njit(**options)

    def kernel(function: _Kernel) -> _Kernel:
        dispatcher = compiled(function)
        cache = getattr(dispatcher, "_cache", None)  # none where compiling is switched off
        if type(cache) is FunctionCache and hasattr(cache, "_load_overload"):  # private: another Numba may lack it
            cache.__class__ = _SoonerCache
        return cast(_Kernel, dispatcher)

    return kernel
