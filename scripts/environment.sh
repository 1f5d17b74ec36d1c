# Makes sure that the locked packages and cagdask itself can be used. Sourced by scripts/demo, scripts/test and .ci/run,
# which set $root (the repository) first; afterwards $python is the interpreter and $bin the folder of its programs.
#
# With an active virtual or conda environment: that one, and it is changed only when something is missing from it.
# With none: .venv in the repository, made now if need be. Its stamp tells that lock and project have not changed since.

say() {
    printf '==> %s\n' "$*" >&2
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_recent_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_recent_enough "$PYTHON" || fail "PYTHON=$PYTHON does not run, or is older than Python 3.11."
        echo "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11; do
        if is_recent_enough "$name"; then
            echo "$name"
            return
        fi
    done
    fail "no Python 3.11 or newer found. Install one, or name it: PYTHON=/path/to/python3 $0"
}

active_environment() {
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        echo "$VIRTUAL_ENV"
    elif [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
        echo "$CONDA_PREFIX"
    fi
}

# What of these extras (comma separated, may be empty) and of cagdask's own requirements is not installed.
missing_packages() {
    "$python" - "$root" "$1" <<'PYTHON'
import importlib.metadata as metadata
import pathlib
import re
import sys
import tomllib

root, extras = sys.argv[1:]
project = tomllib.loads(pathlib.Path(root, "pyproject.toml").read_text())["project"]
wanted = list(project["dependencies"])
for extra in filter(None, extras.split(",")):
    wanted += project["optional-dependencies"][extra]
names = [re.match("[A-Za-z0-9._-]+", line)[0] for line in [*wanted, "cagdask"]]
installed = {re.sub("[-_.]+", "-", found.name).lower() for found in metadata.distributions()}
print(" ".join(name for name in names if name.lower() not in installed))
PYTHON
}

# uv is quick; pip does the same, and knows the indexes that only pip is configured for.
find_uv() {
    [ -x "$bin/uv" ] || command -v uv >/dev/null 2>&1 ||
        "$python" -m pip install --quiet --disable-pip-version-check uv >/dev/null 2>&1 || return 1
    if [ -x "$bin/uv" ]; then echo "$bin/uv"; else command -v uv; fi
}

install() {
    if uv=$(find_uv) && UV_PYTHON_DOWNLOADS=never "$uv" pip install --quiet --compile-bytecode --python "$python" "$@"; then
        return
    fi
    say "installing with pip, which takes some minutes"
    "$python" -m pip install --quiet --disable-pip-version-check "$@"
}

install_locked() {
    install --require-hashes -r "$root/requirements/lock.txt" &&
        install --no-deps --no-build-isolation -e "$root"
}

use_active() {
    bin=$1/bin
    python=$bin/python
    is_recent_enough "$python" || fail "the active environment $1 has no Python 3.11 or newer."
    missing=$(missing_packages "$2")
    if [ -z "$missing" ]; then
        say "using the active environment $1"
        return
    fi
    if [ "$missing" = cagdask ]; then
        say "installing cagdask into the active environment $1"
        install --no-deps -e "$root" || fail "installing failed; see above."
        return
    fi
    say "the active environment $1 lacks: $missing"
    say "installing requirements/lock.txt and cagdask there"
    install_locked || fail "installing failed; see above."
}

use_own() {
    bin=$root/.venv/bin
    python=$bin/python
    if ! is_recent_enough "$python"; then
        found=$(find_python)
        say "no environment is active: making $root/.venv with $found ($("$found" --version 2>&1))"
        rm -rf "$root/.venv"
        "$found" -m venv "$root/.venv" ||
            fail "$found can not make a virtual environment. On Debian and Ubuntu: apt install python3-venv"
    fi
    stamp=$root/.venv/cagdask-stamp
    wanted=$(cd "$root" && { cat requirements/lock.txt pyproject.toml; pwd; } | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        say "using .venv"
        return
    fi
    say "installing requirements/lock.txt and cagdask into .venv (once; a download of some hundred megabytes)"
    rm -f "$stamp"
    install_locked || fail "installing failed; see above. Running this again goes on from here."
    say "compiling the kernels (once; about a minute)"
    "$python" "$root/scripts/compile_kernels.py" >/dev/null || fail "the kernels do not compile; see above."
    echo "$wanted" >"$stamp"
}

# use_environment EXTRAS: the extras count for an active environment; .venv always gets the whole lock.
use_environment() {
    active=$(active_environment)
    if [ -n "$active" ]; then
        use_active "$active" "$1"
    else
        use_own
    fi
}
