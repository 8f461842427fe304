"""The unit that maps an image at boot: its name, its record, what a state would change."""

import sys

import pytest
from saltrbd import boot, boot_service, device_plan, errors, settings, spec
from saltrbd.device_plan import Desired
from saltrbd.mapping import link_path

FSID = "00000000-0000-0000-0000-000000000001"
SPEC = spec.parse("rbd/a")
ID = "10226b8b4567"
WANT = Desired("auto", False, True, [("discard", "ignore")], True)


class Ceph:
    """A client as far as the plan asks it."""

    fsid = FSID
    settings = settings.load({"id": "one"}, {"ceph": {"monitors": ["192.0.2.1:6789"], "keyring": "/etc/ceph/k"}})


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """The folders that the units lie in, empty; nothing of systemd is asked."""
    for name in ("FOLDER", "WANTS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(boot, name, str(tmp_path / name))
    monkeypatch.setattr(boot, "TEMPLATE", str(tmp_path / "template"))
    monkeypatch.setattr(boot, "possible", lambda: True)
    return tmp_path


def written(etc, want=WANT, where=SPEC):
    """What a state leaves behind."""
    name = boot.unit(link_path(FSID, where))
    boot.keep(boot._path(name), boot.json.dumps(boot.record(Ceph.settings, FSID, where, want, ID)))
    (etc / "template").write_text(boot._template())
    (etc / "WANTS" / name).symlink_to(etc / "template")
    return name


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("rbd/a", "rbd-volume@rbd:a:"),
        ("rbd/a@s", "rbd-volume@rbd:a_s:"),
        ("rbd/n/a", "rbd-volume@rbd:n_:a:"),
        ("rbd/Größe,12", "rbd-volume@rbd:Gr__e_12:"),
        ("rbd/" + "x" * 250, "rbd-volume@rbd:xxx"),
    ],
)
def test_a_name_that_systemd_and_fstab_take(text, begins):
    name = boot.unit(link_path(FSID, spec.parse(text)))
    assert name.startswith(begins) and name.endswith(".service")
    assert len(name) <= 255 and not set(name) & set("\\,%/ ")


def test_names_tell_images_and_clusters_apart():
    texts = ["rbd/a", "rbd/a@s", "rbd/a_s", "rbd/n/a", "rbd/n_", "rbd/ä", "rbd/ö"]
    names = {boot.unit(link_path(fsid, spec.parse(text))) for text in texts for fsid in (FSID, FSID[:-1] + "2")}
    assert len(names) == 2 * len(texts)


def test_a_record_reads_back(etc):
    name = written(etc)
    assert boot.look(FSID, SPEC) == boot.record(Ceph.settings, FSID, SPEC, WANT, ID)
    assert boot.load(name[len("rbd-volume@") : -len(".service")])["options"] == {"discard": "ignore"}
    assert "secret" not in str(boot.look(FSID, SPEC)) and boot.look(FSID, spec.parse("rbd/b")) == "none"


@pytest.mark.parametrize(
    ("damage", "want", "old", "new"),
    [
        (None, WANT, "same", "same"),
        (None, WANT._replace(persist=None), "same", "same"),
        (None, WANT._replace(persist=False), "unit", None),
        (None, WANT._replace(options=[]), "unit, outdated", "unit"),
        (None, WANT._replace(driver="fuse"), "unit, outdated", "unit"),
        ("record", WANT, "unit, outdated", "unit"),
        ("link", WANT, "unit, outdated", "unit"),
        ("template", WANT, "unit, outdated", "unit"),
        ("all", WANT, None, "unit"),
        ("all", WANT._replace(persist=False), "same", "same"),
    ],
)
def test_what_the_boot_needs(etc, damage, want, old, new):
    name = written(etc)
    paths = {"record": etc / boot._path(name), "link": etc / "WANTS" / name, "template": etc / "template"}
    for path in paths.values() if damage == "all" else [paths[damage]] if damage else []:
        path.unlink()
    found = device_plan.boot_change(Ceph, SPEC, want, ID)
    words = {"unit": name, "unit, outdated": name + ", outdated", None: None}
    assert found == (None if old == "same" else {"old": words[old], "new": words[new]})


def test_without_systemd_nothing_is_written(etc, monkeypatch):
    monkeypatch.setattr(boot, "possible", lambda: False)
    assert device_plan.boot_change(Ceph, SPEC, WANT, ID) is None


def test_another_image_of_that_name(etc):
    written(etc)
    assert device_plan.boot_change(Ceph, SPEC, WANT, "another")["old"].endswith(", outdated")


def test_the_unit_refuses_another_image_of_that_name():
    class Answers(Ceph):
        """A cluster in which the image was made anew."""

        def call(self, op, where):
            return {"id": "another"}

    kept = boot.record(Ceph.settings, FSID, SPEC, WANT, ID)
    with pytest.raises(errors.Refused, match="rbd/a is another image by now .id another, not 10226b8b4567"):
        boot_service.attach(Answers(), SPEC, kept)


@pytest.mark.parametrize(
    "program, own", [("python3.11", False), ("python3.8", False), ("python3.6", True), ("python2.7", True), ("none", True)]
)
def test_the_unit_runs_the_systems_python_where_it_is_new_enough(tmp_path, program, own):
    link = tmp_path / "python3"
    if program != "none":
        (tmp_path / program).touch()
        link.symlink_to(program)
    assert boot._interpreter(str(link)) == (sys.executable if own else str(link))
