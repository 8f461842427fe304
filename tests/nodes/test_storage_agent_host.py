"""The SLS of the storage agent on one fresh host, by ``salt-call --local``: what it makes, what the second run does, what is left after."""

import json
import os
import re
import secrets
import time

import pytest
from masterless import PILLAR, STATES, Host
from node_end import ending

pytestmark = pytest.mark.timeout(2800)

USER, PASSWORD = "tenx-agent", secrets.token_urlsafe(20)
CERTIFICATE, KEY = "/etc/ssl/certs/storage-agent.pem", "/etc/ssl/private/storage-agent.pem"
ACCOUNT, CONF = "/etc/salt/storage-agent.htpasswd", "/etc/salt/storage-agent.nginx.conf"

# Prints status and body of a POST to PATH at URL, with the JSON on stdin.
CLIENT = """
import http.client, ssl, sys
kind, _, where = sys.argv[1].partition("://")
how = {"context": ssl.create_default_context(cafile=sys.argv[3])} if kind == "https" else {}
connection = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[kind](where, timeout=100, **how)
try:
    connection.request("POST", sys.argv[2], sys.stdin.read(), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
except (OSError, http.client.HTTPException) as error:
    print(0, type(error).__name__)
"""


def pillar(node, **changes):
    agent = {"url": f"https://{node.address}:8011", "certificate": CERTIFICATE, "key": KEY, "user": USER, "password": PASSWORD}
    return {
        "salt_environment": {"version": os.environ["RBD_LAB_SALT"], "build_packages": []},
        "salt_master": {"file_roots": [f"{STATES}/salt"], "pillar_roots": [PILLAR]},
        "platform": {"agent": {**agent, "targets": ["node*"], **changes}},
    }


def settled(node, seconds=300):
    """Wait until the restarts are over that come after the job which asked for them."""
    deadline = time.monotonic() + seconds
    while node.run("systemctl", "list-units", "--plain", "--no-legend", "salt-*-restart@*")[1].strip():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.fixture(scope="module")
def host(lab_home):
    """The host, and what a dry run, the first and the second run said (``runs``)."""
    found = Host(lab_home, 8)
    with ending(found.node):
        # The lab's Salt runs the states; openssl is there by the environment's own state as well.
        found.node.run(
            "apt-get", "-qq", "--yes", "--no-install-recommends", "install", "openssl", timeout=900, DEBIAN_FRONTEND="noninteractive"
        )
        words = f"-subj /CN=agent -addext subjectAltName=IP:{found.node.address} -keyout {KEY} -out {CERTIFICATE}"
        found.node.shell(f"umask 077 && openssl req -x509 -newkey rsa:2048 -nodes -days 2 {words}")
        found.pillar(pillar(found.node))
        found.runs = []
        for test in (True, False, False):
            found.runs.append(found.apply("storage_agent", test=test))
            settled(found.node)
        yield found


def ask(host, path, data, url=None, seconds=120):
    """Return ``(status, body)``; a daemon that has just been started again may take a while."""
    until = time.monotonic() + seconds
    words = ["/usr/bin/python3", "-c", CLIENT, url or f"https://{host.node.address}:8011", path, CERTIFICATE]
    while True:
        status, _, body = host.node.run(*words, stdin_text=json.dumps(data))[1].strip().partition(" ")
        if status not in ("429", "502", "503") or time.monotonic() > until:
            return int(status), body
        time.sleep(2)


LOGIN = {"username": USER, "password": PASSWORD}


def test_a_dry_run_predicts_it_and_the_second_run_changes_nothing(host):
    dry, first, second = host.runs
    assert [found.failed() for found in host.runs] == [{}, {}, {}]
    assert dry.changed() == first.changed()
    assert {"storage-agent", ACCOUNT, CONF, "/etc/salt/master.d/70-storage-agent.conf"} <= first.changed()
    assert second.changed() == set()


def test_what_runs(host):
    for unit in ("storage-agent", "salt-api", "salt-master"):
        assert host.node.run("systemctl", "is-active", unit)[1].strip() == "active"
        assert host.node.run("systemctl", "is-enabled", unit)[1].strip() == "enabled"
    assert host.node.run("systemctl", "is-active", "nginx", check=False)[1].strip() == "inactive"
    assert host.node.failed_units() == []
    ask(host, "/login", LOGIN)
    listening = re.findall(r"^\S+\s+\S+\s+\S+\s+(\S+):(\d+)\s", host.node.run("ss", "-Hltn")[1], re.MULTILINE)
    ports = {port: address for address, port in listening}
    assert ports["8011"] == host.node.address and ports["8010"] == "127.0.0.1"
    assert not {"80", "8000"} & set(ports)


def test_who_comes_in(host):
    assert ask(host, "/login", LOGIN)[0] == 200
    assert ask(host, "/login", {**LOGIN, "password": "wrong"})[0] == 401
    assert ask(host, "/login", {**LOGIN, "username": "root"})[0] == 401
    status, body = ask(host, "/", {"client": "local", "tgt": "node1", "fun": "rbd_image.list"})
    assert status == 401 and "Log in first" in json.loads(body)["error"]
    assert ask(host, "/run", {**LOGIN, "eauth": "file", "client": "local", "tgt": "*", "fun": "test.ping"})[0] == 404


def test_no_secret_but_in_the_pillar(host):
    node = host.node
    assert node.run("stat", "--format", "%a %U %G", ACCOUNT)[1].strip() == "640 root salt"
    account = node.run("cat", ACCOUNT)[1]
    assert account.startswith(f"{USER}:$6$rounds=100000$")
    said = (
        json.dumps(host.runs)
        + node.run("journalctl", "--no-pager")[1]
        + node.shell("cat /var/log/salt/* /etc/salt/master.d/* /etc/salt/*.conf")[1]
    )
    for secret in (PASSWORD, account.strip().partition(":")[2]):
        assert secret not in said


def test_a_mistake_leaves_all_as_it_is(host):
    kept = host.node.shell(f"cat {CONF} {ACCOUNT} /etc/salt/master.d/70-storage-agent.conf")[1]
    host.pillar(pillar(host.node, tls=False, user=""))
    for test in (True, False):
        said = json.dumps(host.apply("storage_agent", test=test).failed())
        assert "write http://" in said and "platform:agent:user" in said
    assert host.node.shell(f"cat {CONF} {ACCOUNT} /etc/salt/master.d/70-storage-agent.conf")[1] == kept
    assert ask(host, "/login", LOGIN)[0] == 200


def test_another_password_and_no_tls(host):
    plain, other = f"http://{host.node.address}:8011", "another password of the account"
    host.pillar(pillar(host.node, tls=False, url=plain, password=other))
    assert {ACCOUNT, CONF, "storage-agent"} <= host.applied("storage_agent").changed()
    settled(host.node)
    assert ask(host, "/login", {**LOGIN, "password": other}, plain)[0] == 200
    assert ask(host, "/login", LOGIN, plain)[0] == 401
    assert ask(host, "/login", LOGIN)[0] == 0


def test_after_a_reboot_and_after_the_end(host):
    assert host.node.reboot() == []
    plain = f"http://{host.node.address}:8011"
    assert ask(host, "/login", {**LOGIN, "password": "another password of the account"}, plain)[0] == 200
    host.applied("storage_agent.clean")
    settled(host.node)
    for path in (
        ACCOUNT,
        CONF,
        "/etc/salt/master.d/70-storage-agent.conf",
        "/etc/systemd/system/storage-agent.service",
        "/usr/local/lib/salt-storage-agent",
    ):
        assert host.node.run("test", "-e", path, check=False)[0] == 1, path
    assert ask(host, "/login", LOGIN, plain) == (0, "ConnectionRefusedError")
    assert host.node.run("systemctl", "is-active", "salt-master")[1].strip() == "active"
    assert host.apply("storage_agent.clean").changed() == set()
