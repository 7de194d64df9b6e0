"""The reason in an error, fit for one line."""

import pytest

from jaxep.run.errors import DivergenceError, PeerError, SettingsError, reason

TENSORSTORE = (
    'RESOURCE_EXHAUSTED: Error writing local file "/a/b": Failed to write 9 bytes to file 5: '
    "No space left on device [os_error_code='28']"
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device", "/a/file"), "No space left on device"),
        (ValueError(TENSORSTORE), "No space left on device"),
        (ValueError("one\ntwo"), "one"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 500), "x" * 117 + "..."),
    ],
)
def test_reason(error, text):
    assert reason(error) == text


def test_every_kind_of_end_has_its_status():
    assert (SettingsError.status, DivergenceError.status, PeerError.status) == (2, 3, 4)
