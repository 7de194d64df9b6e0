"""The notebooks of docs/notebooks are whole, without outputs, and run to their end in time."""

import json
import re
import time
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# Seconds on two cores that a reader is promised, and how much slower a machine may be that runs
# other tests at the same time.
PROMISED, SLOWER = 120, 4


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def text(cell):
    return "".join(cell["source"])


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 5


@each
def test_a_notebook_is_valid_and_has_no_outputs(path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat comes with jaxep[docs]")
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None, text(cell)


@each
def test_a_notebook_begins_with_a_title_and_its_links_lead_somewhere(path):
    prose = [text(cell) for cell in cells(path, "markdown")]
    assert prose[0].startswith("# ")
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", "\n".join(prose))
    assert len(links) >= 3
    for link in links:
        assert (path.parent / link).is_file(), link


@pytest.mark.slow
@each
def test_a_notebook_runs_in_time(path, tmp_path):
    reason = "nbclient and ipykernel come with jaxep[docs]"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    began = time.monotonic()
    # A cell that raises fails the test with its traceback.
    nbclient.NotebookClient(notebook, timeout=SLOWER * PROMISED, resources=place).execute()
    assert time.monotonic() - began < SLOWER * PROMISED
    told = [cell for cell in notebook.cells if cell.get("outputs")]
    assert any("image/png" in out.get("data", {}) for cell in told for out in cell.outputs)
    # The site hides the progress bars of the cells that are tagged so.
    shown = [cell for cell in told if "remove-stderr" not in cell.metadata.get("tags", [])]
    said = [out.text for cell in shown for out in cell.outputs if out.get("name") == "stderr"]
    assert not any("Warning" in line for line in said), said
    assert not list(tmp_path.iterdir()), "it left files where it ran"
