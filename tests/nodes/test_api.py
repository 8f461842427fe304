"""salt-api on the management host: TLS, on the loopback address, and nobody is let in."""

import json

import pytest

pytestmark = pytest.mark.timeout(2800)

CLIENT = """
import json, ssl, sys, urllib.error, urllib.parse, urllib.request
context = ssl.create_default_context(cafile="/etc/salt/pki/api/certificate.pem")
def ask(url, data=None):
    body = urllib.parse.urlencode(data).encode() if data else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), context=context, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, urllib.error.URLError) as error:
        return type(error).__name__
login = {"username": "root", "password": "x", "eauth": "pam"}
run = {"client": "local", "tgt": "*", "fun": "test.ping", **login}
local = "https://localhost:8000"
asked = ((local + "/",), (local + "/login", login), (local + "/run", run), ("http://localhost:8000/",), (sys.argv[1],))
print(json.dumps([ask(*words) for words in asked]))
"""


def test_it_speaks_tls_and_lets_nobody_in(applied):
    node = applied.management
    assert node.run("systemctl", "is-active", "salt-api")[1].strip() == "active"
    said = json.loads(node.run("/usr/bin/python3", "-c", CLIENT, f"https://{node.address}:8000/")[1])
    index, login, run, plain, elsewhere = said
    assert index == 200
    assert login == 401 and run == 401
    assert plain != 200
    assert elsewhere == "URLError", "it listens on the loopback address alone"
