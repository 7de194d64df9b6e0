"""The pages say what is so: their Python runs, their links lead somewhere, no name is missing."""

import json
import re
from pathlib import Path

import pytest

import jaxep
from jaxep import energies, nets, training

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LINKED = [*PAGES, *sorted((DOCS / "api").glob("*.md"))]


def blocks(page):
    """The Python of a page, each with the output that is shown right below it, or nothing.

    A block under a comment, <!-- like this -->, has a test of its own.
    """
    fences = r"(?<!-->\n)^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?"
    return re.findall(fences, page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.name)
def test_the_python_of_a_page_runs_and_prints_what_is_shown(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": page.stem}
    for number, (code, shown) in enumerate(blocks(page), start=1):
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        printed = capsys.readouterr().out
        assert not shown or printed == shown


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    relative = [link.split("#")[0] for link in links if "://" not in link and link[0] != "#"]
    missing = [link for link in relative if not (page.parent / link).exists()]
    assert not missing


def test_every_public_name_is_on_a_page_of_the_api():
    shown, module = set(), ""
    for page in (DOCS / "api").glob("*.md"):
        for directive, name in re.findall(r"^\.\. ([\w:]+):: ([\w.]+)", page.read_text(), re.M):
            if directive == "currentmodule":
                module = name
            elif directive != "automodule":
                shown.add(f"{module}.{name}")
    modules = {"energies", "nets", "training"}  # pages of their own
    wanted = {f"jaxep.{name}" for name in set(jaxep.__all__) - modules - {"__version__"}}
    wanted |= {f"jaxep.nets.{name}" for name in nets.__all__}
    wanted |= {f"jaxep.energies.{name}" for name in energies.__all__}
    wanted |= {f"jaxep.training.{name}" for name in training.__all__} - {
        "jaxep.training.fit",  # as jaxep.fit
        "jaxep.training.load_run",
    }
    assert wanted - shown == set()


def test_the_hours_of_the_papers_rows_follow_from_the_measured_steps():
    measured = json.loads((ROOT / "benchmarks" / "results" / "step_time.json").read_text())

    def hours(net, phases):
        milliseconds = measured[net]["training_step_ms"][phases] / measured[net]["batch"]
        return round(milliseconds / 1000 * 50_000 * 250 / 3600)

    text = (DOCS / "paper.md").read_text()
    rows = re.findall(r"`configs/(vgg\d+)_\w+\.py` \| (\d+)", text)
    assert len(rows) == 6
    for net, told in rows:
        assert int(told) == hours(net, "jaxep, default phases"), net
    steps = hours("vgg7", "jaxep, paper's steps")
    assert f"{steps} hours" in text
