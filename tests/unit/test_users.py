"""Who uses an image, for people: addresses, names of hosts, words."""

import pytest
from saltrbd import owner, users

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.1
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
IF_INET6 = "20010db8000000000000000000000001 02 40 00 80     eth0\n"
HOSTS = """# a comment
127.0.0.1 localhost
::1 localhost ip6-localhost
192.0.2.2  db2.example.org db2  # the second
192.0.2.2  again
2001:db8::3 db3
192.0.2.4
"""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7:0/123", "192.0.2.7"),
        ("[2001:db8::7]:0/123", "2001:db8::7"),
        ("192.0.2.7:6789", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("-/5", "-"),
    ],
)
def test_ip_of(address, expected):
    assert users.ip_of(address) == expected


def test_hosts_file():
    assert users.hosts_of(HOSTS) == {"192.0.2.2": "db2.example.org", "2001:db8::3": "db3"}


def test_own_addresses(tmp_path):
    (tmp_path / "fib_trie").write_text(TRIE)
    (tmp_path / "if_inet6").write_text(IF_INET6)
    assert users.own_addresses(str(tmp_path)) == {"192.0.2.1", "2001:db8::1"}
    assert users.own_addresses(str(tmp_path / "none")) == set()


def test_this_kernel_tells_its_addresses():
    assert "127.0.0.1" in users.own_addresses()


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.9:0/9", "the holder"),
        ("192.0.2.1:0/3", "me"),
        ("127.0.0.1:0/3", "me"),
        ("[::1]:0/3", "me"),
        ("192.0.2.2:0/4", "db2.example.org"),
        ("[2001:db8::3]:0/4", "db3"),
        ("192.0.2.5:0/4", None),
    ],
)
def test_named(address, host, monkeypatch):
    monkeypatch.setattr(users, "own_addresses", lambda: {"192.0.2.1"})
    monkeypatch.setattr(users, "_read", lambda path: HOSTS)
    held = owner.Holder("rbd_header.1", "client.9", "c", "192.0.2.9:0/1", {"host": "the holder", "address": "192.0.2.9:0/9"})
    found = users.named({"watchers": [{"address": address, "client": 9}], "locks": []}, "me", held)
    assert found["watchers"][0]["host"] == host
    at = f", host {host}" if host else ""
    assert users.words(found["watchers"][0]) == f"{address} (client.9{at})"
