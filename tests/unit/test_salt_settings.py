"""What may stand in a master's or minion's configuration, as a table."""

import pytest
from saltrbd.salt_settings import Facts, mistakes

VALID = {
    "interface": str,
    "worker_threads": int,
    "auto_accept": bool,
    "open_mode": bool,
    "file_roots": dict,
    "timeout": (int, float),
    "log_file": (type(None), str),
}
FOLDERS = {"/srv/salt", "/srv/pillar", "/srv/repo", "/srv/repo/pillar", "/srv/other", "/srv/other/tests", "/srv/pillar/sub"}
FACTS = Facts(VALID, {"192.0.2.10", "127.0.0.1"}, FOLDERS.__contains__)
ROOTS = {"file_roots": {"base": ["/srv/salt"]}, "pillar_roots": {"base": ["/srv/pillar"]}}


@pytest.mark.parametrize(
    "daemon, settings, reasons",
    [
        ("master", {}, []),
        ("master", ROOTS, []),
        ("master", {"interface": "0.0.0.0"}, []),  # noqa: S104
        ("master", {"interface": "192.0.2.10"}, []),
        ("master", {"interface": "127.0.0.9"}, []),
        ("master", {"interface": "192.0.2.11"}, ["no address of this host; it has 127.0.0.1, 192.0.2.10"]),
        ("master", {"interface": "master.example"}, ["must be an address of this host"]),
        ("minion", {"interface": "192.0.2.11"}, []),
        ("master", {"worker_threads": "many"}, ["worker_threads must be int, not str"]),
        ("minion", {"worker_threads": True}, ["worker_threads must be int, not bool"]),
        ("master", {"auto_accept": "yes"}, ["auto_accept must be bool, not str"]),
        ("master", {"auto_accept": True, "open_mode": True}, ["auto_accept is true", "open_mode is true"]),
        ("master", {"auto_accept": False}, []),
        ("master", {"timeout": 3}, []),
        ("master", {"timeout": 3.5}, []),
        ("master", {"timeout": "3"}, ["timeout must be float or int, not str"]),
        ("master", {"log_file": None, "my.own": object()}, []),
        ("master", {1: "x", "interface": "0.0.0.0"}, ["1 is no name of a setting; put it in quotes"]),  # noqa: S104
        ("minion", {True: "x", None: 5, "worker_threads": 2}, ["None is no name of a setting", "True is no name of a setting"]),
        ("master", {"file_roots": {1: ["/srv/salt"], "base": ["/srv/none"]}}, ["file_roots names /srv/none, which is no folder"]),
        ("master", {"file_roots": {"base": "/srv/salt"}}, ["file_roots:base must be a list of folders"]),
        ("master", {"pillar_roots": {"base": [5], "dev": None}}, ["pillar_roots:base must be", "pillar_roots:dev must be"]),
        ("master", {"worker_threads": None}, ["worker_threads must be int, not NoneType"]),
        ("master", {"file_roots": {"base": ["/srv/none"]}}, ["file_roots names /srv/none, which is no folder"]),
        ("master", {"pillar_roots": {"base": ["/srv/none"]}}, ["pillar_roots names /srv/none, which is no folder"]),
        ("master", {"file_roots": {"base": ["/srv/repo"]}}, ["what is in its folder pillar"]),
        ("master", {"file_roots": {"base": ["/srv/other"]}}, ["what is in its folder tests"]),
        ("master", {**ROOTS, "file_roots": {"base": ["/srv/pillar"]}}, ["could read the pillar in /srv/pillar"]),
        ("master", {**ROOTS, "file_roots": {"dev": ["/srv/pillar/sub"]}}, ["could read the pillar in /srv/pillar"]),
    ],
)
def test_mistakes(daemon, settings, reasons):
    found = mistakes(daemon, settings, FACTS)
    assert len(found) == len(reasons), found
    for reason, sentence in zip(reasons, found):
        assert reason in sentence


def test_a_secret_is_not_shown():
    assert "hunter2" not in " ".join(mistakes("master", {"worker_threads": "hunter2"}, FACTS))
