"""The pillar's ``platform:alerts``: what the beacon of a node looks for, and by which mail server the master tells whom."""

from saltrbd import duration, spec
from saltrbd.errors import RbdError, quoted, unknown_keys

from saltplatform.contacts import bad_address
from saltplatform.contacts import read as read_groups

PATH = "platform:alerts"
# Seconds between two looks of a node, and from one report to the next where nothing has changed: an event that was lost (the master
# was down) is made up for after that time.
DEFAULTS = {
    "interval": 60,
    "report_every": 300,
    # A state that passes sooner is no event, and one that comes back sooner is the same one.
    "hold": 60,
    "calm": 300,
    # Per cent. Ceph itself warns at 85 (mon_osd_nearfull_ratio) for an OSD.
    "pool_full": 80,
    "volume_full": 90,
    # Seconds that a filesystem may stand still; freezes of this package end by themselves after rbd:freeze_timeout (15).
    "frozen": 60,
    "snapshots": {},
    # Mails to one group in an hour; what is more comes together in one mail after that.
    "mails_per_hour": 12,
}
_SPANS = {"interval": (10, 3600), "report_every": (10, 86400), "hold": (0, 86400), "calm": (0, 86400), "frozen": (1, 86400)}
_COUNTS = {"pool_full": (1, 100), "volume_full": (1, 100), "mails_per_hour": (1, 1000)}
_KEYS = (*DEFAULTS, "mail", "groups", "ca_file")
# What of a row of the type mail is used; the rest of the row is the platform's.
_MAIL_KEYS = ("id", "name", "host", "port", "security", "user", "password", "sender")
_SECURITIES = ("none", "starttls", "tls")
_HERE = ("127.0.0.1", "::1", "localhost")


def watched(pillar, ceph):
    """Return (settings of a node's beacon, mistakes); ``ceph``: :class:`saltrbd.settings.Settings`, for names without a pool."""
    section, mistakes = _section(pillar)
    found = {key: section[key] for key in ("interval", "report_every", "pool_full", "volume_full", "frozen")}
    found["snapshots"], wrong = _snapshots(section["snapshots"], ceph)
    return found, mistakes + wrong


def told(pillar):
    """Return (what the master tells by, mistakes): ``rules``, ``groups``, ``mail`` without its password, and ``password``, the path of
    the password in the pillar, or None."""
    section, mistakes = _section(pillar)
    platform = pillar.get("platform") if isinstance(pillar.get("platform"), dict) else {}
    groups, wrong = read_groups(platform.get("contact_groups"))
    mistakes += wrong
    wanted = section.get("groups")
    if wanted is not None:
        groups, wrong = _chosen(groups, wanted, wrong)
        mistakes += wrong
    if not groups and not mistakes:
        mistakes.append("platform:contact_groups: there is no group, so nobody could be told; declare one with an admin.")
    mail, password, wrong = _mail(platform, section)
    mistakes += wrong
    rules = {key: section[key] for key in ("hold", "calm", "mails_per_hour", "report_every")}
    return {"rules": rules, "groups": groups, "mail": mail, "password": password}, mistakes


def _section(pillar):
    """Return (the section with its defaults, mistakes); where a value makes no sense the default stands in."""
    platform = pillar.get("platform")
    declared = platform.get("alerts") if isinstance(platform, dict) else platform
    if declared is None:
        return dict(DEFAULTS), []
    if not isinstance(declared, dict):
        return dict(DEFAULTS), ["{}: it must be a mapping, not {}.".format(PATH, quoted(declared))]
    unknown = unknown_keys(declared, _KEYS)
    mistakes = ["{}: {}.".format(PATH, unknown)] if unknown else []
    section = dict(DEFAULTS, **{key: value for key, value in declared.items() if key in _KEYS and value is not None})
    for key, (least, most) in _SPANS.items():
        try:
            section[key] = duration.parse(section[key], "span")
            wrong = not least <= section[key] <= most
        except RbdError:
            wrong = True
        if wrong:
            text = "{}:{}: it must be a span of time from {} s to {} s such as {}, not {}."
            mistakes.append(text.format(PATH, key, least, most, duration.show(DEFAULTS[key]), quoted(declared[key])))
            section[key] = DEFAULTS[key]
    for key, (least, most) in _COUNTS.items():
        value = section[key]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            mistakes.append("{}:{}: it must be a number from {} to {}, not {}.".format(PATH, key, least, most, quoted(value)))
            section[key] = DEFAULTS[key]
    ca_file = section.get("ca_file")
    if ca_file is not None and not (isinstance(ca_file, str) and ca_file.startswith("/") and ca_file.isprintable()):
        mistakes.append("{}:ca_file: it must be the absolute path of a file of certificates, not {}.".format(PATH, quoted(ca_file)))
    return section, mistakes


def _snapshots(declared, ceph):
    """Return ({spec of an image: seconds}, mistakes)."""
    path = PATH + ":snapshots"
    if not isinstance(declared, dict):
        return {}, ["{}: it must be a mapping of images, each with the age that its newest snapshot may have.".format(path)]
    found, mistakes = {}, []
    for name, age in declared.items():
        try:
            image = str(spec.parse_image(name, ceph.pool, ceph.namespace))
            seconds = duration.parse(age, "age")
            if seconds < 60:
                raise RbdError("The age {} is less than a minute.".format(quoted(age)))
        except RbdError as error:
            mistakes.append("{}:{}: {}".format(path, name if isinstance(name, str) else quoted(name), error))
            continue
        found[image] = seconds
    return found, mistakes


def _chosen(groups, wanted, wrong):
    path = PATH + ":groups"
    if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        return groups, ["{}: it must be a list of contact groups, not {}.".format(path, quoted(wanted))]
    missing = [name for name in wanted if name not in groups]
    if missing and not wrong:  # else it may be there, with a mistake
        there = ", ".join(sorted(groups)) or "none"
        return groups, ["{}: there is no contact group {} (there are {}).".format(path, ", ".join(map(quoted, missing)), there)]
    return {name: groups[name] for name in wanted if name in groups}, []


def _mail(platform, section):
    """Return (the mail server's settings without the password, the password's path in the pillar or None, mistakes)."""
    settings = platform.get("settings")
    rows = settings.get("mail") if isinstance(settings, dict) else None
    path = "platform:settings:mail"
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return {}, None, ["{}: it must be a list of mail servers with at least one, by which alerts are sent.".format(path)]
    wanted = section.get("mail")
    fits = [number for number, row in enumerate(rows) if wanted is None or wanted in (row.get("id"), row.get("name"))]
    if len(fits) != 1:
        if wanted is None:
            return {}, None, ["{}:mail: there are {} mail servers; name one by its id or name.".format(PATH, len(rows))]
        text = "{}:mail: {} of the rows of {} have {} as id or name; exactly one must."
        return {}, None, [text.format(PATH, len(fits) or "none", path, quoted(wanted))]
    number = fits[0]
    where, row = "{}:{}".format(path, number), rows[number]
    mistakes = _wrong_mail(where, row)
    if mistakes:
        return {}, None, mistakes
    found = {key: row.get(key) for key in _MAIL_KEYS if key not in ("password", "id", "name") and row.get(key) is not None}
    if section.get("ca_file"):
        found["ca_file"] = section["ca_file"]
    return found, where + ":password" if row.get("user") else None, []


def _wrong_mail(where, row):
    wrong = []
    host, port, security = row.get("host"), row.get("port"), row.get("security")
    if not _is_word(host):
        wrong.append("{}:host: it must be the name or address of a mail server, not {}.".format(where, quoted(host)))
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        wrong.append("{}:port: it must be a number from 1 to 65535 (587 for starttls, 465 for tls), not {}.".format(where, quoted(port)))
    if security not in _SECURITIES:
        wrong.append("{}:security: it must be one of {}, not {}.".format(where, ", ".join(_SECURITIES), quoted(security)))
    reason = bad_address(row.get("sender"))
    if reason:
        wrong.append("{}:sender: {}".format(where, reason))
    user, password = row.get("user"), row.get("password")
    if user is not None and not _is_word(user):
        wrong.append("{}:user: it must be one word, not {}.".format(where, quoted(user)))
    # Never the value: it is a secret.
    if (user is None) != (password is None):
        wrong.append("{}: user and password go together; declare both or none.".format(where))
    elif password is not None and not (isinstance(password, str) and password and password.isascii() and password.isprintable()):
        wrong.append("{}:password: it must be one line of ASCII text, and not empty; SMTP's logins know no other.".format(where))
    if user is not None and security == "none" and host not in _HERE:
        wrong.append(
            "{}:security: with none the password of {} would be sent in the clear; use starttls or tls.".format(where, quoted(user))
        )
    return wrong


def _is_word(value):
    return isinstance(value, str) and bool(value) and value.isprintable() and not any(char.isspace() for char in value)
