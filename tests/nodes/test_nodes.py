"""The nodes themselves: systemd boots them, they keep to themselves, a reboot keeps their disk, their end leaves nothing on this host."""

import os
from pathlib import Path

from labkit import nodes


def _attach(node):
    return node.shell("truncate -s 8M /root/image; losetup --find --show /root/image")[1].strip()


def _traces(node):
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{node.machine}")]
    links = [name for name in os.listdir("/sys/class/net") if node.machine in name]
    return [*node.pids(), *groups, *links, *([node.folder] if node.folder.exists() else [])]


def test_a_node_lives_and_ends(make_node, lab_home):
    node, other = make_node(7), make_node(8)
    assert node.run("cat", "/proc/1/comm")[1].strip() == "systemd"
    assert node.failed_units() == []
    assert node.run("getent", "ahostsv4", other.name)[1].split()[0] == other.address
    # Each takes its own loop devices, though both see the kernel's.
    devices = [_attach(node), _attach(other), _attach(node)]
    assert len(set(devices)) == 3
    assert all(Path("/sys/block", Path(device).name, "loop").is_dir() for device in devices)
    assert node.run("apt-get", "--yes", "install", "jq", timeout=120)[0] == 0
    before = node.run("cat", "/proc/sys/kernel/random/boot_id")[1]
    assert node.reboot() == []
    assert node.run("cat", "/proc/sys/kernel/random/boot_id")[1] != before
    assert node.run("losetup", "--list", "--noheadings")[1].count(node.name) == 0
    assert node.run("jq", "--version")[1].startswith("jq")
    node.write("/root/kept", "as it was\n", 0o600)
    node.crash()
    assert node.pids() == []
    assert node.restart() == []
    assert node.run("stat", "-c", "%a", "/root/kept")[1].strip() == "600"
    assert nodes.running(lab_home, node.name).pids() == node.pids()
    numbers = node._known("loops")
    assert node.end() == []
    assert _traces(node) == []
    assert not any(Path(f"/sys/block/loop{number}").exists() for number in numbers)


def test_the_host_is_not_reached(module_node):
    """A node has the lab's packages and no way out."""
    assert "default" not in module_node.run("ip", "route")[1]
    assert module_node.run("cat", "/etc/resolv.conf")[1] == ""
