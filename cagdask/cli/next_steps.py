"""The last lines of a command: what to do next, as commands to copy."""

from __future__ import annotations

import shlex


def then(*steps: tuple[str, str]) -> str:
    """Lines of commands, each with what it does.

    >>> print(then(("cagdask info a.zarr", "what it holds")))
    Next:
      cagdask info a.zarr    # what it holds
    """
    width = max(len(command) for command, _ in steps)
    return "\n".join(["Next:", *(f"  {command:<{width}}    # {words}" for command, words in steps)])


def after_result(url: str) -> str:
    """What to do with the folder of a run."""
    from cagdask import storage, stores

    where = shlex.quote(url)
    folder = storage.absolute(url)
    ds = storage.look(stores.result_url(url))
    steps = [(f"cagdask explore {where}", "walk through genes, groups and samples")]
    columns = [str(name)[7:] for name in ds.variables if str(name).startswith("sample_") and name != "sample_id"]
    if columns:
        table = shlex.quote(storage.join(url, "by-COLUMN.tsv"))
        steps.append(
            (f"cagdask test {where} --labels COLUMN --output {table}", f"which groups differ; COLUMN: {_some(columns)}")
        )
    if storage.exists(storage.join(folder, stores.REPORT)):
        page = storage.join(url, stores.REPORT)
        return f"Open {page} in a browser; it needs no network.\n\n{then(*steps)}"
    return then((f"cagdask report {where}", "a page about the result"), *steps)


def _some(names: list[str], most: int = 4) -> str:
    """A few names, and that there are more.

    >>> _some(["a", "b"]), _some(list("abcdef"))
    ('a or b', 'a, b, c, d or others')
    """
    first = names[:most] + (["others"] if len(names) > most else [])
    return " or ".join([", ".join(first[:-1]), first[-1]]) if len(first) > 1 else first[0]
