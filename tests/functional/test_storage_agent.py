"""The storage agent over HTTP, on a real Ceph: a volume as a platform makes it, and all that is refused."""

import concurrent.futures
import json
import os
import re
import subprocess
import threading
import time

import agent_service
import pytest

from labkit import commands

pytestmark = pytest.mark.timeout(2800)

# Seconds of the last test, requests in a second, and of how many one goes to the minion: each takes it a process and a session with Ceph.
SOAK, RATE, EVERY = int(os.environ.get("RBD_AGENT_SOAK", "10")), 20, int(os.environ.get("RBD_AGENT_EVERY", "20"))


@pytest.fixture(scope="module")
def agent(cluster, pool, repo):
    ceph = {key: getattr(cluster, key) for key in ("fsid", "monitors", "conf", "user", "keyring")}
    with agent_service.running({**ceph, "pool": pool}, repo) as found:
        yield found


@pytest.fixture(scope="module")
def token(agent):
    time.sleep(5)  # the logins that waited for the start
    return agent.login()


@pytest.fixture
def example(repo):
    """The lines of the documentation for a platform's shell."""
    return re.search(r"## A call\n.*?```sh\n(.*?)```", (repo / "docs/storage_agent.md").read_text(), re.DOTALL).group(1)


def test_a_volume_as_the_documentation_makes_it(agent, token, example, pool, rbd_cli, tmp_path):
    (tmp_path / "login.json").write_text(json.dumps({"username": agent_service.USER, "password": agent_service.PASSWORD}))
    env = {**commands.clean_environment(), "AGENT": agent.url, "CA": str(agent.certificate), "NODE": "node1"}
    said = subprocess.run(["sh", "-eu", "-c", example], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900)
    try:
        assert said.returncode == 0 and said.stderr == "", (said.stdout, said.stderr, agent.logs()[-2000:])
        mapped = json.JSONDecoder().raw_decode(said.stdout[said.stdout.rindex("\n{") :].strip())[0]
        device = mapped["ret"]["device"]
        assert device.startswith("/dev/") and os.path.exists(device)
        assert rbd_cli.json("info", f"{pool}/web-test")["parent"]["snapshot"] == "first"
        assert rbd_cli.json("snap", "ls", f"{pool}/web")[0]["protected"] == "true"
        status, devices = agent.call(token, "rbd_device.list")
        assert status == 200 and f"{pool}/web-test" in devices["return"][0]["node1"]
    finally:
        assert agent.call(token, "rbd_device.unmap", kwarg={"name": "web-test"}) == (200, {"return": [{"node1": True}]})


def test_an_error_of_the_function_is_told_with_its_retcode(agent, token):
    status, said = agent.call(token, "rbd_image.info", kwarg={"name": "missing"}, full_return=True)
    answer = said["return"][0]["node1"]
    assert status == 200 and answer["retcode"] != 0 and "missing" in answer["ret"]


def test_several_calls_and_a_list_of_targets(agent, token):
    calls = [
        {"client": "local", "tgt": ["node1"], "tgt_type": "list", "fun": "rbd_image.list"},
        {"client": "local", "tgt": "node*", "fun": "rbd_device.list"},
    ]
    status, said = agent.post("/", calls, token)
    assert status == 200 and [list(answer) for answer in said["return"]] == [["node1"], ["node1"]]


def test_without_a_login(agent):
    one = {"client": "local", "tgt": "node1", "fun": "rbd_image.list"}
    for where in (None, agent.ports["cherrypy"]):
        for headers in ({}, {"X-Auth-Token": "0" * 40}, {"Cookie": "session_id=" + "0" * 40}):
            status, said = agent.ask("POST", "/", json.dumps(one), {"Content-Type": "application/json", **headers}, port=where)
            assert status == 401 and "Log in first" in said["error"]
    # The credentials of a call are those of its login.
    status, _ = agent.post("/", {**one, "username": agent_service.USER, "password": agent_service.PASSWORD, "eauth": "file"})
    assert status == 401


def test_a_cookie_is_no_token(agent, token):
    one = json.dumps({"client": "local", "tgt": "node1", "fun": "rbd_image.list"})
    for where in (None, agent.ports["cherrypy"]):
        assert agent.ask("POST", "/", one, {"Content-Type": "application/json", "Cookie": f"session_id={token}"}, port=where)[0] == 401


@pytest.mark.parametrize(
    "login",
    [
        {"password": "another password"},
        {"password": agent_service.PASSWORD + " "},
        {"user": "root"},
        {"user": agent_service.USER.upper()},
        {"user": "^filename"},
        {"user": agent_service.USER, "password": "x", "eauth": "sharedsecret"},
        {"user": "root", "password": "x", "eauth": "pam"},
        {"user": "root", "password": "x", "eauth": "auto"},
    ],
)
def test_a_wrong_login(agent, login):
    data = {"username": login.get("user", agent_service.USER), "password": login.get("password", agent_service.PASSWORD)}
    deadline = time.monotonic() + 120
    while True:
        status, said = agent.post("/login", {**data, **({"eauth": login["eauth"]} if "eauth" in login else {})})
        if status != 429 or time.monotonic() > deadline:
            break
        time.sleep(2)
    assert status == 401, said
    assert "token" not in json.dumps(said).lower() or "X-Auth-Token" in json.dumps(said)


def test_logged_out(agent):
    time.sleep(3)
    token = agent.login(eauth="whatever the platform calls it")
    assert agent.call(token, "rbd_device.list")[0] == 200
    assert agent.ask("POST", "/logout", headers={"X-Auth-Token": token, "Content-Length": "0"})[0] == 200
    assert agent.call(token, "rbd_device.list")[0] == 401


PATHS = (
    "/run",
    "/token",
    "/minions",
    "/jobs",
    "/keys",
    "/events",
    "/ws",
    "/hook",
    "/hook/x",
    "/stats",
    "/app",
    "/static/x",
    "/index",
    "/login/",
    "//",
    "/./run",
)


def test_other_paths_and_methods(agent, token):
    one = {"client": "local", "tgt": "node1", "fun": "cmd.run", "arg": ["id"], "eauth": "file"}
    one.update(username=agent_service.USER, password=agent_service.PASSWORD)
    for where in (None, agent.ports["cherrypy"]):
        for path in PATHS:
            status, said = agent.post(path, one, token, port=where)
            # nginx makes one slash of several, and resolves dots.
            assert status == 404 or (path == "//" and status == 400), (path, status, said)
            assert agent.ask("GET", path, headers={"X-Auth-Token": token}, port=where)[0] == 404, path
        for method in ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"):
            for path in ("/", "/login", "/logout"):
                headers = {"X-Auth-Token": token, "Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
                assert agent.ask(method, path, headers=headers, port=where)[0] == 404, (method, path)
        for kind in ("application/x-www-form-urlencoded", "application/x-yaml", "text/plain", ""):
            status, _ = agent.ask(
                "POST", "/", "client=local&tgt=node1&fun=cmd.run&arg=id", {"Content-Type": kind, "X-Auth-Token": token}, port=where
            )
            assert status == 415, kind


def test_what_is_not_named_is_refused_and_not_run(agent, token, tmp_path):
    """As unit/test_storage_agent::test_refused has it, over HTTP: with a file that each of them would make."""
    mark = tmp_path / "mark"
    touch = {"arg": [f"touch {mark}"]}
    list_ = {"fun": ["rbd_image.list", "cmd.run"], "arg": [[], [f"touch {mark}"]]}
    rows = [
        (403, {"fun": "cmd.run", **touch}),
        (403, {"fun": "state.apply"}),
        (403, {"fun": "saltutil.find_job", "arg": ["1"]}),
        (403, list_),
        (403, {**list_, "fun": "rbd_image.list,cmd.run"}),
        (403, {**list_, "fun": ["saltutil.find_job", "cmd.run"]}),
        *((403, {"client": name, "fun": "cmd.run", **touch}) for name in ("local_async", "local_subset", "local_batch", "ssh")),
        *(
            (403, {"client": name, "fun": "salt.cmd", "kwarg": {"fun": "cmd.run"}})
            for name in ("runner", "runner_async", "wheel", "wheel_async")
        ),
        (400, {"ret": "rawfile_json"}),
        (400, {"module_executors": ["sudo"]}),
        (403, {"tgt": "management"}),
        (403, {"tgt": "*"}),
        (403, {"tgt": "node1 or management", "tgt_type": "compound"}),
        (403, {"tgt": "id:node1", "tgt_type": "grain"}),
        (403, {"tgt": "node.*", "tgt_type": "pcre"}),
        (403, {"tgt": ["node1", "management"], "tgt_type": "list"}),
        *(
            (400, {"fun": "rbd_image.info", "kwarg": {"name": name}})
            for name in (f"x;touch {mark}", f"$(touch {mark})", f"`touch {mark}`", "a|b", "a\nb", "-x")
        ),
        (400, {"fun": "rbd_image.create", "kwarg": {"name": "x", "size": "1M;id"}}),
    ]
    for status, changes in rows:
        call = {"client": "local", "tgt": "node1", "fun": "rbd_image.list", **changes}
        found, said = agent.post("/", call, token)
        assert (found, list(said)) == (status, ["error"]), (call, said)
        # Behind one that is allowed, too.
        found, said = agent.post(
            "/", [{"client": "local", "tgt": "node1", "fun": "rbd_image.create", "kwarg": {"name": "beside", "size": "1M"}}, call], token
        )
        assert (found, list(said)) == (status, ["error"]), (call, said)
    assert not mark.exists()
    status, said = agent.call(token, "rbd_image.list")
    assert status == 200 and "beside" not in said["return"][0]["node1"]


def test_a_big_body(agent, token):
    headers = {"Content-Type": "application/json", "X-Auth-Token": token}
    big = b'["' + b"x" * 10 * 2**20 + b'"]'
    for path in ("/", "/login"):
        status, said = agent.ask("POST", path, big, headers)
        assert status == 413 and "65536 bytes" in said["error"]
    # Without saying before how long it is.
    pieces = (big[at : at + 65536] for at in range(0, len(big), 65536))
    try:
        assert agent.ask("POST", "/", pieces, {**headers, "Transfer-Encoding": "chunked"})[0] == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was not read to its end
    # One that is not too big is read.
    status, said = agent.post("/", [{"client": "local", "tgt": "node1", "fun": "rbd_image.list", "arg": ["x" * 1000] * 60}] * 11, token)
    assert status == 413
    status, said = agent.post("/", [{"client": "local", "tgt": "node1", "fun": "rbd_image.list", "arg": ["x" * 1000] * 60}], token)
    assert (status, list(said["return"][0])) == (200, ["node1"])
    deep = "[" * 30000 + "]" * 30000
    assert agent.ask("POST", "/", deep, headers)[0] in (400, 500)
    assert agent.call(token, "rbd_device.list")[0] == 200


def test_a_thousand_logins_in_a_row(agent, token, capsys):
    """They are slowed down, to the rate of the pillar; who is logged in works on meanwhile, and a good login follows.

    By twenty at once: one after the other, Salt itself takes a second for each, and they are under the rate.
    """
    meanwhile, done, kept = [], threading.Event(), threading.local()

    def work():
        while not done.wait(1):
            meanwhile.append(agent.call(token, "rbd_device.list")[0])

    def guess(number):
        kept.connection = getattr(kept, "connection", None) or agent.connection()
        login = {"username": agent_service.USER, "password": f"wrong {number}"}
        return agent.post("/login", login, connection=kept.connection)[0]

    worker = threading.Thread(target=work)
    worker.start()
    began = time.monotonic()
    try:
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            found = list(pool.map(guess, range(1000)))
        seconds = time.monotonic() - began
    finally:
        done.set()
        worker.join()
    assert set(found) == {401, 429} and len(found) == 1000
    # Five at once, then one in a second.
    assert found.count(401) <= 7 + seconds * agent.known["limits"]["logins"]
    assert set(meanwhile) <= {200}
    waited = time.monotonic()
    while agent.post("/login", {"username": agent_service.USER, "password": agent_service.PASSWORD})[0] != 200:
        assert time.monotonic() < waited + 60
        time.sleep(1)
    with capsys.disabled():
        print(
            f"\n1,000 logins in {seconds:.0f} s: {found.count(401)} looked at, {found.count(429)} told to wait; "
            f"{len(meanwhile)} calls answered meanwhile; a good login {time.monotonic() - waited:.0f} s after"
        )


def test_its_memory_does_not_grow(agent, token, capsys):
    """From the first fifth of the time on: before, each of its threads takes what it then keeps."""
    ends, counted, marks, lock = [], {}, [], threading.Lock()
    kinds = (
        lambda: agent.call(token, "cmd.run", arg=["id"]),
        lambda: agent.call("0" * 40, "rbd_image.list"),
        lambda: agent.call(token, "rbd_image.list", target="management"),
        lambda: agent.call(token, "rbd_image.list", ret="x"),
    )

    def ask(number):
        status, said = agent.call(token, "rbd_image.list") if number % EVERY == 0 else kinds[number % len(kinds)]()
        # A minion of a machine that does much else may be late.
        key = f"{status} from the minion" if status == 200 and said["return"][0] else str(status)
        with lock:
            counted[key] = counted.get(key, 0) + 1
            ends.append(time.monotonic())

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        # As many calls at once as there are threads, before it begins.
        list(pool.map(ask, [0] * 16))
        counted.clear(), ends.clear()
        began, asked = time.monotonic(), []
        for fifth in range(6):
            until = began + SOAK * fifth / 5
            while time.monotonic() < until:
                asked.append(pool.submit(ask, len(asked)))
                time.sleep(max(0.0, began + len(asked) / RATE - time.monotonic()))
            for one in asked:
                one.result()
            marks.append((len(ends), agent.memory()))
    with capsys.disabled():
        print(f"\n{len(ends)} requests in {max(ends) - began:.0f} s, by status: {counted}")
        for number, memory in marks:
            print(f"MiB after {number} requests: " + ", ".join(f"{name} {size:.1f}" for name, size in memory.items()))
    assert set(counted) <= {"200", "200 from the minion", "400", "401", "403"} and counted["200 from the minion"]
    before, after = marks[1][1], marks[-1][1]
    assert after["salt-api"] < before["salt-api"] * 1.1 + 4
    assert after["nginx"] < before["nginx"] * 1.1 + 2


def test_no_secret_in_the_logs(agent):
    """After all that: neither the password nor the account's hash."""
    said, line = agent.logs(), (agent.folder / "htpasswd").read_text().strip()
    assert agent_service.PASSWORD not in said and line.partition(":")[2] not in said
