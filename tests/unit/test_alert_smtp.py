"""Mails through a real SMTP server (aiosmtpd) on loopback: in the clear, by STARTTLS and TLS, with a login; and what goes wrong there."""

import logging
import socket
import ssl
import subprocess
import threading
import time

import pytest
from aiosmtpd.smtp import AuthResult
from mailhost import Mailhost, free_port
from saltplatform import smtp

PASSWORD = "a-planted-Pa55word"
GROUPS = {"storage": [{"name": "A", "address": "a@example.net", "admin": True}, {"name": "B", "address": "b@example.net", "admin": False}]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    names = folder / "cert.pem", folder / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    argv += ["-addext", "subjectAltName=DNS:localhost", "-out", str(names[0]), "-keyout", str(names[1])]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)
    return [str(name) for name in names]


@pytest.fixture
def serve(certificate):
    """Start a server: ``serve("starttls", login=True)`` returns (its mail settings, its inbox)."""
    running = []

    def start(security="none", login=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

        def check(server, session, envelope, mechanism, data):
            return AuthResult(success=data.password.decode() == PASSWORD, handled=False)

        options = {"authenticator": check, "auth_required": login, "auth_require_tls": security == "starttls"}
        if security == "starttls":
            options.update(tls_context=context, require_starttls=True)
        server = Mailhost(options, context if security == "tls" else None).come()
        running.append(server)
        mail = {"host": "localhost", "port": server.port, "security": security, "sender": "storage@example.net"}
        if security != "none":
            mail["ca_file"] = certificate[0]
        return {**mail, **({"user": "storage"} if login else {})}, server.inbox

    yield start
    for server in running:
        server.go()


def entry(number=1, to=("a@example.net", "b@example.net")):
    subject = "[storage] new: Ceph's health"
    return {"number": number, "group": "storage", "subject": subject, "body": "It is so: ä.\n", "created": 1000000000, "to": list(to)}


def send(mail, *entries, password=PASSWORD, **limits):
    return smtp.send(mail, password, entries or [entry()], GROUPS, **limits)


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
@pytest.mark.parametrize("login", [False, True])
def test_a_mail_arrives(serve, security, login):
    mail, inbox = serve(security, login and security != "none")
    assert send(mail, entry(1), entry(2)) == {1: smtp.SENT, 2: smtp.SENT}
    (to, first), (_, second) = inbox.mails
    assert to == ["a@example.net", "b@example.net"]
    assert first["To"] == "a@example.net, b@example.net"
    assert first["Reply-To"] == "a@example.net"
    assert first["From"].addresses[0].addr_spec == "storage@example.net"
    assert first["Subject"] == "[storage] new: Ceph's health"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Date"].datetime.timestamp() == 1000000000
    assert first["Message-ID"] == "<alert-1-1000000000@example.net>" != second["Message-ID"]
    assert first.get_content().replace("\r\n", "\n") == "It is so: ä.\n"


def test_wrong_password(serve, caplog):
    mail, inbox = serve("starttls", True)
    caplog.set_level(logging.DEBUG)
    outcome = send(mail, password=PASSWORD + "x")[1]
    assert "does not let the user in" in outcome.error
    assert not outcome.final
    assert PASSWORD not in outcome.error + caplog.text
    assert inbox.mails == []


def test_a_certificate_that_nobody_knows(serve):
    for security in ("starttls", "tls"):
        mail, inbox = serve(security)
        del mail["ca_file"]
        outcome = send(mail)[1]
        assert "its certificate is not accepted: self" in outcome.error, outcome
        assert inbox.mails == []


def test_a_certificate_of_another_name(serve):
    mail, inbox = serve("tls")
    outcome = send({**mail, "host": "127.0.0.1"})[1]
    assert "its certificate is not accepted: IP address mismatch" in outcome.error, outcome
    assert inbox.mails == []


def test_no_starttls_no_mail(serve):
    """A server, or somebody between, that does not offer it gets neither password nor mail."""
    mail, inbox = serve("none")
    outcome = send({**mail, "security": "starttls", "user": "storage"})[1]
    assert "STARTTLS extension not supported" in outcome.error
    assert inbox.mails == []


def test_some_are_refused(serve):
    mail, inbox = serve()
    inbox.answers = {"a@example.net": "550 nobody of that name"}
    outcome = send(mail)[1]
    assert outcome == smtp.Outcome(None, False, {"a@example.net": ("it answers 550 nobody of that name.", True)})
    assert [to for to, _ in inbox.mails] == [["b@example.net"]]
    inbox.answers["b@example.net"] = "450 later"
    outcome = send(mail)[1]
    assert outcome.refused["b@example.net"] == ("it answers 450 later.", False)
    assert outcome.error is None


@pytest.mark.parametrize(("answer", "final"), [("554 no such things here", True), ("451 later", False)])
def test_the_content_is_refused(serve, answer, final):
    mail, inbox = serve()
    inbox.answers = {"data": answer}
    outcomes = send(mail, entry(1), entry(2))
    assert [(one.error, one.final) for one in outcomes.values()] == [(f"it answers {answer}.", final)] * 2


def test_nobody_there():
    mail = {"host": "127.0.0.1", "port": free_port(), "security": "none", "sender": "storage@example.net"}
    outcomes = send(mail, entry(1), entry(2))
    assert [outcome.final for outcome in outcomes.values()] == [False, False]
    assert "Connection refused" in outcomes[1].error


class Peer:
    """A server that behaves badly: ``say(connection)`` is what it does."""

    def __init__(self, say):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.mail = {"host": "127.0.0.1", "port": self.socket.getsockname()[1], "security": "none", "sender": "storage@example.net"}
        threading.Thread(target=self._serve, args=(say,), daemon=True).start()

    def _serve(self, say):
        connection, _ = self.socket.accept()
        try:
            say(connection)
        except OSError:
            pass


def test_a_server_that_says_nothing():
    peer = Peer(lambda connection: time.sleep(20))
    began = time.monotonic()
    outcome = send(peer.mail, step=1, whole=15)[1]
    assert "timed out" in outcome.error
    assert time.monotonic() - began < 10


def test_a_server_that_says_a_word_now_and_then():
    """Each step is in time, the whole is not."""

    def drip(connection):
        while True:
            connection.sendall(b"220-wait\r\n")
            time.sleep(0.2)

    began = time.monotonic()
    outcome = send(Peer(drip).mail, step=5, whole=2)[1]
    assert "longer than 2 s in all" in outcome.error
    assert time.monotonic() - began < 10


def test_a_server_that_repeats_the_password(caplog):
    """What a server says goes into the log, and some say what they have heard."""

    def parrot(connection):
        file = connection.makefile("rwb")
        file.write(b"220 here\r\n")
        file.flush()
        for line in file:
            if line.upper().startswith(b"EHLO"):
                file.write(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif line.upper().startswith(b"AUTH"):
                file.write(b"535 not " + line.split()[-1] + b" nor " + PASSWORD.encode() + b"\r\n")
            else:
                file.write(b"221 bye\r\n")
            file.flush()

    outcome = send({**Peer(parrot).mail, "user": "storage"})[1]
    assert "does not let the user in" in outcome.error
    assert "(the password)" in outcome.error
    assert PASSWORD not in outcome.error
