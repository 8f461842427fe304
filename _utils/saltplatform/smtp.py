"""Sending mails: one connection for all, each step and the whole limited in time. The password is shown nowhere."""

import base64
import datetime
import smtplib
import socket
import ssl
import threading
from collections import namedtuple
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, localtime

# Seconds for one answer of the server, and for the whole connection with all its mails.
STEP, WHOLE = 20.0, 90.0

# As :func:`saltplatform.outbox.settle` takes it.
Outcome = namedtuple("Outcome", "error final refused")
SENT = Outcome(None, False, {})


def message(mail, entry, groups):
    """Return a mail of the outbox as a message; its Message-ID is the same each time."""
    found = EmailMessage()
    domain = mail["sender"].rpartition("@")[2]
    found["From"] = Address("storage alerts", addr_spec=mail["sender"])
    found["To"] = ", ".join(entry["to"])
    admins = [member["address"] for member in groups.get(entry["group"], ()) if member["admin"]]
    if admins:
        found["Reply-To"] = ", ".join(admins)
    found["Subject"] = entry["subject"]
    # When it happened, and not when the server could be reached.
    found["Date"] = format_datetime(localtime(_moment(entry["created"])))
    found["Message-ID"] = "<alert-{}-{}@{}>".format(entry["number"], int(entry["created"]), domain)
    # No answers of those on holiday (RFC 3834).
    found["Auto-Submitted"] = "auto-generated"
    found.set_content(entry["body"])
    return found


def _moment(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def send(mail, password, entries, groups, step=STEP, whole=WHOLE):
    """Send the entries of the outbox and return {number: :class:`Outcome`}. Raises nothing.

    ``mail``: host, port, security, sender, and user where the server wants one; ``ca_file`` in place of the system's certificates.
    """
    outcomes, secrets = {}, _forms(mail.get("user"), password)
    watch = _Watch(whole)
    try:
        with watch:
            with _connected(mail, password, step, watch) as server:
                for entry in entries:
                    outcomes[entry["number"]] = _sent(server, message(mail, entry, groups), mail["sender"], entry["to"], secrets)
    except _FAILURES as error:
        words = "{}:{}: {}".format(mail["host"], mail["port"], _words(error, secrets, watch, whole))
        lost = Outcome(words, False, {})
        for entry in entries:
            outcomes.setdefault(entry["number"], lost)
    return outcomes


_FAILURES = (OSError, smtplib.SMTPException, ssl.SSLError, ValueError, AttributeError)


class _Watch:
    """Ends the connection when the whole takes too long: a server that sends a byte now and then keeps within each step."""

    def __init__(self, seconds):
        self._timer, self._socket, self.over = threading.Timer(seconds, self._end), None, False
        self._timer.daemon = True

    def __enter__(self):
        self._timer.start()

    def __exit__(self, *_):
        self._timer.cancel()

    def follow(self, connection):
        """End this connection, and no other one, when the time is up."""
        self._socket = connection
        if self.over:
            self._end()

    def _end(self):
        self.over = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass  # it is at its end, or has not begun


class _Watched:
    """A connection of smtplib's that its watch knows from the first answer on, and after each change of its socket."""

    def __init__(self, watch, *args, **kwargs):
        self._watch = watch
        super().__init__(*args, **kwargs)

    def getreply(self):
        """Wait for an answer, as smtplib does."""
        self._watch.follow(self.sock)
        return super().getreply()


class _Plain(_Watched, smtplib.SMTP):
    pass


class _Tls(_Watched, smtplib.SMTP_SSL):
    pass


def _connected(mail, password, step, watch):
    """Return the server, logged in; it is a context that says good-bye."""
    # Its own name for us would be asked of a name server, without a limit.
    name = socket.gethostname() or "localhost"
    context = ssl.create_default_context(cafile=mail.get("ca_file")) if mail["security"] != "none" else None
    if mail["security"] == "tls":
        server = _Tls(watch, mail["host"], mail["port"], local_hostname=name, timeout=step, context=context)
    else:
        server = _Plain(watch, mail["host"], mail["port"], local_hostname=name, timeout=step)
    try:
        if mail["security"] == "starttls":
            # Raises where the server does not offer it: nothing goes in the clear then.
            server.starttls(context=context)
        if mail.get("user"):
            server.login(mail["user"], password)
    except BaseException:
        server.close()
        raise
    return server


def _sent(server, mail, sender, to, secrets):
    try:
        refused = server.send_message(mail, sender, to)
    except smtplib.SMTPRecipientsRefused as error:
        refused = error.recipients
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        if error.smtp_code == 421:
            raise  # the server goes
        return Outcome(_answer(error.smtp_code, error.smtp_error, secrets), error.smtp_code >= 500, {})
    except smtplib.SMTPNotSupportedError as error:
        return Outcome(_clean(str(error), secrets), True, {})
    if any(code == 421 for code, _ in refused.values()):
        raise smtplib.SMTPServerDisconnected("the server closes the connection")
    return Outcome(None, False, {address: (_answer(code, text, secrets), code >= 500) for address, (code, text) in refused.items()})


def _words(error, secrets, watch, whole):
    if watch.over:
        return "the server took longer than {:g} s in all.".format(whole)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return "the server does not let the user in: {}".format(_answer(error.smtp_code, error.smtp_error, secrets))
    if isinstance(error, smtplib.SMTPResponseException):
        return _answer(error.smtp_code, error.smtp_error, secrets)
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not accepted: {}.".format(_clean(error.verify_message, secrets).rstrip("."))
    return _clean(str(error), secrets).rstrip(".") + "."


def _answer(code, text, secrets):
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return "it answers {} {}.".format(code, _clean(text, secrets).rstrip("."))


def _forms(user, password):
    """How a password may come back in a server's words: as it is, and as SMTP carries it."""
    if not password:
        return ()
    plain = "\0{}\0{}".format(user, password)
    encoded = [base64.b64encode(text.encode("utf-8")).decode("ascii") for text in (password, plain)]
    return (*encoded, password)


def _clean(text, secrets):
    for secret in secrets:
        text = text.replace(secret, "(the password)")
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= 300 else text[:297] + "..."
