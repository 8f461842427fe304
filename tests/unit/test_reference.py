"""The reference for users is what the docstrings say."""

from labkit import reference


def test_up_to_date():
    assert reference.TARGET.read_text() == reference.text(), "run python3 -m labkit.reference"


def test_every_function_has_a_text(repo):
    page = reference.text(repo)
    assert "### rbd_image.present(name, size=None" in page
    assert "### rbd_image.list(" in page
    assert "### rbd_clone.present(name, parent, " in page
