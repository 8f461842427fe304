"""Why does it not work? Every part between the pillar and a mounted volume is looked at by itself, and says what to do.

Made for the moment when nothing works: each check runs in a thread of its own with a time limit, an error in a check is a finding,
and what hangs is left behind. Nothing is changed, on this host or in the cluster.
"""

import re
import threading
import time
from collections import namedtuple

from saltrbd import doctor_cluster, doctor_files, doctor_host, doctor_monitors, settings, volumes
from saltrbd.doctor_finding import FAULT, OK, UNKNOWN, WARNING, Finding
from saltrbd.errors import RbdError

# Seconds for the whole examination, and for one check.
LIMIT, CHECK_LIMIT = 30.0, 12.0
_ORDER = (FAULT, UNKNOWN, WARNING, OK)
# A Ceph key in base64: twelve bytes of header and sixteen of key.
_KEY = re.compile(r"[A-Za-z0-9+/]{38}==")

# What the checks know: the settings, and the volumes that the pillar declares as ``volumes.read`` returns them.
Case = namedtuple("Case", "settings entries")


def examine(opts, pillar, limit=LIMIT):
    """Return every :class:`Finding` within ``limit`` seconds, in the order of the way from the pillar to a mounted volume.

    ``opts`` and ``pillar`` are Salt's, or what stands for them. Raises nothing: a check that fails or hangs is "unknown".
    """
    until = time.monotonic() + limit
    case, findings = read_pillar(opts, pillar)
    checks = [
        ("python", lambda: [doctor_host.bindings(case.settings)]),
        ("configuration", lambda: [doctor_files.configuration(case.settings)]),
        ("keyring", lambda: [doctor_files.keyring(case.settings)]),
        ("monitors", lambda: doctor_monitors.look(case.settings)),
        ("cluster", lambda: doctor_cluster.look(case.settings, case.entries)),
        ("kernel", lambda: doctor_host.kernel_modules(case.settings, case.entries)),
        ("tools", lambda: doctor_host.tools(case.settings, case.entries)),
        ("host", doctor_host.host),
        ("mappings", lambda: doctor_host.mappings(case.settings)),
    ]
    # The cluster's check is a chain of several limits.
    slow = {"cluster": max(CHECK_LIMIT, limit - 2)}
    running = [(name, _Check(name, check), slow.get(name, CHECK_LIMIT)) for name, check in checks]
    began = time.monotonic()
    for name, check, longest in running:
        findings += check.result(min(until, began + longest), name)
    return [_clean(finding) for finding in findings]


def read_pillar(opts, pillar):
    """Return (:class:`Case`, findings) of pillar and configuration; where they make no sense the defaults stand in."""
    if pillar.get("_errors"):
        text = "Salt could not render the pillar; 'salt-call pillar.items' tells why. What there is of it is examined."
        case, findings = read_pillar(opts, {key: value for key, value in pillar.items() if key != "_errors"})
        return case, [Finding("pillar", FAULT, text)] + [finding for finding in findings if finding.status != OK]
    named = bool(settings.plain(pillar.get("ceph") or {}) or settings.plain(opts.get("ceph") or {}))
    try:
        chosen = settings.load(opts, pillar)
        unknown = settings.unknown_keys(pillar)
    except (RbdError, TypeError, AttributeError) as error:
        text = "{} The defaults are examined instead.".format(error)
        return Case(settings.load({}, {}), []), [Finding("pillar", FAULT, text)]
    if unknown:
        text = "{}. Correct or remove it; until then every state of salt/rbd refuses.".format(unknown.rstrip("."))
        return Case(chosen, []), [Finding("pillar", FAULT, text)]
    try:
        entries = volumes.read(settings.plain(pillar.get("rbd") or {}), chosen)
    except RbdError as error:
        return Case(chosen, []), [Finding("pillar", FAULT, str(error))]
    if not named:
        text = "Neither the pillar nor the minion's configuration has a section ceph:, so the defaults are examined ({}, client.{})."
        text = text.format(settings.conf_file(chosen), chosen.user)
        return Case(chosen, entries), [Finding("pillar", WARNING, text)]
    text = "It makes sense, and declares {} volume{}.".format(len(entries), "" if len(entries) == 1 else "s")
    return Case(chosen, entries), [Finding("pillar", OK, text)]


class _Check:
    """One check in a thread that nobody has to wait for."""

    def __init__(self, name, check):
        self._findings = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(name, check), name="doctor " + name, daemon=True)
        self._thread.start()

    def _run(self, name, check):
        try:
            self._findings = list(check())
        except RbdError as error:
            self._findings = [Finding(name, UNKNOWN, str(error))]
        except Exception as error:  # noqa: BLE001 a doctor that falls over helps nobody
            text = "This could not be looked at ({}: {}).".format(type(error).__name__, error)
            self._findings = [Finding(name, UNKNOWN, text)]

    def result(self, until, name):
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._findings is not None:
            return self._findings
        text = "This had no answer within {:.0f} s. Look for a file system, a name server or a tool of this host that hangs.".format(
            time.monotonic() - self._began
        )
        return [Finding(name, UNKNOWN, text)]


def _clean(finding):
    """A finding without line breaks, and without a key, whoever has put one there."""
    return finding._replace(text=_KEY.sub("(a key)", " ".join(finding.text.split())))


def summary(findings):
    """Return one sentence: how many findings of each kind, and the first thing to look at."""
    counts = {status: sum(finding.status == status for finding in findings) for status in _ORDER}
    words = {FAULT: "fault", WARNING: "warning", UNKNOWN: "unknown", OK: "ok"}
    told = ", ".join("{} {}".format(counts[status], words[status]) for status in _ORDER if counts[status])
    first = next((finding for finding in findings if finding.status == FAULT), None)
    return "{}.{}".format(told, " Begin with: {}.".format(first.name) if first else "")
