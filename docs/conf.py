"""How Sphinx builds these docs."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "cagdask"
author = "the cagdask developers"
copyright = "2026, the cagdask developers"
version = release = installed_version("cagdask")

extensions = [
    "code_map",
    "data_model",
    "drawings",
    "myst_parser",
    "numpydoc",
    "program_help",
    "scale",
    "sizing",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_click",
]
exclude_patterns = ["_build", "_extensions"]
templates_path = []

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_type_aliases = {"xr.Dataset": "xarray.Dataset"}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = f"cagdask {version}"
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False
html_sidebars = {"index": [], "install": []}
