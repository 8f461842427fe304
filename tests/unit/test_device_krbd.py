"""krbd behind a LUKS header, cut off between each two of its steps. The kernel here has no rbd: a fake stands for it, ``rbd`` and
``cryptsetup``. (The real ones run in the machines of ``./lab vm``.)"""

import itertools
import shutil
from types import SimpleNamespace

import pytest
from saltrbd import device_krbd, device_plan, dmcrypt, errors, kernel, owner
from saltrbd.device_plan import Current, Desired
from saltrbd.luks import Key
from saltrbd.run import Result
from saltrbd.spec import Spec

P = Spec("p", "", "i", "")
KEY = Key("luks2", ("keys", "one"), "secret")
IMAGE = {"id": "abc", "features": ["layering"], "snapshots": [], "parent": None, "size": 8}
HEAD = {"pool": "p", "pool_ns": "", "name": "i", "image_id": "abc", "current_snap": "-", "cluster_fsid": "F"}


class Killed(BaseException):
    """SIGKILL: nothing that would run after it does."""


class Kernel:
    """One rbd device, what dm-crypt has on it, and a kill before or after the step with the number ``fatal``."""

    def __init__(self, folder):
        self._device, self.layer, self.fatal, self.fails = folder / "sys/devices/0", None, None, ()
        self._steps = itertools.count()

    def until_killed_at(self, fatal):
        self.fatal, self._steps = fatal, itertools.count()

    def _step(self, change):
        for moment in ("before", "after"):
            if next(self._steps) == self.fatal:
                raise Killed(moment)
            change() if moment == "before" else None

    def run(self, argv, limit, **more):
        if argv[2] in self.fails:
            raise errors.CommandFailed("it ended with code 1")
        self._step(self._map if argv[2] == "map" else self._unmap)
        return Result(0, "/dev/rbd0\n", "")

    def _map(self):
        self._device.mkdir(parents=True)
        for name, text in HEAD.items():
            (self._device / name).write_text(text + "\n")

    def _unmap(self):
        assert self.layer is None, "dm-crypt lies on it"
        shutil.rmtree(self._device)

    def above(self, device):
        return self.layer

    def open_(self, *_):
        self._step(lambda: setattr(self, "layer", dmcrypt.Layer("/dev/dm-0", "rbd-volume-x", "luks2")))
        return self.layer

    def close(self, *_):
        self._step(lambda: setattr(self, "layer", None))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    found = Kernel(tmp_path)
    mapped_list = device_krbd.mapped_list
    monkeypatch.setattr(device_krbd, "BEGUN", str(tmp_path / "begun"))
    monkeypatch.setattr(device_krbd, "SYSFS", str(tmp_path / "sys"))
    monkeypatch.setattr(device_krbd, "mapped_list", lambda: mapped_list(str(tmp_path / "sys")))
    monkeypatch.setattr(device_krbd, "run", found.run)
    monkeypatch.setattr(device_krbd, "command_args", lambda settings: [])
    monkeypatch.setattr(kernel, "load_module", lambda *_: None)
    monkeypatch.setattr(kernel, "node", lambda *_: None)
    for name in ("above", "open_", "close"):
        monkeypatch.setattr(dmcrypt, name, getattr(found, name))
    return found


def wanted(key=KEY):
    settings = SimpleNamespace(timeout=5, progress_timeout=5)
    return SimpleNamespace(
        ceph=SimpleNamespace(settings=settings), spec=P, fsid="F", image_id="abc", snapshot_id=None, read_only=False, options=[], key=key
    )


def seen():
    """What is mapped, as (the format behind which it is, its fault)."""
    return [(mapping.encryption, mapping.fault) for mapping in device_krbd.mapped_list()]


RAW, OPEN = ("", device_krbd.UNOPENED), ("luks2", None)


@pytest.mark.parametrize(("fatal", "left"), [(0, []), (1, [RAW]), (2, [RAW]), (3, [OPEN]), (None, [OPEN])])
def test_a_map_that_is_cut_off(fake, fatal, left):
    fake.until_killed_at(fatal)
    if fatal is None:
        device_krbd.attach(wanted())
    else:
        with pytest.raises(Killed):
            device_krbd.attach(wanted())
    assert seen() == left
    fake.until_killed_at(None)
    for mapping in device_krbd.mapped_list():
        device_krbd.detach(mapping, 5)
    device_krbd.attach(wanted())
    assert seen() == [OPEN]


@pytest.mark.parametrize(("fatal", "left"), [(0, [OPEN]), (1, [RAW]), (2, [RAW]), (3, []), (None, [])])
def test_an_unmap_that_is_cut_off(fake, fatal, left):
    mapping = device_krbd.attach(wanted())
    fake.until_killed_at(fatal)
    if fatal is None:
        device_krbd.detach(mapping, 5)
    else:
        with pytest.raises(Killed):
            device_krbd.detach(mapping, 5)
    assert seen() == left
    fake.until_killed_at(None)
    for mapping in device_krbd.mapped_list():
        device_krbd.detach(mapping, 5)
    assert seen() == []


def test_what_is_mapped_as_it_is_stored_on_purpose_is_no_remnant(fake):
    # After a map that was killed before it began, and after one that failed.
    fake.until_killed_at(0)
    with pytest.raises(Killed):
        device_krbd.attach(wanted())
    fake.until_killed_at(None)
    device_krbd.attach(wanted(key=None))
    assert seen() == [("", None)]
    device_krbd.detach(*device_krbd.mapped_list(), 5)
    fake.fails = ("map",)
    with pytest.raises(errors.CommandFailed):
        device_krbd.attach(wanted())
    fake.fails = ()
    fake.run(["rbd", "device", "map"], 5)  # by hand
    assert seen() == [("", None)]


MINE = owner.Holder("rbd_header.abc", "client.4", "c", "192.0.2.7:0/4", {"host": "one"})


@pytest.mark.parametrize(
    ("more", "users", "served", "told"),
    [
        ({"fault": device_krbd.UNOPENED}, (), "daemon", ""),
        ({"fault": device_krbd.UNOPENED}, ("/dev/dm-0 is built on it",), "daemon", "but /dev/dm-0 is built on it."),
        ({"fault": device_krbd.UNOPENED, "image_id": "old"}, (), "device", "without its LUKS header opened; unmap it"),
        ({"fault": "the snapshot was removed since"}, (), "device", "the snapshot was removed since; unmap it"),
        ({}, (), "device", "mapped as it is stored, not behind its luks2 header as declared; unmap it first"),
    ],
)
def test_what_a_cut_off_run_left_is_mapped_anew(fake, more, users, served, told):
    fake.run(["rbd", "device", "map"], 5)
    mapping = device_krbd.mapped_list()[0]._replace(**more)
    assert device_plan._served(mapping, IMAGE) == served
    current = Current(IMAGE, mapping, owner.Verdict(holder=MINE), "krbd", None, users)
    plan = device_plan.plan(P, current, Desired("krbd", False, True, [], False, KEY), ["layering"])
    assert told in " ".join(plan.refusals) and bool(plan.refusals) == bool(told)
    if not told:
        words = "mapped by krbd behind its luks2 header"
        assert plan.changes == {"p/i": {"device": {"old": f"{words}, but {device_krbd.UNOPENED}", "new": words}}}
        assert [function for function, _ in plan.steps] == ["rbd_device.map"]
