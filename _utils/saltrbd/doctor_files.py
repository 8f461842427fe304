"""The Ceph configuration file and the keyring of this host: found, readable, understood, private. Their content is never shown."""

import base64
import binascii
import os
import re
import stat

from saltrbd.doctor_finding import FAULT, OK, WARNING, Finding
from saltrbd.settings import conf_file

# Bytes of a file that are looked at; a configuration or a keyring has a few thousand.
READ = 1 << 20
_SECTION = re.compile(r"\[\s*([^\]]+?)\s*\]\s*(?:[#;].*)?$")
_OPTION = re.compile(r"([A-Za-z][A-Za-z0-9_./ -]*?)\s*=\s*(.*)$")


class Unreadable(Exception):
    """A file cannot be read, or is none; the text says why."""


def read(path):
    """Return (text, stat) of a file; raises :class:`Unreadable`. A pipe or a device, which would wait for ever, is not opened."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise Unreadable("it is no file")
        with open(path, "rb") as file:
            data = file.read(READ)
    except OSError as error:
        raise Unreadable(error.strerror or str(error))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("it is no text")
    if "\0" in text:
        raise Unreadable("it is no text")
    return text, facts


def parse(text):
    """Return ({section: {option: value}}, number of the first line that makes no sense or None); options have underscores."""
    sections, section, wrong, before = {}, "global", None, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = before + raw.strip()
        before = ""
        if line.endswith("\\"):
            before = line[:-1]
            continue
        if not line or line[0] in "#;":
            continue
        heading, option = _SECTION.match(line), _OPTION.match(line)
        if heading:
            section = heading.group(1)
        elif option:
            key = re.sub(r"[ _-]+", "_", option.group(1).strip())
            value = re.split(r"\s[#;]", option.group(2), maxsplit=1)[0]
            sections.setdefault(section, {})[key] = value.strip().strip("\"'")
        else:
            wrong = wrong or number
    return sections, wrong


def option(sections, user, name):
    """Return an option's value as librados reads it for a user: its own section, then client, then global; or empty."""
    for section in ("client." + user, "client", "global"):
        if sections.get(section, {}).get(name):
            return sections[section][name]
    return ""


def configured(settings):
    """Return what the configuration file says, {} where there is none that can be read."""
    path = conf_file(settings)
    if not path:
        return {}
    try:
        return parse(read(path)[0])[0]
    except Unreadable:
        return {}


def configuration(settings):
    """Look at the configuration file; return a :class:`Finding`."""
    path = conf_file(settings)
    if not path:
        return Finding("configuration", OK, "None is needed: ceph:monitors names the monitors.")
    try:
        text, _ = read(path)
    except Unreadable as why:
        return Finding(
            "configuration", FAULT, "{} cannot be read ({}); name another file as ceph:conf, or give ceph:monitors.".format(path, why)
        )
    return judge_configuration(path, text, settings)


def judge_configuration(path, text, settings):
    """Return the :class:`Finding` of a configuration file's text."""
    sections, wrong = parse(text)
    if wrong:
        return Finding(
            "configuration", FAULT, "Line {} of {} is neither a section, an option nor a comment; correct it.".format(wrong, path)
        )
    if not settings.monitors and not option(sections, settings.user, "mon_host"):
        words = "{} names no monitor (mon_host), and the pillar has no ceph:monitors; without both Ceph asks the name servers.".format(path)
        return Finding("configuration", WARNING, words)
    return Finding("configuration", OK, "{} can be read.".format(path))


def keyrings(settings, sections):
    """Return the files in which librados looks for the user's key; the first that can be read is taken."""
    named = settings.keyring or option(sections, settings.user, "keyring")
    entity = "client." + settings.user
    if named:
        for word, value in (("$cluster", "ceph"), ("$name", entity), ("$type", "client"), ("$id", settings.user)):
            named = named.replace(word, value)
        return [path for path in re.split(r"[,;\s]+", named) if path]
    return ["/etc/ceph/ceph.{}.keyring".format(entity), "/etc/ceph/ceph.keyring", "/etc/ceph/keyring", "/etc/ceph/keyring.bin"]


def keyring(settings):
    """Look at the user's keyring; return a :class:`Finding`."""
    sections = configured(settings)
    if option(sections, settings.user, "key") or option(sections, settings.user, "keyfile"):
        text = "The key stands in {} or in a keyfile that it names; a keyring file of its own, mode 0600, is safer."
        return Finding("keyring", WARNING, text.format(conf_file(settings)))
    faults = []
    for path in keyrings(settings, sections):
        try:
            text, facts = read(path)
        except Unreadable as why:
            faults.append("{}: {}".format(path, why))
            continue
        return judge_keyring(path, text, facts.st_mode, facts.st_uid, settings.user)
    words = "No keyring of client.{} can be read ({}). Get it by 'ceph auth get client.{}' on a host of the cluster, mode 0600."
    return Finding("keyring", FAULT, words.format(settings.user, "; ".join(faults), settings.user))


def judge_keyring(path, text, mode, owner, user):
    """Return the :class:`Finding` of a keyring's text, mode and owner's number."""
    entity = "client." + user
    sections, wrong = parse(text)
    if entity not in sections:
        broken = "Line {} of it makes no sense.".format(wrong) if wrong else "'ceph auth get {}' prints what belongs there.".format(entity)
        return Finding("keyring", FAULT, "{} has no key of {}. {}".format(path, entity, broken))
    if not is_key(sections[entity].get("key", "")):
        text = "What {} has as the key of {} is no key of Ceph's; write it anew from 'ceph auth get {}'."
        return Finding("keyring", FAULT, text.format(path, entity, entity))
    if wrong:
        return Finding("keyring", FAULT, "Line {} of {} makes no sense; Ceph refuses the whole file.".format(wrong, path))
    if mode & 0o077:
        text = "{} has mode {:04o}, so others than its owner can read or change the key; run 'chmod 600 {}'."
        return Finding("keyring", WARNING, text.format(path, stat.S_IMODE(mode), path))
    if owner not in (0, os.geteuid()):
        return Finding(
            "keyring", WARNING, "{} belongs to the user number {}, who can read the key; it should be root's.".format(path, owner)
        )
    return Finding("keyring", OK, "{} has a key of {}, and is private.".format(path, entity))


def is_key(text):
    """Return whether a text can be a key of Ceph's."""
    try:
        return len(base64.b64decode(text, validate=True)) >= 12
    except (binascii.Error, ValueError):
        return False
