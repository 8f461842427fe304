"""What the demo says of the files that it shows."""

import pytest

from labkit import demo
from labkit.commands import LabError


@pytest.mark.parametrize(("content", "shown"), [(None, "(no such file)"), ("", "(empty)"), ("edit1\n", "edit1")])
def test_a_missing_file_is_not_an_empty_one(content, shown, tmp_path, monkeypatch, capsys):
    path = tmp_path / "edit"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(demo, "CLONE_FILE", path)
    if shown == demo.EXPECTED:
        demo.prove_clone()
    else:
        with pytest.raises(LabError) as caught:
            demo.prove_clone()
        assert str(caught.value) == f"{path} must say 'edit1', and it is {shown}."
    assert capsys.readouterr().out.endswith(f"\n  {shown}\n")
