"""Mails that are to be sent, and what becomes of them: pure decisions. Times are seconds since 1970.

A mail that the server does not take is tried again after ever longer times, for a day (RFC 5321, 4.5.4.1, has some days; an alert that
is older helps nobody). Mails to one group go in their order. A mail may arrive twice if the master dies between sending it and noting
that; its Message-ID is the same then.
"""

# Seconds from one try to the next; the last one is repeated.
DELAYS = (60, 120, 300, 600, 1800, 3600)
GIVE_UP = 86400
# Mails that wait at most; what is more would be noise to whoever reads it after a day without a mail server.
MOST = 200


def add(outbox, entry):
    """Put a mail into the outbox; return a sentence for the log where another one had to go for it, else None."""
    outbox.append(dict(entry, tries=0, next=entry["created"], error=""))
    if len(outbox) <= MOST:
        return None
    lost = outbox.pop(0)
    return "{} mails wait already, so the oldest one, '{}' to the group {}, is thrown away.".format(MOST, lost["subject"], lost["group"])


def due(outbox, now):
    """Return the mails whose time has come: for each group none that would overtake another one."""
    found, waiting = [], set()
    for entry in outbox:
        if entry["group"] in waiting:
            continue
        if entry["next"] > now:
            waiting.add(entry["group"])
        else:
            found.append(entry)
    return found


def settle(outbox, number, outcome, now):
    """Note what became of the mail with this number; return sentences for the log, as [(level, sentence)].

    ``outcome``: ``error``, a sentence why nobody got it, or None; ``final``: trying again is of no use; ``refused``: {address: (sentence,
    final)} of those for whom the server did not take it, while others got it.
    """
    entry = next((entry for entry in outbox if entry["number"] == number), None)
    if entry is None:
        return []
    told = []
    left = []
    for address, (sentence, final) in sorted(outcome["refused"].items()):
        told.append(("error", "The mail '{}' was not taken for {}: {}".format(entry["subject"], address, sentence)))
        left += [] if final else [address]
    if outcome["error"] is None and not left:
        outbox.remove(entry)
        if len(outcome["refused"]) < len(entry["to"]):
            told.append(("info", "The mail '{}' was sent to the group {}.".format(entry["subject"], entry["group"])))
        return told
    if outcome["error"] is None:
        entry["to"] = left
    entry["tries"] += 1
    entry["error"] = outcome["error"] or "the server did not take it for {}".format(", ".join(left))
    what = "The mail '{}' to the group {} could not be sent: {}".format(entry["subject"], entry["group"], entry["error"].rstrip("."))
    if outcome["final"] or now - entry["created"] >= GIVE_UP:
        outbox.remove(entry)
        told.append(("error", "{}. It is given up after {} tries.".format(what, entry["tries"])))
        return told
    delay = DELAYS[min(entry["tries"], len(DELAYS)) - 1]
    entry["next"] = now + delay
    told.append(("error" if entry["tries"] == 1 else "warning", "{}. It is tried again in {} s.".format(what, delay)))
    return told
