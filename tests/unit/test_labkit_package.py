"""What the packages lay down, and what the version is; that they install is for tests/nodes/test_package.py."""

import configparser
import subprocess

import jinja2
import pytest
import yaml

from labkit import container, package


@pytest.fixture(scope="module")
def laid(repo, tmp_path_factory):
    """The folder into which the package was laid."""
    root = tmp_path_factory.mktemp("root")
    subprocess.run(["sh", str(repo / "packaging/install.sh"), str(root)], check=True, timeout=60)
    return root


def test_the_states_are_served_and_the_example_is_not(laid, repo):
    served = laid / "usr/share/salt-rbd/salt"
    expected = {path.name for path in (repo / "salt").iterdir()} - {"top.sls", "demo"}
    assert {path.name for path in served.iterdir()} == expected
    assert (served / "_states/rbd_image.py").read_bytes() == (repo / "_states/rbd_image.py").read_bytes()
    assert (laid / "usr/share/salt-rbd/example/salt/top.sls").exists()
    assert {path.name for path in (laid / "usr/share/salt-rbd/example/pillar").iterdir()} == {path.name for path in repo.glob("pillar/*")}


def test_nothing_else_is_laid_down(laid, repo):
    paths = [path for path in laid.rglob("*") if path.is_file() and not path.is_symlink()]
    inside = {"/".join(path.relative_to(laid).parts[:3]) for path in paths}
    assert inside == {"usr/share/salt-rbd", "usr/share/doc", "etc/salt/master.d", "etc/salt/minion.d"}
    assert [path for path in paths if path.suffix == ".pyc" or path.stat().st_mode & 0o777 != 0o644] == []
    # Served to minions that have nothing of the checkout: links lead nowhere outside.
    assert [path for path in laid.rglob("*") if path.is_symlink() and not path.resolve().is_relative_to(laid)] == []


def test_the_drop_in_adds_to_the_sites_own_folder(laid):
    for daemon in ("master", "minion"):
        roots = yaml.safe_load((laid / f"etc/salt/{daemon}.d/00-salt-rbd.conf").read_text())
        assert roots == {"file_roots": {"base": ["/srv/salt", "/usr/share/salt-rbd/salt"]}}


def test_the_version_is_that_of_setup_cfg(repo):
    setup = configparser.ConfigParser()
    setup.read(repo / "setup.cfg")
    assert package.spec().splitlines()[0] == f"%global package_version {setup['metadata']['version']}"
    assert "Version:        %{package_version}" in package.spec()


def test_the_pillar_has_the_postgresql_of_the_system(tmp_path):
    (tmp_path / "packages").mkdir()
    for name in ("postgresql-17_17.6-1_amd64.deb", "postgresql-client-17_17.6-1_amd64.deb", "postgresql_17+278_all.deb"):
        (tmp_path / "packages" / name).touch()
    assert container.pillar_for(tmp_path)["postgresql"]["version"] == "17"
    assert "version" not in container.PILLAR["postgresql"]


SERVICE = """\
{%- from 'booted.jinja' import booted, else_enabled with context %}
one:
  service.running:
    - name: one.timer
    - require:
        - pkg: one
{{- else_enabled('one.timer', 'one') }}
"""


def _rendered(repo, functions):
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(str(repo / "salt")), autoescape=False)  # noqa: S701 - it is no page
    return yaml.safe_load(environment.from_string(SERVICE).render(salt=functions))


@pytest.mark.parametrize("functions", [{}, {"service.offline": lambda: False}], ids=["no systemd module", "booted"])
def test_a_booted_system_runs_its_services(repo, functions):
    assert _rendered(repo, functions) == {"one": {"service.running": [{"name": "one.timer"}, {"require": [{"pkg": "one"}]}]}}


def test_an_image_enables_them(repo):
    states = _rendered(repo, {"service.offline": lambda: True})
    assert {"unless": "true"} in states.pop("one")["service.running"]
    (enabling,) = states.values()
    assert {"name": "systemctl enable one.timer"} in enabling["cmd.run"]
    assert {"require": [{"service": "one"}]} in enabling["cmd.run"]
