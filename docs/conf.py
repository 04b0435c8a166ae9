"""Sphinx settings; `./dev docs` builds the pages into build/docs with warnings as errors."""

from importlib.metadata import version as installed
from logging import getLogger

project = "clusterdb-cache"
author = "The ClusterDB authors"
copyright = author
version = release = installed(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"clusterdb.cache {version}"
html_show_sourcelink = False

# A section may still wait for its first page. Sphinx gives that warning no type, so the setting
# `suppress_warnings` can't name it.
getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", None) != "empty_glob"
)
