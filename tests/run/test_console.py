"""What is said, and that saying it costs nothing."""

import io
import sys

import pytest

from jaxep.run import console


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


def test_lines_go_where_they_belong(capsys):
    assert console.say("κ = 1") is None
    console.warn("it is so")
    assert capsys.readouterr() == ("κ = 1\n", "warning: it is so\n")


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "full")])
def test_a_stream_that_fails_is_told_of_and_raises_nothing(error, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    monkeypatch.setattr(sys, "stderr", Broken(error))
    assert console.say("a line") is error
    console.warn("a line")


def test_no_stream_and_a_closed_one_take_nothing(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stdout", stream)
        assert console.say("a line") is None


def test_a_hint_is_for_a_terminal_alone(monkeypatch, capsys):
    console.hint("starting")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    console.hint("starting")
    assert capsys.readouterr() == ("", "starting\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_stream_cannot_spell_is_shown(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    assert console.tell("κ = 1", stream) is None
    assert raw.getvalue() == b"\\u03ba = 1\n"
