r"""The ``find-cags`` command: the flags, defaults and files of FredHutch's script of that name, computed by cagdask.

    sample JSONs --> abundance.zarr --> cags.zarr --> PREFIX.feather, PREFIX.cags.feather,
    \------ in a folder inside --temp-folder -----/   PREFIX.cags.json.gz, PREFIX.logs.txt

The four files appear together at the end. As in the original, CAGs are refined at ``--max-dist``; unlike there, the
answer is exact, the same every time, and every mistake that can be seen beforehand is reported before the work.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cagdask.cli.flags import flags_of_parser, in_flags
from cagdask.compute import signals
from cagdask.compute.progress import Reporter, reporting
from cagdask.errors import CagdaskError, InputError, StoreError
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cagdask.compute.runner import Runner

logger = logging.getLogger("cagdask.find_cags")

LOG_FORMAT = "%(asctime)s %(levelname)-8s [find-cags] %(message)s"
N_TEST_GENES = 2000
"""Genes of a run with ``--test``."""
SUFFIXES = (".feather", ".cags.feather", ".cags.json.gz", ".logs.txt")
_SCRATCH = os.path.join(os.sep, "scratch")  # the original's default, and nothing that we rely on
_WORKER_SHARE = 0.8  # of the machine's memory, for all workers together


def parser() -> argparse.ArgumentParser:
    """Give the parser of the original's flags."""
    made = argparse.ArgumentParser(
        prog="find-cags", description="Find a set of co-abundant genes (CAGs) from the sample JSONs of a cohort."
    )
    made.add_argument("--sample-sheet", required=True, help="JSON object of sample and file (.json or .json.gz).")
    made.add_argument("--output-prefix", required=True, help="Prefix of the names of the four output files.")
    made.add_argument("--output-folder", required=True, help="Folder of the output files; must exist (or s3://).")
    made.add_argument("--normalization", choices=("median", "sum", "clr"), required=True, help="Per sample.")
    made.add_argument("--max-dist", type=float, default=0.01, help="Largest cosine distance (default: %(default)s).")
    made.add_argument("--temp-folder", default=_SCRATCH, help="Folder for temporary files (default: %(default)s).")
    made.add_argument("--results-key", default="results", help="Key of the list of genes (default: %(default)s).")
    made.add_argument("--abundance-key", default="depth", help="Key of the abundance (default: %(default)s).")
    made.add_argument("--gene-id-key", default="id", help="Key of the gene's name (default: %(default)s).")
    made.add_argument(
        "--threads", type=int, default=1, help="Worker processes; with 1 small jobs start none (default: 1)."
    )
    made.add_argument("--min-samples", type=int, default=1, help="Leave out genes in fewer samples (default: 1).")
    made.add_argument("--clr-floor", help="Only for clr: auto, or a number (log10 of a ratio).")
    made.add_argument("--test", action="store_true", help=f"Only use the first {N_TEST_GENES:,} genes.")
    return made


# -- checks ----------------------------------------------------------------------------------------------------------


def _checked(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check every argument before any work; gives the options of :func:`cagdask.find_cags`."""
    from cagdask import storage
    from cagdask.cags.parameters import Parameters

    if arguments.threads < 1:
        raise ValueError(f"--threads is {arguments.threads}; it must be at least 1.")
    if "/" in arguments.output_prefix or not arguments.output_prefix:
        raise ValueError(f"--output-prefix {arguments.output_prefix!r} must be the beginning of a file name.")
    folder = arguments.output_folder
    if not storage.is_remote(folder):
        if not os.path.isdir(folder):
            raise StoreError(f"--output-folder {folder}: there is no such folder. Make it first, or name another one.")
        if not os.access(folder, os.W_OK):
            raise StoreError(f"--output-folder {folder}: is not writable. Name another one.")
    options = {
        "normalization": arguments.normalization,
        "clr_floor": _floor(arguments.clr_floor, arguments.normalization),
        "max_dist": arguments.max_dist,
        "refine_dist": arguments.max_dist,
        "min_samples": arguments.min_samples,
    }
    Parameters(**options).checked()
    from cagdask.io.sheets.sheet import read_sheet

    n_samples = len(read_sheet(arguments.sample_sheet))
    if arguments.min_samples > n_samples:
        raise InputError(
            f"--min-samples is {arguments.min_samples}, but {arguments.sample_sheet} names {n_samples} samples. Use at "
            f"most {n_samples}."
        )
    return options


def _floor(text: str | None, normalization: str) -> float | str | None:
    if text is None:
        return None
    if normalization != "clr":
        logger.warning("--clr-floor is only for --normalization clr, and is not used here")
        return None
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--clr-floor is {text!r}; give auto or a number (log10 of a ratio).") from None


def _temporary_folder(asked: str) -> str:
    """The folder for temporary files that is asked for; the default only where it is there."""
    if not os.path.isdir(asked):
        if asked != _SCRATCH:
            raise StoreError(f"--temp-folder {asked}: there is no such folder. Make it first, or name another one.")
        logger.info("No folder %s on this machine, using %s", asked, tempfile.gettempdir())
        asked = tempfile.gettempdir()
    return asked


# -- the work --------------------------------------------------------------------------------------------------------


class _Logged(Reporter):
    """Progress as log lines; the ends of stages are logged by the library."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Log the stage."""
        logger.info("%s: %s %s", stage, f"{total:,}", unit)

    def message(self, text: str) -> None:
        """Log it."""
        logger.info("%s", text)


def find(arguments: argparse.Namespace, options: dict[str, Any], folder: str) -> list[str]:
    """Make the first three files in ``folder``; gives their names."""
    from cagdask import storage
    from cagdask.cags.clustering import find_cags
    from cagdask.io.ingest import ingest
    from cagdask.reports import find_cags_files, tables

    store, result = os.path.join(folder, "abundance.zarr"), os.path.join(folder, "cags.zarr")
    keys = {name: getattr(arguments, name) for name in ("results_key", "abundance_key", "gene_id_key")}
    with _runner(arguments) as runner:
        logger.info("Reading in the samples of %s", arguments.sample_sheet)
        ingest(arguments.sample_sheet, store=store, client=runner, **keys)
        tables.check_sample_names(tables.sample_names(storage.open_group(store)), "index")
        if arguments.test:
            store = _first_genes(store, os.path.join(folder, "test.zarr"))
        logger.info("Finding CAGs with a maximum cosine distance of %s", arguments.max_dist)
        find_cags(store, output=result, client=runner, **options)
        logger.info("Writing the output files")
        names = [os.path.join(folder, arguments.output_prefix + suffix) for suffix in SUFFIXES[:3]]
        _write_normalized(store, names[0], options["normalization"], runner, folder)
    find_cags_files.write_cag_feather(result, names[1])
    find_cags_files.write_membership_json(result, names[2])
    sizes = storage.open_dataset(result)["cag_size"].values
    logger.info(
        "Found %s CAGs: the largest of %s genes, %s genes alone",
        f"{len(sizes):,}",
        f"{sizes.max(initial=0):,}",
        f"{(sizes == 1).sum():,}",
    )
    return names


@contextmanager
def _runner(arguments: argparse.Namespace) -> Iterator[Runner]:
    """Threads of this process for work that ``cagdask run`` does so too; else workers, one per thread asked for."""
    from cagdask.compute import settings
    from cagdask.compute.allowed import allowed
    from cagdask.compute.connect import as_runner
    from cagdask.runs import resume

    work = resume.look_at(arguments.sample_sheet).work_bytes
    is_small = arguments.threads == 1 and work <= settings.IN_PROCESS_BYTES
    limit = int(_WORKER_SHARE * allowed().memory.n / arguments.threads)
    n_workers = None if is_small else arguments.threads
    with as_runner(n_workers=n_workers, memory_limit=limit, work_bytes=work) as runner:
        yield runner


def _first_genes(store: str, target: str) -> str:
    """Copy the first genes of a store, for a quick look."""
    from cagdask import storage

    ds = storage.open_dataset(store)
    logger.info("Testing: using the first %s genes of %s", f"{N_TEST_GENES:,}", f"{ds.sizes['gene']:,}")
    storage.save_dataset(ds.isel(gene=slice(N_TEST_GENES)), target)
    return target


def _write_normalized(store: str, url: str, method: str, runner: Runner, folder: str) -> None:
    from cagdask.normalization import methods
    from cagdask.reports import find_cags_files

    statistics = methods.sample_statistics(store, runner, method, folder)

    def block(values: NDArray[np.float32]) -> NDArray[np.float64]:
        return methods.normalize_block(values, method, statistics, floored=False)

    find_cags_files.write_gene_feather(store, url, block)


def _hand_over(names: Sequence[str], output_folder: str) -> None:
    """Copy finished files to the output folder: all of them first, then all into place."""
    from cagdask import storage

    if storage.is_remote(output_folder):
        fs, path = storage.filesystem(output_folder)
        for name in names:
            fs.put_file(name, storage.join(path, os.path.basename(name)))
        return
    partials = [(os.path.join(output_folder, f"{os.path.basename(name)}.partial"), name) for name in names]
    try:
        for partial, name in partials:
            shutil.copyfile(name, partial)
        for partial, _ in partials:
            os.replace(partial, partial.removesuffix(".partial"))
    except BaseException:
        for partial, _ in partials:
            storage.remove(partial)
        raise


class _Formatter(logging.Formatter):
    """Writes parameters that a message names as the flags of this command."""

    def __init__(self) -> None:
        super().__init__(LOG_FORMAT)
        self.flags = flags_of_parser(parser())

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return in_flags(super().format(record), self.flags)


def _set_up_logging() -> None:
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    os.environ.setdefault("DASK_LOGGING__BOKEH", "critical")
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    ours = logging.getLogger("cagdask")
    ours.setLevel(logging.INFO)
    ours.handlers, ours.propagate = [handler], False


def _log_to(file: str) -> logging.Handler:
    handler = logging.FileHandler(file)
    handler.setFormatter(_Formatter())
    logging.getLogger("cagdask").addHandler(handler)
    return handler


def _run(arguments: argparse.Namespace) -> None:
    options = _checked(arguments)
    with scratch_folder(_temporary_folder(arguments.temp_folder)) as folder:
        _run_in(folder, arguments, options)


def _run_in(folder: str, arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    log_file = os.path.join(folder, arguments.output_prefix + SUFFIXES[3])
    handler = _log_to(log_file)
    try:
        for name, value in vars(arguments).items():
            logger.info("%s: %s", name, value)
        with reporting(_Logged()):
            names = find(arguments, options, folder)
        logger.info("Returning results to %s", arguments.output_folder)
        handler.flush()
        _hand_over([*names, log_file], arguments.output_folder)
        logger.info("Done")
    finally:
        logging.getLogger("cagdask").removeHandler(handler)
        handler.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``find-cags``; gives the exit code: 0 done, 1 failed, 2 misuse, 130 interrupted."""
    arguments = parser().parse_args(argv)
    atexit.register(gc.freeze)  # else Python looks through a million objects once more before it ends
    _set_up_logging()
    try:
        with signals.raised():
            _run(arguments)
    except KeyboardInterrupt as err:
        logger.error("Interrupted; nothing was written")
        return signals.line_and_code(err)[1]
    except (CagdaskError, ValueError, OSError) as err:
        logger.error("%s", " ".join(str(err).split()))
        return 1
    except Exception as err:  # a bug: where it happened is worth more than brevity
        logger.exception("%s: %s", type(err).__name__, " ".join(str(err).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
