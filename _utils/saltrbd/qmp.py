"""QMP, the control protocol of qemu-storage-daemon: JSON lines over a Unix socket."""

import json
import socket
import time

from saltrbd import errors


def ask(path, command, limit, **arguments):
    """Carry out one QMP command within ``limit`` seconds and return what it returns.

    Raises :class:`CommandFailed` with the daemon's own words, or :class:`CommandTimeout`.
    """
    until = time.monotonic() + limit
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(limit)
            channel.connect(path)
            answers = _answers(channel, until)
            next(answers)  # the greeting
            for name, with_arguments in (("qmp_capabilities", {}), (command, arguments)):
                channel.sendall(json.dumps({"execute": name, "arguments": with_arguments}).encode("ascii") + b"\n")
                answer = _reply(answers)
    except socket.timeout:
        raise errors.CommandTimeout("qemu-storage-daemon had no answer to {} within {:g} s.".format(command, limit))
    except (OSError, StopIteration, ValueError) as error:
        raise errors.CommandFailed("qemu-storage-daemon does not answer at {}: {}.".format(path, error or "it closed the connection"))
    if "error" in answer:
        raise errors.CommandFailed("qemu-storage-daemon refuses {}: {}.".format(command, answer["error"]["desc"].rstrip(".")))
    return answer["return"]


def _reply(answers):
    for answer in answers:
        if "return" in answer or "error" in answer:
            return answer
    raise OSError("it closed the connection")


def _answers(channel, until):
    data = b""
    while True:
        line, newline, rest = data.partition(b"\n")
        if newline:
            data = rest
            yield json.loads(line.decode("utf-8"))
            continue
        channel.settimeout(max(0.001, until - time.monotonic()))
        more = channel.recv(1 << 16)
        if not more:
            return
        data += more
