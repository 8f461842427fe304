"""A real SMTP server (aiosmtpd) on loopback, which may be away for a while; shared by the tests of alerts."""

import socket
from email import message_from_bytes, policy

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP


class Inbox:
    """The mails that were taken, as (receivers, mail); ``answers``: {address or "data": what the server says instead of taking it}."""

    def __init__(self):
        self.mails, self.answers = [], {}

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):  # noqa: N802 -- aiosmtpd's name
        """Take a receiver or not."""
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        """Take a mail or not."""
        if "data" in self.answers:
            return self.answers["data"]
        self.mails.append((sorted(envelope.rcpt_tos), message_from_bytes(envelope.content, policy=policy.default)))
        return "250 taken"

    def subjects(self):
        """{the receivers: [subject, ...]}"""
        found = {}
        for receivers, mail in self.mails:
            found.setdefault(" ".join(receivers), []).append(mail["Subject"])
        return found


class Mailhost:
    """The server; ``options`` are those of aiosmtpd's SMTP, ``tls`` an SSL context for a server that speaks nothing else."""

    def __init__(self, options=None, tls=None, address="localhost"):
        self.inbox, self._options, self._tls, self._server = Inbox(), options or {}, tls, None
        self._address, self.port = address, free_port()

    def come(self):
        """Start to listen."""
        options = self._options

        class Server(Controller):
            def factory(self):
                return SMTP(self.handler, **options)

        self._server = Server(self.inbox, hostname=self._address, port=self.port, ssl_context=self._tls)
        self._server.start()
        return self

    def go(self):
        """Be away."""
        if self._server:
            self._server.stop()
        self._server = None


def free_port():
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
