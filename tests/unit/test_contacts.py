"""Contact groups: what is refused, with its path."""

import pytest
from saltplatform import contacts

ADMIN = {"name": "A. Admin", "address": "admin@example.net", "admin": True}
OTHER = {"name": "B. Other", "address": "other@example.net"}


def group(*members, **more):
    return {"storage": {"members": list(members), **more}}


def test_groups():
    found, mistakes = contacts.read({**group(ADMIN, OTHER), "second": {"members": [dict(OTHER, admin=True)]}})
    assert mistakes == []
    assert found == {"storage": [ADMIN, dict(OTHER, admin=False)], "second": [dict(OTHER, admin=True)]}


def test_none():
    assert contacts.read(None) == ({}, [])


AT = "platform:contact_groups:storage"


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ([ADMIN], "platform:contact_groups: it must be a mapping of groups, not [{"),
        ({"storage": [ADMIN]}, f"{AT}: it must be a mapping with members, not [{{"),
        ({"storage": None}, f"{AT}: it must be a mapping with members, not None."),
        ({"storage": {}}, f"{AT}:members: it must be a list with at least one member, not None."),
        (group(), f"{AT}:members: it must be a list with at least one member, not []."),
        ({"storage": {"members": {"a": ADMIN}}}, f"{AT}:members: it must be a list with at least one member, not {{"),
        (group(ADMIN, owner="x"), f"{AT}: unknown key 'owner' (there are members)."),
        ({"": {"members": [ADMIN]}}, "platform:contact_groups:'': a group's name must be one line"),
        ({7: {"members": [ADMIN]}}, "platform:contact_groups:7: a group's name must be one line"),
        ({"a\nb": {"members": [ADMIN]}}, "platform:contact_groups:'a\\nb': a group's name must be one line"),
        (group(OTHER), f"{AT}: the group has no admin; set admin: true for at least one of its members."),
        (group(dict(ADMIN, admin=False)), f"{AT}: the group has no admin"),
        (group(dict(ADMIN, admin="yes")), f"{AT}:members:0:admin: it must be true or false, not 'yes'."),
        (group("admin@example.net"), f"{AT}:members:0: it must be a mapping with name and address, not 'admin@example.net'."),
        (group(ADMIN, {"address": "b@example.net"}), f"{AT}:members:1:name: it must be one line of text"),
        (group(ADMIN, {"name": "B"}), f"{AT}:members:1:address: it must be an address such as admin@example.net, not None."),
        (group(ADMIN, dict(OTHER, phone="1")), f"{AT}:members:1: unknown key 'phone' (there are address, admin, name)."),
        (group(ADMIN, ADMIN), f"{AT}:members:1:address: admin@example.net is member 0 already; take one of both away."),
        (
            group(ADMIN, {"name": "B", "address": "Admin@Example.NET"}),
            f"{AT}:members:1:address: Admin@Example.NET is member 0 already; take one of both away.",
        ),
        (group(ADMIN, dict(OTHER, name="A. Admin")), f"{AT}:members:1:name: A. Admin is member 0 already; take one of both away, or"),
    ],
)
def test_refused(section, told):
    found, mistakes = contacts.read(section)
    assert found == {}
    assert len(mistakes) == 1, mistakes
    assert mistakes[0].startswith(told), mistakes


def test_every_mistake_is_told_and_the_other_groups_stay():
    wrong = {"one": {"members": [dict(OTHER, address="nobody"), dict(OTHER, name="")]}, "two": {"members": [ADMIN]}}
    found, mistakes = contacts.read(wrong)
    assert found == {"two": [ADMIN]}
    assert [mistake.split(": ")[0] for mistake in mistakes] == [
        "platform:contact_groups:one:members:0:address",
        "platform:contact_groups:one:members:1:name",
    ]


@pytest.mark.parametrize(
    "address",
    ["a@example.net", "a.b+c@x", "o'neil@example.net", "root@localhost", "a@xn--bcher-kva.example", "A@EXAMPLE.NET", "1@2.example"],
)
def test_an_address(address):
    assert contacts.bad_address(address) is None


@pytest.mark.parametrize(
    ("address", "word"),
    [
        (None, "must be an address"),
        ("", "must be an address"),
        (5, "must be an address"),
        ("a", "is no address"),
        ("@example.net", "is no address"),
        ("a@", "is no address"),
        ("a..b@example.net", "is no address"),
        (".a@example.net", "is no address"),
        ("a b@example.net", "is no address"),
        ("A <a@example.net>", "is no address"),
        ("<a@example.net>", "is no address"),
        ("a@example.net,b@example.net", "is no address"),
        ("a@example.net\n", "is no address"),
        ("a@example.net\r\nBcc: b@example.net", "is no address"),
        ("a@b@example.net", "is no address"),
        ("a(b)@example.net", "is no address"),
        ('"a b"@example.net', "is no address"),
        ("a@-example.net", "no name of a mail domain"),
        ("a@exa_mple.net", "no name of a mail domain"),
        ("a@[192.0.2.1]", "no name of a mail domain"),
        ("ä@example.net", "beyond ASCII"),
        ("a@bücher.example", "xn--"),
        ("a" * 65 + "@example.net", "too long"),
        ("a@" + "b" * 60 + ("." + "c" * 60) * 4, "too long"),
    ],
)
def test_no_address(address, word):
    assert word in contacts.bad_address(address)
