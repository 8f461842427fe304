"""The one parser for sizes."""

import pytest
from saltrbd import size
from saltrbd.errors import InvalidSize


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1),
        (536870912, 536870912),
        ("1", 1),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("10G", 10 << 30),
        ("10GB", 10 << 30),
        ("10GiB", 10 << 30),
        ("10 gib", 10 << 30),
        (" 10G ", 10 << 30),
        ("1.5G", 3 << 29),
        ("0.5K", 512),
        ("4096B", 4096),
        ("2T", 2 << 40),
        ("2P", 2 << 50),
        ("1E", 1 << 60),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_valid(value, number):
    assert size.parse(value) == number
    assert size.parse(size.show(number)) == number


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "G", "x", "-1", "-1G", "+1G", "1e3", "0x10", "1_000", "1,5G", "1 000", "10X", "10GG", "10iB", "١G", "1.G", ".5G"),
        *("0", "0G", 0, -1, "0.1B", "1.3B", "8E", 2**63, 10**30, "9" * 21, pytest.param(10**5000, id="huge")),
        *(None, True, False, 1.0, float("nan"), float("inf"), [], ["1G"], {}, b"1G"),
    ],
)
def test_invalid(value):
    with pytest.raises(InvalidSize) as error:
        size.parse(value, "stripe_unit")
    assert "The stripe_unit " in str(error.value)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1, "1B"), (1023, "1023B"), (1024, "1K"), (1536, "1536B"), (3 << 19, "1536K"), (1 << 30, "1G"), (1 << 60, "1E")],
)
def test_show(number, text):
    assert size.show(number) == text
