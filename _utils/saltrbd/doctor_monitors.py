"""Each monitor by itself: does its address take a connection, and does a Ceph monitor speak there?

Both versions of Ceph's protocol begin with a banner that the monitor sends by itself, so no key is needed: "ceph v2" and "ceph v027".
"""

import re
import socket
import threading
import time
from collections import namedtuple

from saltrbd import doctor_files
from saltrbd.doctor_finding import FAULT, OK, WARNING, Finding

# Seconds for the connection and for the banner.
PATIENCE = 4.0
_PORTS = {"v2": 3300, "v1": 6789}
_BANNERS = (("v2", b"ceph v2\n"), ("v1", b"ceph v0"))
_ADDRESS = re.compile(r"(?:(v1|v2|any):)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(\d+))?(?:/\d+)?")

# ``protocol`` v1, v2 or None; ``port`` None: both of Ceph's own. ``text`` is for people.
Address = namedtuple("Address", "text protocol host port")
# ``said``: the first bytes; ``problem``: a word, see ``judge``.
Answer = namedtuple("Answer", "problem said detail")


def addresses(text):
    """Return ([:class:`Address`], what of the text makes no sense) of Ceph's option ``mon_host``."""
    found, rest, end = [], "", 0
    for match in _ADDRESS.finditer(text):
        rest += text[end : match.start()]
        end = match.end()
        protocol, host, port = match.groups()
        protocol = protocol if protocol in _PORTS else None
        number = int(port) if port else None
        if number is not None and not 0 < number < 65536:
            rest += port
            continue
        if number is None and protocol:
            number = _PORTS[protocol]
        shown = "{}:{}".format(host, number) if number else host
        found.append(Address("{}:{}".format(protocol, shown) if protocol else shown, protocol, host.strip("[]"), number))
    rest += text[end:]
    return found, rest.strip("[],; \t")


def look(settings):
    """Ask every monitor that is named, all at once; return a list of :class:`Finding`."""
    text = ",".join(settings.monitors) or doctor_files.option(doctor_files.configured(settings), settings.user, "mon_host")
    found, rest = addresses(text)
    if rest:
        return [
            Finding(
                "monitors", FAULT, "The monitors' addresses '{}' make no sense; write 192.0.2.1:6789 or v2:192.0.2.1:3300.".format(text)
            )
        ]
    if not found:
        return [Finding("monitors", FAULT, "No monitor is named; give ceph:monitors, or mon_host in the configuration file.")]
    answers = [None] * len(found)

    def ask_one(index):
        answers[index] = ask(found[index])

    threads = [threading.Thread(target=ask_one, args=(index,), daemon=True) for index in range(len(found))]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 2 * PATIENCE + 1
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return together(
        [judge(address, answer or Answer("name", b"", "no answer of the name server")) for address, answer in zip(found, answers)]
    )


def together(findings):
    """A monitor that fails is a fault only where no other one answers."""
    if not any(finding.status == OK for finding in findings):
        return findings
    words = " Another monitor answers, so the cluster may work without this one."
    return [finding._replace(status=WARNING, text=finding.text + words) if finding.status == FAULT else finding for finding in findings]


def ask(address):
    """Connect and read what the other side says by itself; return an :class:`Answer`."""
    ports = [address.port] if address.port else sorted(_PORTS.values())
    answers = [_ask_port(address.host, port) for port in ports]
    return next((answer for answer in answers if not answer.problem), answers[0])


def _ask_port(host, port):
    try:
        connection = socket.create_connection((host, port), timeout=PATIENCE)
    except socket.gaierror as error:
        return Answer("name", b"", error.strerror or str(error))
    except socket.timeout:
        return Answer("timeout", b"", "")
    except OSError as error:
        return Answer("refused" if isinstance(error, ConnectionRefusedError) else "network", b"", error.strerror or str(error))
    with connection:
        return Answer("", _banner(connection), "")


def _banner(connection):
    said, until = b"", time.monotonic() + PATIENCE
    while len(said) < 9 and time.monotonic() < until:
        connection.settimeout(max(0.01, until - time.monotonic()))
        try:
            piece = connection.recv(64)
        except OSError:
            break
        if not piece:
            break
        said += piece
    return said


def judge(address, answer):
    """Return the :class:`Finding` of one monitor's answer."""
    name = "monitor " + address.text
    words = {
        "name": "The name {host} cannot be resolved ({detail}); correct it, or write the address.",
        "timeout": "No answer to a connection within {patience:g} s: the host is down, or a firewall drops it.",
        "refused": "The host refuses the connection: no monitor runs there, or it has another port. Start it, or correct the address.",
        "network": "It cannot be reached ({detail}); look at this host's network.",
    }
    if answer.problem:
        return Finding(name, FAULT, words[answer.problem].format(host=address.host, detail=answer.detail, patience=PATIENCE))
    speaks = next((protocol for protocol, banner in _BANNERS if answer.said.startswith(banner)), None)
    if speaks is None and not answer.said:
        text = "It takes the connection and says nothing: the monitor hangs or has no memory left, or something else listens there."
        return Finding(name, FAULT, text)
    if speaks is None:
        return Finding(name, FAULT, "Something answers there that is no Ceph monitor; correct the address.")
    if address.protocol and speaks != address.protocol:
        return Finding(
            name, FAULT, "It speaks {} at an address that is declared as {}; correct the address.".format(speaks, address.protocol)
        )
    return Finding(name, OK, "It answers, and speaks {}.".format(speaks))
