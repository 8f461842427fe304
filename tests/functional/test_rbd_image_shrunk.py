"""What shrinks an image, and what does not: what it carries, who has its lock, where it lies; on the real cluster, dry and for real."""

import pytest
from blank_checks import SIGNATURES, tool
from image_checks import M, trashed
from luks_checks import key, loaders  # noqa: F401 -- the fixture loaders
from saltrbd import errors, owner, shrink
from saltrbd import spec as specs
from saltrbd.client import Client
from state_checks import both, refused
from worker_watch import chosen


@pytest.fixture
def carries(states, modules, spec):
    """Write onto the image's device: ``carries(write, encryption=...)`` calls ``write(device)``; it is not mapped afterwards."""

    def write(how, **more):
        both(states.rbd_device.mapped, spec, persist=False, **more)
        how(modules.rbd_device.info(spec)["device"])
        both(states.rbd_device.unmapped, spec)

    return write


def ext4(device):
    tool("mkfs.ext4", "-q", device)


@pytest.fixture
def elsewhere(cluster):
    """A client of a host of another name."""
    found = Client(chosen(cluster)._replace(host="elsewhere"))
    yield found
    found.close()


def held(ceph, spec, image_id, **more):
    """Hold the image's lock as a mapping by the host of this client does."""
    return owner.hold(ceph, specs.parse(spec), image_id, owner.Verdict(**more))


@pytest.mark.parametrize("what", ["swap", "LVM", "MBR", "GPT", "btrfs"])
def test_what_is_no_ext4_and_no_xfs_is_not_cut_off(what, states, modules, carries, rbd_cli, spec):
    kind, size, write = SIGNATURES[what]
    rbd_cli("create", spec, "--size", size)
    carries(write)
    said = refused(states.rbd_image.present, spec, size="32M", allow_shrink=True)
    command = f"rbd resize {spec} --size 32M --allow-shrink"
    assert said.startswith(f"{spec} cannot shrink to 32M: it carries ") and kind in said and said.endswith(f"'{command}'.")
    with pytest.raises(errors.Refused, match="it carries"):
        modules.rbd_image.resize(spec, "32M", allow_shrink=True)
    assert rbd_cli.json("info", spec)["size"] == int(size[:-1]) * M
    # What the refusal says can be run, with an odd number of bytes too.
    rbd_cli(*command.split()[1:], "--no-progress")
    rbd_cli(*command.replace("32M", "8388609B").split()[1:], "--no-progress")
    assert rbd_cli.json("info", spec)["size"] == 8 * M + 1


def test_nobody_can_take_the_image_between_the_look_and_the_shrink(modules, monkeypatch, ceph, elsewhere, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "32M")
    identity, looked = rbd_cli.json("info", spec)["id"], []
    look = shrink.filesystem.look

    def watched(*args, **more):
        looked.append(owner.look(elsewhere, specs.parse(spec), identity, "").refusal)
        with pytest.raises(errors.Busy, match="at this moment"), held(elsewhere, spec, identity):
            pass
        return look(*args, **more)

    monkeypatch.setattr(shrink.filesystem, "look", watched)
    modules.rbd_image.resize(spec, "16M", allow_shrink=True)
    assert len(looked) == 1 and f"{spec} is being encrypted or shrunk by the host tests" in looked[0]
    assert rbd_cli.json("info", spec)["size"] == 16 * M
    assert owner.holder(ceph, specs.parse(spec), identity) is None


def test_the_lock_goes_with_a_refusal_too(states, modules, carries, ceph, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "64M")
    carries(ext4)
    with pytest.raises(errors.Refused, match="its ext4 has 64M"):
        modules.rbd_image.resize(spec, "32M", allow_shrink=True)
    assert owner.holder(ceph, specs.parse(spec), rbd_cli.json("info", spec)["id"]) is None


def test_what_another_host_has_does_not_shrink(states, modules, elsewhere, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "32M")
    with held(elsewhere, spec, rbd_cli.json("info", spec)["id"]):
        said = refused(states.rbd_image.present, spec, size="16M", allow_shrink=True)
        assert f"{spec} is being encrypted or shrunk by the host elsewhere" in said and "rados" in said
        with pytest.raises(errors.Refused, match="shrunk by the host elsewhere"):
            modules.rbd_image.resize(spec, "16M", allow_shrink=True)
    assert rbd_cli.json("info", spec)["size"] == 32 * M
    both(states.rbd_image.present, spec, size="16M", allow_shrink=True)


def test_the_lock_of_a_shrink_that_was_killed_is_in_nobodys_way(states, ceph, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "32M")
    identity = rbd_cli.json("info", spec)["id"]
    owner.take(ceph, specs.parse(spec), identity, owner.Verdict(), "left", "")
    both(states.rbd_image.present, spec, size="16M", allow_shrink=True)
    assert owner.holder(ceph, specs.parse(spec), identity) is None


@pytest.mark.parametrize("more", [{}, {"encryption": key()}], ids=["plain", "encrypted"])
def test_what_lies_in_the_trash_is_looked_at_before_it_comes_back(more, states, carries, encrypted, rbd_cli, spec):
    encrypted() if more else rbd_cli("create", spec, "--size", "64M")
    carries(ext4, **more)
    rbd_cli("trash", "mv", spec)
    wanted = {"size": "48M", "restore_from_trash": True, "allow_shrink": True, **more}
    said = refused(states.rbd_image.present, spec, **wanted)
    assert f"{spec} cannot shrink to 48M: its ext4 has {48 if more else 64}M." in said
    if more:
        assert "Declare encryption:" in refused(states.rbd_image.present, spec, **{**wanted, "encryption": None})
    assert len(trashed(rbd_cli, spec)) == 1
    both(states.rbd_image.present, spec, **{**wanted, "size": "80M"})


def test_what_lies_in_the_trash_shrinks_when_it_comes_back(states, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "64M")
    rbd_cli("trash", "mv", spec)
    both(states.rbd_image.present, spec, size="48M", restore_from_trash=True, allow_shrink=True)
    assert rbd_cli.json("info", spec)["size"] == 48 * M


def test_a_dry_run_looks_at_what_an_earlier_state_brings_back(state_run, carries, rbd_cli, spec):
    rbd_cli("create", spec, "--size", "64M")
    carries(ext4)
    rbd_cli("trash", "mv", spec)
    text = f"""
back:
  rbd_image.present: [{{name: {spec}}}, {{restore_from_trash: true}}]
smaller:
  rbd_image.present: [{{name: {spec}}}, {{size: 32M}}, {{allow_shrink: true}}]
"""
    dry = state_run(text, test=True)
    assert [one.result for one in dry] == [None, False] and "its ext4 has 64M" in dry[1].comment
    real = state_run(text)
    assert [one.result for one in real] == [True, False] and real[1].comment == dry[1].comment
