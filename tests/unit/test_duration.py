"""Spans of time: seconds inside, 7d outside."""

import pytest
from saltrbd import duration
from saltrbd.errors import InvalidArgument


@pytest.mark.parametrize(
    ("value", "seconds", "shown"),
    [
        (0, 0, "0s"),
        ("0", 0, "0s"),
        (90, 90, "90s"),
        ("90s", 90, "90s"),
        ("5m", 300, "5m"),
        ("12h", 43200, "12h"),
        (" 7 d ", 604800, "1w"),
        ("6d", 518400, "6d"),
        ("2w", 1209600, "2w"),
        (2**31 - 1, 2**31 - 1, "2147483647s"),
    ],
)
def test_parse_and_show(value, seconds, shown):
    assert duration.parse(value) == seconds
    assert duration.show(seconds) == shown
    assert duration.parse(shown) == seconds


@pytest.mark.parametrize(
    "value", ["soon", "", "d", "-1", -1, "1.5h", 1.5, True, None, [], "7D", "1y", pytest.param(10**5000, id="huge"), "٧d"]
)
def test_no_span(value):
    with pytest.raises(InvalidArgument) as error:
        duration.parse(value)
    assert "The delay " in str(error.value)


@pytest.mark.parametrize("value", [2**31, "4000w"])
def test_too_long(value):
    with pytest.raises(InvalidArgument, match="is more than 24855d"):
        duration.parse(value)
