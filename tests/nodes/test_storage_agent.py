"""The storage agent on the management host of the site; node2 is the platform that calls it, over TLS and over the lab's network.

What its SLS makes and takes away: test_storage_agent_host.py.
"""

import json
import re
import secrets

import pytest
import site_checks
import yaml

pytestmark = pytest.mark.timeout(2800)

USER = "tenx-agent"
CERTIFICATE, KEY = "/etc/ssl/certs/storage-agent.pem", "/etc/ssl/private/storage-agent.pem"
CA = "/root/agent.pem"

# Answers [[status, body], ...] for [[path, body, token], ...] on stdin, in their order, by so many connections at once.
CLIENT = """
import concurrent.futures, http.client, json, ssl, sys
url, many, rows = sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)
kind, _, where = url.partition("://")
def connect():
    if kind == "http":
        return http.client.HTTPConnection(where, timeout=200)
    return http.client.HTTPSConnection(where, timeout=200, context=ssl.create_default_context(cafile="/root/agent.pem"))
def ask(row):
    path, body, token = row
    headers = {"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})}
    connection = connect()
    try:
        connection.request("POST", path, "x" * body if isinstance(body, int) else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, type(error).__name__
    finally:
        connection.close()
with concurrent.futures.ThreadPoolExecutor(many) as pool:
    found = list(pool.map(ask, rows))
print(json.dumps(found))
"""


class Platform:
    """The agent as a host of the site sees it."""

    def __init__(self, site, node, password):
        self.site, self.node, self.password = site, node, password
        self.url = f"https://{site.management.address}:8011"

    def ask(self, rows, url=None, many=1):
        """Return [(status, body)] for rows of path, body and token, asked by ``many`` at once."""
        out = self.node.run("/usr/bin/python3", "-c", CLIENT, url or self.url, many, stdin_text=json.dumps(rows), timeout=900)[1]
        return [(status, body) for status, body in json.loads(out)]

    def login(self, url=None):
        """Return a token."""
        ((status, body),) = self.ask([["/login", {"username": USER, "password": self.password}, None]], url)
        assert status == 200, body
        return json.loads(body)["return"][0]["token"]

    def calls(self, token, *calls, url=None):
        """Return [(status, body)] for calls, which are of the local client."""
        return self.ask([["/", {"client": "local", **one}, token] for one in calls], url)


def agent_pillar(address, password):
    about = {"certificate": CERTIFICATE, "key": KEY, "user": USER, "password": password, "targets": ["node*"]}
    return {"platform": {"agent": {"url": f"https://{address}:8011", **about}}}


@pytest.fixture(scope="module")
def agent(site):
    """``(platform, answers)``: the agent applied as a dry run, really, and once more; it is taken away at the end."""
    management, node = site.management, site.nodes[2]
    site.ready()
    subject = f"-subj /CN=agent -addext subjectAltName=IP:{management.address}"
    management.shell(f"umask 077 && openssl req -x509 -newkey rsa:2048 -nodes -days 2 {subject} -keyout {KEY} -out {CERTIFICATE}")
    node.write(CA, management.run("cat", CERTIFICATE)[1])
    node.run("apt-get", "-qq", "--yes", "--no-install-recommends", "install", "curl", "jq", timeout=600, DEBIAN_FRONTEND="noninteractive")
    platform = Platform(site, node, secrets.token_urlsafe(20))
    top = yaml.safe_load(management.run("cat", "/srv/site/pillar/top.sls")[1])
    site.pillar("platform", agent_pillar(management.address, platform.password))
    site.pillar("top", {"base": {**top["base"], "management": [*top["base"]["management"], "platform"]}})
    site.salt("*", "saltutil.sync_all")
    assert site_checks.failed(site.salt("node*", "state.apply", "ceph")) == {}
    answers = {}
    for name, words in (("dry", ["test=True"]), ("real", []), ("second", [])):
        site.ready()
        answers[name] = site.salt("management", "state.apply", "storage_agent", *words)
    site.ready()
    yield platform, answers
    clean = site.salt("management", "state.apply", "storage_agent.clean")
    site.ready()
    site.pillar("top", top)
    management.run("rm", "/srv/site/pillar/platform.sls")
    assert site_checks.failed(clean) == {}
    left = "/etc/salt/storage-agent.htpasswd /etc/salt/storage-agent.nginx.conf /etc/salt/master.d/70-storage-agent.conf"
    for path in f"{left} /etc/systemd/system/storage-agent.service /usr/local/lib/salt-storage-agent".split():
        assert management.run("test", "-e", path, check=False)[0] == 1, path
    assert platform.ask([["/login", {}, None]]) == [(0, "ConnectionRefusedError")]


@pytest.fixture
def platform(agent):
    return agent[0]


def test_a_dry_run_predicts_it_and_the_second_run_changes_nothing(agent):
    _, answers = agent
    assert all(site_checks.failed(answers[name]) == {} for name in ("dry", "real", "second"))
    assert site_checks.predicted(answers["dry"]) == site_checks.changed(answers["real"])
    assert "storage-agent" in json.dumps(sorted(site_checks.changed(answers["real"])["management"]))
    assert site_checks.changed(answers["second"]) == {"management": set()}


def test_a_volume_as_the_documentation_makes_it(platform, repo):
    example = re.search(r"## A call\n.*?```sh\n(.*?)```", (repo / "docs/storage_agent.md").read_text(), re.DOTALL).group(1)
    node, ceph = platform.node, platform.site.ceph_node
    node.write("/root/platform/login.json", json.dumps({"username": USER, "password": platform.password}), 0o600)
    env = {"AGENT": platform.url, "CA": CA, "NODE": "node1"}
    try:
        said = node.run("sh", "-eu", "-c", f"cd /root/platform && {example}", timeout=900, **env)[1]
        mapped = json.JSONDecoder().raw_decode(said[said.rindex("\n{") :].strip())[0]
        assert ceph.run("test", "-b", mapped["ret"]["device"], check=False)[0] == 0
        assert json.loads(ceph.run("rbd", "info", "web-test", "--format=json")[1])["parent"]["image"] == "web"
    finally:
        token = platform.login()
        ((status, body),) = platform.calls(token, {"tgt": "node1", "fun": "rbd_device.unmap", "kwarg": {"name": "web-test"}})
        assert (status, json.loads(body)) == (200, {"return": [{"node1": True}]})
        ceph.shell("rbd rm web-test && rbd snap unprotect web@first && rbd snap purge web && rbd rm web")


def test_what_is_refused(platform):
    token = platform.login()
    mark, fine = "/root/mark", {"tgt": "node1", "fun": "rbd_image.list"}
    touch = {"arg": [f"touch {mark}"]}
    rows = [
        (403, {**fine, "fun": "cmd.run", **touch}),
        (403, {**fine, "fun": ["rbd_image.list", "cmd.run"], "arg": [[], [f"touch {mark}"]]}),
        (403, {**fine, "fun": "rbd_image.remove", "kwarg": {"name": "x"}}),
        (403, {**fine, "client": "runner"}),
        (403, {**fine, "client": "local_async"}),
        (403, {**fine, "tgt": "management"}),
        (403, {**fine, "tgt": "node1 or management", "tgt_type": "compound"}),
        (403, {**fine, "tgt": ["node1", "management"], "tgt_type": "list"}),
        (400, {"tgt": "node1", "fun": "rbd_image.info", "kwarg": {"name": f"$(touch {mark})"}}),
        (400, {**fine, "ret": "rawfile_json"}),
    ]
    said = platform.calls(token, *(call for _, call in rows))
    assert [status for status, _ in said] == [status for status, _ in rows], said
    assert all(list(json.loads(body)) == ["error"] for _, body in said)
    assert all(node.run("test", "-e", mark, check=False)[0] == 1 for node in platform.site.nodes)
    others = [
        ["/", fine, None],
        ["/", fine, "0" * 40],
        ["/login", {"username": USER, "password": "wrong"}, None],
        ["/run", fine, token],
        ["/", 10 * 2**20, token],
    ]
    assert [status for status, _ in platform.ask(others)] == [401, 401, 401, 404, 413]
    # salt-api itself is not there for other hosts.
    for port in (8000, 8010):
        assert platform.ask([["/", fine, token]], url=f"http://{platform.site.management.address}:{port}") == [
            (0, "ConnectionRefusedError")
        ]


# Asks the master as salt-api does, with the account's credentials.
ASKED = """
import json, sys, salt.client
order = json.load(sys.stdin)
client = salt.client.LocalClient("/etc/salt/master")
try:
    print(json.dumps(client.cmd(order.pop("tgt"), order.pop("fun"), timeout=120, eauth="file", **order)))
except Exception as error:
    print(json.dumps(type(error).__name__))
"""


def test_the_account_may_no_more_where_nothing_stands_before_salt(platform):
    """Salt's own permissions; what the guard adds to them: unit/test_storage_agent::test_salts_own_permissions_let_more_through."""
    management = platform.site.management
    python = management.shell('echo "$(dirname "$(readlink /usr/local/bin/salt)")/python"')[1].strip()

    def ask(target, function, password=platform.password):
        order = {"tgt": target, "fun": function, "username": USER, "password": password}
        return json.loads(management.run(python, "-c", ASKED, stdin_text=json.dumps(order), timeout=300)[1])

    assert list(ask("node1", "rbd_device.list")) == ["node1"]
    for target, function in (
        ("node1", "test.ping"),
        ("management", "rbd_image.list"),
        ("*", "rbd_image.list"),
        ("node1", "rbd_image.list_more"),
    ):
        assert ask(target, function) in ({}, "AuthorizationError"), (target, function)
    assert ask("node1", "rbd_device.list", "wrong") in ({}, "AuthenticationError")


def test_a_thousand_logins_in_a_row(platform):
    """From one host; another one logs in meanwhile as if nothing were."""
    wrong = [["/login", {"username": USER, "password": f"wrong {number}"}, None] for number in range(500)]
    found = platform.ask(wrong, many=20)
    elsewhere = Platform(platform.site, platform.site.ceph_node, platform.password)
    elsewhere.node.write(CA, platform.node.run("cat", CA)[1])
    assert elsewhere.login()
    found += platform.ask(wrong, many=20)
    counted = {status: [one for one, _ in found].count(status) for status, _ in found}
    assert set(counted) == {401, 429} and counted[429] > 500, counted
    assert platform.site.salt("node1", "test.ping") == {"node1": True}
    platform.node.run("sleep", "10")
    assert platform.login()
