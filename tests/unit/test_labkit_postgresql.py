"""Where no archive can be had, or another one came, the lab says so."""

import pytest

from labkit import postgresql
from labkit.commands import LabError
from labkit.home import Home


def test_without_maven(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(postgresql.NotReachable, match=r"PostgreSQL 9\.5\.3 comes by Maven, and mvn is not installed here"):
        postgresql.archive(Home(tmp_path / "lab", tmp_path / "venvs"), "9.5")


@pytest.mark.parametrize(
    ("script", "said"), [("exit 1", "Maven could not bring com.opentable"), ('echo x >"$OUT/a.jar"', "it is not used")]
)
def test_with_a_maven_that_fails(tmp_path, monkeypatch, script, said):
    mvn = tmp_path / "mvn"
    mvn.write_text(f'#!/bin/sh\nfor word; do case $word in -DoutputDirectory=*) OUT=${{word#*=}}; mkdir -p "$OUT";; esac; done\n{script}\n')
    mvn.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(LabError, match=said):
        postgresql.archive(Home(tmp_path / "lab", tmp_path / "venvs"), "9.5")
    assert not list(tmp_path.rglob(f"{postgresql.ARCHIVES['9.5'].sha256}.jar"))
