"""``encryption:`` of the pillar's volumes and clones. What is wrong there is told without its value: it may be a passphrase."""

from saltrbd import errors, luks

KEYS = ("format", "passphrase", "pillar")


def read(reader, where, path, declared):
    """Return the argument ``encryption`` of the states for one declaration, None for none; ``path``: its keys in the pillar.

    Only the place of the passphrase is in it.
    """
    value = declared.get("encryption")
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) - set(KEYS):
        reader.wrong(where, "encryption must be a mapping of format and passphrase (or pillar: the place of the passphrase)")
        return None
    if ("passphrase" in value) == ("pillar" in value):
        reader.wrong(where, "encryption needs one of passphrase and pillar (the place of the passphrase in the pillar)")
        return None
    place = value.get("pillar", [*path, "encryption", "passphrase"])
    try:
        if "passphrase" in value:
            luks.check_passphrase(value["passphrase"])
        return luks.reference(luks.desired(dict({"pillar": place}, **({"format": value["format"]} if "format" in value else {}))))
    except errors.InvalidArgument as error:
        reader.wrong(where, "encryption: {}".format(error) if "passphrase" in value else str(error))
        return None


def settle(reader, entries):
    """Give each clone its parent's encryption, unless it has its own; nothing encrypted is mapped or mounted at boot."""
    by_spec = {entry["spec"]: entry for entry in entries}
    found = {entry["spec"]: _of(entry, by_spec) for entry in entries}
    for entry in entries:
        entry["encryption"] = found[entry["spec"]]
        if entry["encryption"] is None:
            continue
        if entry["persist"] is True:
            reader.wrong(
                entry["where"], "persist cannot be True with encryption: the passphrase is not kept on the node, so that only Salt opens it"
            )
        entry["persist"] = False if entry["mount"] else None


def _of(entry, by_spec):
    met = set()
    while entry and entry["encryption"] is None and entry["parent"] and entry["spec"] not in met:
        met.add(entry["spec"])
        entry = by_spec.get(entry["parent"].head)
    return entry and entry["encryption"]
