"""What the plan said of measured cases, and the curves of the results."""

from __future__ import annotations

import click

from benchmarks.measuring import SCRIPTS
from benchmarks.scale_cases import START_SECONDS, results

PICTURES = SCRIPTS.parent / "docs" / "explanation" / "images"


@click.command()
def plans() -> None:
    """What ``cagdask plan`` would have said of every measured case, over what was measured."""
    from cagdask.compute.memory import parse_bytes
    from cagdask.runs.input_shape import Shape
    from cagdask.runs.planning import make_plan

    click.echo(f"{'case':<18}{'memory':>8}{'disk':>8}{'time':>8}{'reads':>8}")
    for row in results():
        if row["method"] != "cagdask":
            continue
        genes, samples = row["genes"], row["samples"]
        shape = Shape(row["name"], "store", genes, samples, n_values=int(row["density"] * genes * samples))
        chosen = {"max_dist": 0.2} | {
            name: value for name, value in row["options"] if name in ("normalization", "max_dist")
        }
        made = make_plan(shape, n_workers=2, memory_limit=parse_bytes(row["memory_limit"]), **chosen)
        ratios = (
            made.worker_bytes / 2**20 / row["worker_peak_mib"],
            made.work_bytes / 2**20 / row["disk_mib"],
            made.seconds / (row["wall_s"] + START_SECONDS),
            made.read_bytes / row["bytes_read"],
        )
        click.echo(f"{row['name']:<18}" + "".join(f"{ratio:>8.2f}" for ratio in ratios))


@click.command()
def draw() -> None:
    """Draw the curves of the results."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cagdask"
    from matplotlib import pyplot

    rows = [r for r in results() if "method" in r and "cpu_s" in r]
    dense, sparse = ("20k", "50k", "100k", "200k", "500k", "1m"), ("sparse-100k", "sparse-1m", "record-5m")
    ours = [r for r in rows if r["method"] == "cagdask"]
    curves = {
        "cagdask, 28 % non-zero": [r for r in ours if r["name"] in dense],
        "cagdask, 5 % non-zero": [r for r in ours if r["name"] in sparse],
        "FAISS, components, fastcluster": [r for r in rows if r["method"] == "composition"],
        "fastcluster": [r for r in rows if r["method"] == "fastcluster"],
    }
    PICTURES.mkdir(exist_ok=True)
    for what, label, file in (
        ("cpu_s", "processor seconds over start-up", "scale-cpu.svg"),
        ("peak_mib", "peak memory of all processes, MiB", "scale-memory.svg"),
    ):
        figure, axes = pyplot.subplots(figsize=(7, 4.5))
        for name, points in curves.items():
            points = sorted(points, key=lambda r: r["genes"])
            if points:
                axes.plot([r["genes"] for r in points], [r[what] for r in points], marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="genes", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.tight_layout()
        figure.savefig(PICTURES / file, metadata={"Date": None})
        click.echo(str(PICTURES / file))
