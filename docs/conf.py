"""Settings of the documentation site: see building.md for the commands."""

import datetime
import os
import re
from pathlib import Path

from sphinx.ext import autosummary

import jaxep
from jaxep.core.stencils import STENCILS

HERE = Path(__file__).parent
ROOT = HERE.parent

project = jaxep.__name__
author = "the jaxep developers"
project_copyright = f"{datetime.date.today().year}, {author}"
version = release = jaxep.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "jupyter_execute", "examples"]

# Sphinx warns of an inventory that it cannot reach, and a warning ends the build: without a network
# the names of other projects are no links.
others = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "jax": "https://docs.jax.dev/en/latest/",
    "flax": "https://flax.readthedocs.io/en/latest/",
    "optax": "https://optax.readthedocs.io/en/latest/",
    "orbax": "https://orbax.readthedocs.io/en/latest/",
}
intersphinx_mapping = {}
if tags.has("online"):  # noqa: F821 - Sphinx puts it there
    intersphinx_mapping = {name: (url, None) for name, url in others.items()}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_merge_streams = True
# A machine that builds the site shows what a reader without an accelerator sees.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
# `Name` in a docstring is a link where there is such a name, and code where there is none.
default_role = "py:obj"
napoleon_numpy_docstring = False
# A summary does not end at "(eq."
autosummary.WELL_KNOWN_ABBREVIATIONS += ("eq.", "Fig.")
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The search stands in the sidebar, so the bar on top has none.
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True, "navbar_persistent": []}

linkcheck_timeout = 20
linkcheck_workers = 4

# Pages whose text is a file outside of docs/. On GitHub each is a line that points to the file.
ELSEWHERE = {
    "results": "benchmarks/results/README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
}
LINK = re.compile(r"\[([^][]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def moved(text: str, folder: Path, page_of: dict[Path, Path]) -> str:
    """Markdown of a file in `folder` as it must be in docs/.

    Args:
        text: its text.
        folder: where its relative links begin.
        page_of: the page that shows a file of elsewhere, where there is one.
    """

    def link(match: re.Match[str]) -> str:
        words, place, anchor = match.groups("")
        target = Path(os.path.normpath(folder / place))
        if not target.exists():  # another site, or code that looks like a link
            return match[0]
        if target.is_dir():  # GitHub shows it, a site cannot
            return words
        return f"[{words}]({os.path.relpath(page_of.get(target, target), HERE)}{anchor})"

    return LINK.sub(link, text)


def read_source(app, docname: str, source: list[str]) -> None:
    """Puts in the text of elsewhere, and lets links to such a file lead to its page."""
    path = ROOT / ELSEWHERE[docname] if docname in ELSEWHERE else HERE / f"{docname}.md"
    if path.suffix != ".md" or not path.exists() or path.parent.is_relative_to(HERE / "api"):
        return
    if docname in ELSEWHERE:
        app.env.note_dependency(str(path))
        source[0] = path.read_text()
    page_of = {ROOT / file: HERE / f"{page}.md" for page, file in ELSEWHERE.items()}
    page_of[ROOT / "README.md"] = HERE / "index.md"
    source[0] = moved(source[0], path.parent, page_of)


def read_docstring(app, what: str, name: str, object_, options, lines: list[str]) -> None:
    """Docstrings as reStructuredText: equations and Python stand as they are."""
    if what == "class":  # a dataclass: its attributes are what it is made of
        lines[:] = ["Args:" if line == "Attributes:" else line for line in lines]
    found: list[str] = []
    in_equation = False
    for before, line in zip(["", *lines], lines, strict=False):
        indented = line.startswith("    ")
        if indented and not before and not in_section(found) and not in_equation:
            found += ["::", ""]
            in_equation = True
        in_equation = in_equation and (indented or not line)
        found.append(line if in_equation else escaped(line))
    lines[:] = found


def escaped(line: str) -> str:
    """A line in which |ξ| and *shape mean no markup, and `name`s is a name and a letter."""
    line = re.sub(r"(?<!`)([|*])", r"\\\1", line)
    return re.sub(r"(`[^`\s]+`)(?=\w)", r"\1\\ ", line)


def in_section(lines: list[str]) -> bool:
    """Whether the last line that is not indented opens a section, as Args: does."""
    outer = [line for line in lines if line and not line.startswith(" ")]
    return bool(outer) and re.fullmatch(r"[A-Z][a-z]+:", outer[-1]) is not None


def read_signature(app, what, name, object_, options, signature: str | None, returns: str | None):
    """Defaults by their names; None: as it is."""
    if signature is None:
        return None
    signature = re.sub(r"<function (\w+)>", r"\1", signature)
    for known, stencil in STENCILS.items():
        signature = signature.replace(repr(stencil), known)
    return signature.replace(repr(jaxep.Settled()), "Settled()"), returns


def setup(app) -> None:
    """Sphinx calls it."""
    app.connect("autodoc-process-signature", read_signature)
    app.connect("autodoc-process-docstring", read_docstring, priority=100)
    app.connect("source-read", read_source)
