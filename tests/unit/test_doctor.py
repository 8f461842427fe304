"""The doctor's judgements, as tables: facts in, a status and the words that help out."""

import time

import pytest
from saltrbd import doctor, doctor_cluster, doctor_files, doctor_host, doctor_monitors, errors, settings, volumes
from saltrbd import spec as specs
from saltrbd.doctor_finding import FAULT, OK, UNKNOWN, WARNING, Finding
from saltrbd.doctor_monitors import Address, Answer
from saltrbd.mapping import Mapping

KEY = "AQ" + "B" * 36 + "=="
GOOD = f'[client.v]\n\tkey = {KEY}\n\tcaps mon = "profile rbd"\n'
CHOSEN = settings.load({"ceph": {"user": "v"}}, {})


def checks(finding, status, *words):
    assert finding.status == status, finding
    for word in words:
        assert word in finding.text, finding
    assert finding.text.endswith("."), finding


@pytest.mark.parametrize(
    ("text", "expected", "rest"),
    [
        ("192.0.2.1", [("192.0.2.1", None, "192.0.2.1", None)], ""),
        ("192.0.2.1:6789, m2", [("192.0.2.1:6789", None, "192.0.2.1", 6789), ("m2", None, "m2", None)], ""),
        ("v2:192.0.2.1:3300/0", [("v2:192.0.2.1:3300", "v2", "192.0.2.1", 3300)], ""),
        ("v1:m1", [("v1:m1:6789", "v1", "m1", 6789)], ""),
        (
            "[v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0] [v2:[2001:db8::1]:3300]",
            [
                ("v2:192.0.2.1:3300", "v2", "192.0.2.1", 3300),
                ("v1:192.0.2.1:6789", "v1", "192.0.2.1", 6789),
                ("v2:[2001:db8::1]:3300", "v2", "2001:db8::1", 3300),
            ],
            "",
        ),
        ("", [], ""),
        ("192.0.2.1:99999", [], "99999"),
        ("ä:!", [], "ä:!"),
    ],
)
def test_monitor_addresses(text, expected, rest):
    found, left = doctor_monitors.addresses(text)
    assert (found, left) == ([Address(*one) for one in expected], rest)


V1, V2 = b"ceph v027\x00\x00", b"ceph v2\n\x10\x00"


@pytest.mark.parametrize(
    ("protocol", "answer", "status", "word"),
    [
        (None, Answer("", V1, ""), OK, "v1"),
        (None, Answer("", V2, ""), OK, "v2"),
        ("v2", Answer("", V2, ""), OK, "v2"),
        ("v2", Answer("", V1, ""), FAULT, "speaks v1 at an address that is declared as v2"),
        (None, Answer("", b"", ""), FAULT, "says nothing"),
        (None, Answer("", b"SSH-2.0-x", ""), FAULT, "no Ceph monitor"),
        (None, Answer("refused", b"", ""), FAULT, "refuses"),
        (None, Answer("timeout", b"", ""), FAULT, "within 4 s"),
        (None, Answer("network", b"", "No route to host"), FAULT, "No route to host"),
        (None, Answer("name", b"", "Name or service not known"), FAULT, "m1 cannot be resolved"),
    ],
)
def test_a_monitor(protocol, answer, status, word):
    checks(doctor_monitors.judge(Address("m1:1", protocol, "m1", 1), answer), status, word)


def test_a_dead_monitor_beside_a_living_one_is_a_warning():
    dead, alive = Finding("monitor a", FAULT, "Dead."), Finding("monitor b", OK, "Alive.")
    assert [finding.status for finding in doctor_monitors.together([dead, alive])] == [WARNING, OK]
    assert doctor_monitors.together([dead, dead]) == [dead, dead]


@pytest.mark.parametrize(
    ("text", "status", "word"),
    [
        ("[global]\nmon host = m1\n", OK, "can be read"),
        ("mon_host = m1 # comment\n; x\n", OK, ""),
        ("[client.v]\nmon-host = m1\n", OK, ""),
        ("[client.other]\nmon_host = m1\n", WARNING, "names no monitor"),
        ("", WARNING, "names no monitor"),
        ("[global]\nmon_host = m1\nwhat is this\n", FAULT, "Line 3 of /c"),
        ("[global\n", FAULT, "Line 1"),
    ],
)
def test_a_configuration(text, status, word):
    checks(doctor_files.judge_configuration("/c", text, CHOSEN), status, word)


def test_configuration_values():
    sections, wrong = doctor_files.parse('[global]\nmon host = "a,\\\nb" ; c\nfsid = 1\n[client]\nfsid=2\n[client.v]\nfsid = 3\n')
    assert wrong is None
    assert doctor_files.option(sections, "v", "mon_host") == "a,b"
    assert [doctor_files.option(sections, user, "fsid") for user in ("v", "w")] == ["3", "2"]


@pytest.mark.parametrize(
    ("text", "mode", "owner", "status", "word"),
    [
        (GOOD, 0o600, 0, OK, "private"),
        (GOOD, 0o400, 0, OK, "private"),
        (GOOD, 0o640, 0, WARNING, "mode 0640"),
        (GOOD, 0o602, 0, WARNING, "chmod 600 /k"),
        (GOOD, 0o600, 12345, WARNING, "user number 12345"),
        (GOOD.replace("client.v", "client.w"), 0o600, 0, FAULT, "no key of client.v"),
        ("", 0o600, 0, FAULT, "ceph auth get client.v"),
        ("garbage", 0o600, 0, FAULT, "Line 1"),
        ("[client.v]\nkey = nonsense\n", 0o600, 0, FAULT, "no key of Ceph's"),
        ("[client.v]\n", 0o600, 0, FAULT, "no key of"),
        (GOOD + "garbage\n", 0o600, 0, FAULT, "Line 4"),
    ],
)
def test_a_keyring(text, mode, owner, status, word):
    finding = doctor_files.judge_keyring("/k", text, 0o100000 | mode, owner, "v")
    checks(finding, status, word)
    assert KEY not in finding.text


@pytest.mark.parametrize(
    ("pillar", "conf", "status", "words"),
    [
        ("A", "A", OK, ["A"]),
        ("A", "", OK, []),
        ("", "A", WARNING, ["Declare it"]),
        ("A", "B", WARNING, ["configuration file says B"]),
        ("B", "A", FAULT, ["has the fsid A", "ceph:fsid is B"]),
    ],
)
def test_fsid(pillar, conf, status, words):
    checks(doctor_cluster.judge_fsid(pillar, conf, "A"), status, *words)


STAMP = "2026-11-26T11:22:03.500000+0000"
HERE = 1795692123.5


@pytest.mark.parametrize(
    ("stamp", "here", "status", "word"),
    [
        (STAMP, HERE, OK, ""),
        (STAMP, HERE + 4, OK, ""),
        (STAMP, HERE - 4, OK, ""),
        (STAMP, HERE - 20, WARNING, "20 s behind"),
        (STAMP, HERE - 4000, FAULT, "4000 s behind"),
        (STAMP, HERE + 400, WARNING, "400 s old"),
        ("2026-11-26T12:22:03.5+0100", HERE, OK, ""),
        ("2026-11-26T10:22:03.5-0100", HERE, OK, ""),
        (None, HERE, UNKNOWN, "no entry"),
        ("yesterday", HERE, UNKNOWN, "no entry"),
    ],
)
def test_clock(stamp, here, status, word):
    checks(doctor_cluster.judge_clock(stamp, here), status, word)


@pytest.mark.parametrize(
    ("pool", "status", "word"),
    [("a", OK, "application rbd"), ("b", WARNING, "rbd pool init b"), ("c", FAULT, "does not exist")],
)
def test_pool(pool, status, word):
    checks(doctor_cluster.judge_pool(pool, {"all_pools": ["a", "b"], "pools": ["a"]}), status, word)


@pytest.mark.parametrize(
    ("checks_", "status", "words"),
    [
        ({}, OK, []),
        ({"POOL_APP_NOT_ENABLED": "1 pool"}, WARNING, ["POOL_APP_NOT_ENABLED: 1 pool"]),
        ({"OSD_FULL": "1 full osd(s)", "A": "b"}, FAULT, ["OSD_FULL: 1 full osd(s). Reads or writes"]),
    ],
)
def test_health(checks_, status, words):
    checks(doctor_cluster.judge_health({"status": "", "checks": checks_}), status, *words)


FREE = {"list": None, "write": None, "execute": None}


@pytest.mark.parametrize(
    ("place", "told", "status", "words"),
    [
        (("a", "", True), FREE, OK, ["read and write"]),
        (("a", "", False), {**FREE, "write": "EPERM"}, OK, ["may read"]),
        (("a", "", True), {**FREE, "write": "EPERM"}, FAULT, ["may not write there (EPERM)", "osd 'profile rbd pool=a'"]),
        (("a", "n", True), {**FREE, "list": "EPERM", "write": "EPERM"}, FAULT, ["list images nor write", "pool=a namespace=n'"]),
        (("a", "", False), {**FREE, "execute": "EPERM"}, FAULT, ["profile rbd-read-only pool=a"]),
    ],
)
def test_access(place, told, status, words):
    checks(doctor_cluster.judge_access("v", place, told), status, *words)


def test_rights():
    checks(doctor_cluster.judge_rights("v", {"blocklist": True}), OK)
    checks(doctor_cluster.judge_rights("v", {"blocklist": False}), WARNING, "mon 'profile rbd'")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ClusterUnreachable("No monitor."), FAULT),
        (errors.AuthenticationFailed("No key."), FAULT),
        (errors.NoBindings("No Python."), UNKNOWN),
    ],
)
def test_without_a_session_the_rest_is_unknown(error, status):
    first, *others = doctor_cluster.unreached(error)
    checks(first, status, str(error))
    assert {finding.status for finding in others} == {UNKNOWN}


PILLAR = {
    "volumes": {
        "a": {"size": "1G", "mount": "/a", "fs_type": "xfs", "driver": "krbd", "features": ["layering", "exclusive-lock", "journaling"]},
        "b": {"size": "1G", "pool": "p", "namespace": "n", "data_pool": "d"},
    },
    "clones": {"c": {"parent": "q/x@s"}},
}


def test_what_the_pillar_wants():
    entries = volumes.read(PILLAR, CHOSEN)
    assert doctor_cluster.wanted(CHOSEN, entries) == [("d", "", True), ("p", "n", True), ("q", "", False), ("rbd", "", True)]
    assert {"mkfs.xfs", "rbd", "mount"} <= set(doctor_host.needed_tools(CHOSEN, entries))
    assert "mkfs.ext4" not in doctor_host.needed_tools(CHOSEN, entries)
    checks(doctor_host.judge_features(entries, ["layering", "exclusive-lock"]), FAULT, "rbd/a: journaling")
    checks(doctor_host.judge_features(entries, ["layering", "exclusive-lock", "journaling"]), OK)


def test_host():
    checks(doctor_host.judge_module("rbd", None, True, True), OK, "is loaded")
    checks(doctor_host.judge_module("rbd", "the kernel has no module rbd", False, True), OK, "not needed")
    checks(doctor_host.judge_module("rbd", "the kernel has no module rbd", False, False), WARNING, "The kernel has no module rbd")
    checks(doctor_host.judge_driver("auto", "fuse", None, True), OK, "by fuse")
    checks(doctor_host.judge_driver("auto", None, "no driver can map it.", True), FAULT, "No driver can map it.")
    checks(doctor_host.judge_driver("auto", None, "no driver can map it.", False), WARNING)
    checks(doctor_host.judge_tools(["mkfs.xfs", "rbd"], [], True, True), OK, "mkfs.xfs, rbd")
    checks(doctor_host.judge_tools(["mkfs.xfs"], ["mkfs.xfs"], True, True), FAULT, "Not installed: mkfs.xfs", "xfsprogs")
    checks(doctor_host.judge_tools(["mkfs.xfs"], ["mkfs.xfs"], True, False), WARNING)
    checks(doctor_host.judge_tools(["qemu-storage-daemon"], [], False, True), FAULT, "qemu-block-extra")


@pytest.mark.parametrize(
    ("pillar", "status", "words"),
    [
        ({}, WARNING, ["defaults are examined"]),
        ({"ceph": {"user": "v"}}, OK, ["0 volumes"]),
        ({"ceph": {"user": "v"}, "rbd": PILLAR}, OK, ["3 volumes"]),
        ({"ceph": {"user": "v", "fsdi": "x"}}, FAULT, ["ceph: unknown key 'fsdi'"]),
        ({"ceph": {"user": ["v"]}}, FAULT, ["ceph:user", "defaults"]),
        ({"ceph": "nonsense"}, FAULT, ["must be a mapping"]),
        ({"ceph": {"user": "v"}, "rbd": {"volumes": {"a": {}}}}, FAULT, ["has no size"]),
        ({"_errors": ["x"]}, FAULT, ["could not render"]),
    ],
)
def test_pillar(pillar, status, words):
    case, findings = doctor.read_pillar({}, pillar)
    assert isinstance(case.settings, settings.Settings)
    checks(findings[0], status, *words)


def test_a_check_that_hangs_and_one_that_fails_are_findings(monkeypatch):
    """Each check is replaced here by one that fails, but for the keyring's, which hangs."""

    def fails(*_):
        raise KeyError(KEY)

    for module, name in [(doctor_host, "bindings"), (doctor_host, "kernel_modules"), (doctor_host, "tools"), (doctor_host, "host")]:
        monkeypatch.setattr(module, name, fails)
    for module, name in [(doctor_host, "mappings"), (doctor_monitors, "look"), (doctor_cluster, "look"), (doctor_files, "configuration")]:
        monkeypatch.setattr(module, name, fails)
    monkeypatch.setattr(doctor_files, "keyring", lambda *_: time.sleep(60))
    began = time.monotonic()
    findings = doctor.examine({}, {"ceph": {"user": "v"}}, limit=1)
    assert time.monotonic() - began < 3
    assert [finding.status for finding in findings] == [OK] + [UNKNOWN] * 9
    assert [finding.name for finding in findings if "no answer within" in finding.text] == ["keyring"]
    assert "KeyError: '(a key)'" in findings[1].text


def test_mappings(monkeypatch):
    """The host's list is a table here: of two clusters, and with a mapping that gets its device between two looks."""

    def one(image, fault=None, fsid="F", pid=1):
        return Mapping(specs.parse("rbd/" + image), "/dev/x", "fuse", False, pid, fsid, "1", None, fault)

    looks = [[one("a"), one("b", "dead"), one("c", "no device"), one("d", "dead", fsid="G")], [one("a"), one("b", "dead"), one("c")]]
    monkeypatch.setattr(doctor_host, "_MOMENT", 0)
    monkeypatch.setattr(doctor_host.device_find, "on_host", lambda: looks.pop(0))
    (finding,) = doctor_host.mappings(CHOSEN._replace(fsid="F"))
    assert finding.name == "mapping rbd/b"
    checks(finding, FAULT, "/dev/x: dead", "rbd_device.unmap rbd/b")
    checks(*doctor_host.judge_mappings([one("a")]), OK, "1 mapped here and served")
    checks(*doctor_host.judge_mappings([]), OK, "Nothing is mapped here")


def test_summary():
    findings = [Finding("a", OK, ""), Finding("b", FAULT, ""), Finding("c", UNKNOWN, "")]
    assert doctor.summary(findings) == "1 fault, 1 unknown, 1 ok. Begin with: b."
    assert doctor.summary(findings[:1]) == "1 ok."
