"""The lab of Vagrant: what nodes.yaml may say, the machines that come of it, their keys, and that Vagrant itself takes the Vagrantfile.

Nothing is booted here. VirtualBox is not packaged in Debian, so a program that only tells a version stands for it.
"""

import json
import os
import platform
import shutil
import subprocess

import pytest
import yaml

from labkit.home import REPO

pytestmark = pytest.mark.skipif(
    not shutil.which("vagrant") and platform.freedesktop_os_release().get("VERSION_ID") != "12",
    reason="Vagrant and its plugins are packages of Debian 12",
)

VAGRANT = REPO / "vagrant"
EXAMPLE = yaml.safe_load((VAGRANT / "nodes.yaml").read_text())
PROVIDERS = ("libvirt", "virtualbox", "lxc")

# Vagrant's own class of errors is all that site.rb needs of it.
DRIVE = """
module Vagrant; module Errors; class VagrantError < StandardError; def initialize(*) super(); end; end; end; end
require "%s"
begin
  site = Site.new("%s")
  site.make_keys if ARGV.include?("keys")
  site.forget_keys if ARGV.include?("forget")
  puts JSON.generate(provider: site.provider, salt: site.salt_version, facts: JSON.parse(site.facts),
                     machines: site.machines.map(&:to_h), loops: site.machines.to_h { |each| [each.name, site.loops(each)] })
rescue Site::Mistake => e
  abort e.message
end
"""


@pytest.fixture
def environment(tmp_path):
    """Variables by which Vagrant keeps what it writes in the test's folder, and sees no file of the user's."""
    (tmp_path / "bin").mkdir()
    box = tmp_path / "bin/VBoxManage"
    box.write_text("#!/bin/sh\necho 7.0.10r158379\n")
    box.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("VAGRANT_", "SALT_RBD_"))}
    return {
        **kept,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "VAGRANT_HOME": str(tmp_path / "home"),
        "VAGRANT_DOTFILE_PATH": str(tmp_path / "state"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_NO_COLOR": "1",
    }


def _nodes(environment, tmp_path, **changes):
    path = tmp_path / "nodes.yaml"
    content = json.loads(json.dumps(EXAMPLE))
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    environment["SALT_RBD_NODES"] = str(path)


def _site(environment, *words):
    script = DRIVE % (VAGRANT / "site.rb", VAGRANT)
    return subprocess.run(["ruby", "-e", script, "--", *words], env=environment, capture_output=True, text=True, timeout=120)


def _told(environment, *words):
    done = _site(environment, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_vagrant_takes_the_vagrantfile(environment, provider):
    environment["VAGRANT_DEFAULT_PROVIDER"] = provider
    done = subprocess.run(["vagrant", "validate"], cwd=VAGRANT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr


def test_vagrant_tells_a_mistake_as_a_sentence(environment, tmp_path):
    _nodes(environment, tmp_path, provider="docker")
    done = subprocess.run(["vagrant", "validate"], cwd=VAGRANT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode != 0
    assert "provider is docker; it can be libvirt, virtualbox, lxc." in done.stdout + done.stderr
    assert "site.rb:" not in done.stdout + done.stderr


def test_the_example(environment):
    told = _told(environment)
    assert [one["name"] for one in told["machines"]] == ["node1", "node2", "node3", "management"]
    assert [one["address"] for one in told["machines"]] == [f"192.168.56.{last}" for last in (11, 12, 13, 10)]
    assert told["facts"]["nodes"] == {f"node{number}": f"192.168.56.{number + 10}" for number in (1, 2, 3)}
    assert told["facts"]["management"] == "192.168.56.10"
    assert told["salt"] == yaml.safe_load((REPO / "pillar/salt.sls").read_text())["salt_environment"]["version"]
    # No loop device is two machines'.
    loops = [number for some in told["loops"].values() for number in some]
    assert len(loops) == len(set(loops)) == 32


@pytest.mark.parametrize(
    ("provider", "osd"),
    [
        ("libvirt", {"device": "/dev/disk/by-id/virtio-osd"}),
        ("virtualbox", {"device": "/dev/sdb"}),
        ("lxc", {"bytes": 10 * 2**30}),
    ],
)
def test_where_the_osd_is(environment, provider, osd):
    environment["VAGRANT_DEFAULT_PROVIDER"] = provider
    told = _told(environment)
    assert told["facts"]["osd"] == osd
    assert told["facts"]["network"] == EXAMPLE["networks"][provider]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"provider": "docker"}, "provider is docker; it can be libvirt, virtualbox, lxc."),
        ({"box": None}, "box is missing."),
        ({"box": 12}, "box is 12; it is a box's name."),
        ({"nodes": {"count": 0}}, "nodes:count is 0; it is a number above 0."),
        ({"nodes": {"count": 10}}, "nodes:count is 10; it can be 1 to 9."),
        ({"nodes": {"memory": "2G"}}, 'nodes:memory is "2G"; it is a number above 0.'),
        ({"nodes": {"disk": 5}}, "nodes:disk is not known; known are count, memory, cpus, osd_disk."),
        ({"management": None}, "management is missing."),
        ({"libvirt": {"driver": "xen"}}, "libvirt:driver is xen; it can be kvm, qemu."),
        ({"lxc": {"bridge": 4}}, "lxc:bridge is 4; it is a bridge's name."),
        ({"networks": {"libvirt": "192.168.56.0"}}, "networks:libvirt is 192.168.56.0; it is an IPv4 network such as"),
        ({"networks": {"libvirt": "fd00::/64"}}, "networks:libvirt is fd00::/64; it is an IPv4 network such as"),
        ({"networks": {"libvirt": "home"}}, 'networks:libvirt is "home"; it is an IPv4 network such as'),
    ],
)
def test_mistakes(environment, tmp_path, changes, sentence):
    _nodes(environment, tmp_path, **changes)
    done = _site(environment)
    assert done.returncode == 1
    assert sentence in done.stderr and "site.rb:" not in done.stderr, done.stderr


def test_a_file_that_is_not_there(environment, tmp_path):
    environment["SALT_RBD_NODES"] = str(tmp_path / "none.yaml")
    assert "none.yaml: there is no such file." in _site(environment).stderr


def test_keys_stay_until_no_machine_is_left(environment, tmp_path):
    keys = tmp_path / "state/salt-rbd"
    _told(environment, "keys")
    first = {path.relative_to(keys): path.read_text() for path in keys.rglob("*") if path.is_file()}
    machines = ("node1", "node2", "node3", "management")
    assert {str(path) for path in first} == {
        *(f"{name}/minion.{kind}" for name in machines for kind in ("pem", "pub")),
        *(f"management/{name}.accepted" for name in machines),
        "management/facts.json",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in [keys, *keys.rglob("*")])
    assert all(first[path].startswith("-----BEGIN PUBLIC KEY-----") for path in first if path.suffix in (".pub", ".accepted"))
    machine = tmp_path / "state/machines/node1/libvirt/id"
    machine.parent.mkdir(parents=True)
    machine.write_text("1")
    _told(environment, "keys", "forget")
    assert {path.relative_to(keys): path.read_text() for path in keys.rglob("*") if path.is_file()} == first
    machine.unlink()
    _told(environment, "forget")
    assert not keys.exists()
