"""The pillar's ``platform:contact_groups``: who is told. Checked as a whole; each mistake has its path in the pillar."""

import re
from email.errors import MessageError
from email.headerregistry import Address

from saltrbd.errors import quoted, unknown_keys

PATH = "platform:contact_groups"
_MEMBER_KEYS = ("name", "address", "admin")
# Host names as in RFC 1123; SMTP (RFC 5321, 4.5.3.1) has at most 64 bytes before the @ and 254 in all.
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE | re.ASCII)
_LONGEST, _LONGEST_LOCAL = 254, 64


def read(section):
    """Return (``{group: [{"name", "address", "admin"}, ...]}``, mistakes) of the pillar's contact groups.

    A mistake is a sentence that begins with its path, such as ``platform:contact_groups:storage:members:0:address``. A group with a
    mistake is not among the groups.
    """
    if section is None:
        return {}, []
    if not isinstance(section, dict):
        return {}, ["{}: it must be a mapping of groups, not {}.".format(PATH, quoted(section))]
    groups, mistakes = {}, []
    for name, declared in section.items():
        path = "{}:{}".format(PATH, name if _is_line(name) else quoted(name))
        members, wrong = _group(path, name, declared)
        mistakes += wrong
        if not wrong:
            groups[name] = members
    return groups, mistakes


def _group(path, name, declared):
    if not _is_line(name):
        return [], ["{}: a group's name must be one line of text of at most 100 characters.".format(path)]
    if not isinstance(declared, dict):
        return [], ["{}: it must be a mapping with members, not {}.".format(path, quoted(declared))]
    unknown = unknown_keys(declared, ("members",))
    wrong = ["{}: {}.".format(path, unknown)] if unknown else []
    members = declared.get("members")
    if not isinstance(members, list) or not members:
        return [], wrong + ["{}:members: it must be a list with at least one member, not {}.".format(path, quoted(members))]
    found = []
    for number, member in enumerate(members):
        where = "{}:members:{}".format(path, number)
        mistakes = _member(where, member) or _twice(where, member, found)
        wrong += mistakes
        found.append(None if mistakes else {key: member.get(key, False) for key in _MEMBER_KEYS})
    if not wrong and not any(member["admin"] for member in found):
        wrong.append("{}: the group has no admin; set admin: true for at least one of its members.".format(path))
    return found, wrong


def _member(where, member):
    if not isinstance(member, dict):
        return ["{}: it must be a mapping with name and address, not {}.".format(where, quoted(member))]
    unknown = unknown_keys(member, _MEMBER_KEYS)
    wrong = ["{}: {}.".format(where, unknown)] if unknown else []
    if not _is_line(member.get("name")):
        text = "{}:name: it must be one line of text of at most 100 characters, not {}."
        wrong.append(text.format(where, quoted(member.get("name"))))
    reason = bad_address(member.get("address"))
    if reason:
        wrong.append("{}:address: {}".format(where, reason))
    if not isinstance(member.get("admin", False), bool):
        wrong.append("{}:admin: it must be true or false, not {}.".format(where, quoted(member["admin"])))
    return wrong


def _twice(where, member, before):
    for number, other in enumerate(before):
        if other is None:
            continue
        if other["address"].lower() == member["address"].lower():
            return ["{}:address: {} is member {} already; take one of both away.".format(where, member["address"], number)]
        if other["name"] == member["name"]:
            text = "{}:name: {} is member {} already; take one of both away, or give each address a name of its own."
            return [text.format(where, member["name"], number)]
    return []


def bad_address(address):
    """Return why a text is no address that mail can be sent to, or None. Example: ``bad_address("a@example.net") is None``."""
    if not isinstance(address, str) or not address:
        return "it must be an address such as admin@example.net, not {}.".format(quoted(address))
    if not address.isascii():
        return "{} has characters beyond ASCII; write the domain in its form with xn--.".format(quoted(address))
    local, at, domain = address.rpartition("@")
    try:
        # The standard library's parser knows what may stand before the @; it takes comments and blanks too, which no server does.
        same = Address(addr_spec=address).addr_spec == address
    except (MessageError, ValueError, IndexError):
        same = False
    if not at or not same or not address.isprintable() or '"' in local or " " in address:
        return "{} is no address such as admin@example.net.".format(quoted(address))
    if len(local) > _LONGEST_LOCAL or len(address) > _LONGEST:
        return "{} is too long: at most {} characters before the @ and {} in all.".format(quoted(address), _LONGEST_LOCAL, _LONGEST)
    if not _DOMAIN.fullmatch(domain):
        return "{} is no name of a mail domain.".format(quoted(domain))
    return None


def _is_line(value):
    return isinstance(value, str) and bool(value.strip()) and value.isprintable() and len(value) <= 100
