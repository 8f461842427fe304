"""LUKS headers as they lie in an image, marks, and what a declaration may say; no passphrase is ever shown."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from saltrbd import errors, luks, secret
from saltrbd.luks import Header, Key, Mark, Wanted

UUID = "f3d645e0-c00d-4177-91fd-0dc996a80191"
SECRET = "the-Passphrase-31"
UTILS = Path(secret.__file__).parents[1]


def luks1(sectors=8192):
    block = bytearray(592)
    block[:8] = b"LUKS\xba\xbe\x00\x01"
    struct.pack_into(">I", block, 104, sectors)
    block[168 : 168 + len(UUID)] = UUID.encode()
    return bytes(block)


def luks2(text='{"segments": {"0": {"type": "crypt", "offset": "16777216", "size": "dynamic"}}}', size=16384):
    block = bytearray(16384)
    block[:8] = b"LUKS\xba\xbe\x00\x02"
    struct.pack_into(">Q", block, 8, size)
    block[168 : 168 + len(UUID)] = UUID.encode()
    block[4096 : 4096 + len(text)] = text.encode()
    return bytes(block)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", None),
        (bytes(65536), None),
        (luks1(), Header("luks1", UUID, 4 << 20)),
        (luks1()[:500], None),
        (luks1()[:6] + b"\0\x03" + luks1()[8:], None),
        (luks2(), Header("luks2", UUID, 16 << 20)),
        (luks2(text='{"segments": {"0": {"offset": "16777216"}, "1": {"offset": "4194304"}}}'), Header("luks2", UUID, 4 << 20)),
        (luks2()[:8000], None),
        (luks2(size=4096), None),
        (luks2(size=1 << 63), None),
        *((luks2(text=text), None) for text in ("", "{", "[]", "{}", '{"segments": {}}', '{"segments": []}', '{"segments": {"0": {}}}')),
        (luks2(text='{"segments": {"0": {"offset": "much"}}}'), None),
    ],
)
def test_headers(data, found):
    assert luks.parse(data) == found


@pytest.mark.parametrize(
    ("kind", "object_size", "offset"),
    [("luks1", 4 << 20, 4 << 20), ("luks2", 4 << 20, 16 << 20), ("luks1", 1 << 20, 2 << 20), ("luks2", 32 << 20, 32 << 20)],
)
def test_where_the_data_begins(kind, object_size, offset):
    assert luks.offset_for(kind, object_size) == offset


def image(**told):
    return {"id": "abc", "metadata": {luks.MARK: json.dumps({"image": "abc", "format": "luks2", "uuid": UUID, "time": 7, **told})}}


@pytest.mark.parametrize(
    ("facts", "mark"),
    [
        (image(), Mark("luks2", UUID, 7)),
        (image(uuid=""), Mark("luks2", "", 7)),
        (image(image="its parent's"), None),
        ({"id": "abc", "metadata": {}}, None),
        ({"id": "abc", "metadata": {luks.MARK: "{"}}, None),
        ({"id": "abc", "metadata": {luks.MARK: "[]"}}, None),
    ],
)
def test_marks(facts, mark):
    assert luks.mark_of(facts) == mark


@pytest.mark.parametrize(
    ("header", "mark", "ours"),
    [
        (Header("luks2", UUID, 4), Mark("luks2", UUID, 7), True),
        (Header("luks2", UUID, 4), Mark("luks2", "", 7), False),
        (Header("luks2", "", 4), Mark("luks2", "", 7), False),
        (Header("luks2", "other", 4), Mark("luks2", UUID, 7), False),
        (Header("luks2", UUID, 4), None, False),
        (None, Mark("luks2", UUID, 7), False),
    ],
)
def test_a_header_of_our_own(header, mark, ours):
    assert luks.is_ours(header, mark) is ours


def test_the_mark_that_is_written_is_read():
    text = luks.mark_text("abc", "luks1", UUID, 9)
    assert luks.mark_of({"id": "abc", "metadata": {luks.MARK: text}}) == Mark("luks1", UUID, 9)


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        (None, None),
        ({"pillar": "keys:one"}, Wanted("luks2", ("keys", "one"))),
        ({"pillar": ["rbd", "a:b"], "format": "luks1"}, Wanted("luks1", ("rbd", "a:b"))),
    ],
)
def test_what_is_declared(argument, wanted):
    assert luks.desired(argument) == wanted
    if wanted:
        assert luks.desired(luks.reference(wanted)) == wanted


@pytest.mark.parametrize(
    "argument",
    [
        {"format": SECRET, "pillar": "a"},
        SECRET,
        True,
        {},
        {"format": "luks2"},
        {"passphrase": SECRET},
        {"pillar": "a", "key": SECRET},
        {"pillar": ""},
        {"pillar": []},
    ]
    + [{"pillar": [1]}, {"pillar": "a::b"}, {"pillar": {"a": SECRET}}, {"pillar": "a", "format": "luks3"}, {"pillar": "a", "format": []}]
    + [{"pillar": "a", "format": SECRET}],
)
def test_what_is_refused_and_not_shown(argument):
    with pytest.raises(errors.InvalidArgument) as error:
        luks.desired(argument)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"keys": None}, "is missing"),
        ({"keys": SECRET}, "is missing"),
        ({"keys": {"one": ""}}, "is missing"),
        ({"keys": {"one": 5}}, "is no text"),
        ({"keys": {"one": {"a": SECRET}}}, "is no text"),
        ({"keys": {"one": SECRET + "\n"}}, "one line"),
        ({"keys": {"one": SECRET * 40}}, "one line"),
    ],
)
def test_a_pillar_without_a_passphrase(there, told):
    with pytest.raises(errors.InvalidPillar) as error:
        luks.key({"pillar": "keys:one"}, there)
    assert told in str(error.value) and "keys:one" in str(error.value) and SECRET not in str(error.value)


@pytest.mark.parametrize("place", [SECRET, f"{SECRET}:one", [SECRET, "one"]])
@pytest.mark.parametrize("there", [{}, {"keys": {"one": SECRET}}])
def test_a_passphrase_in_the_place_of_its_place_is_not_shown(place, there):
    with pytest.raises(errors.InvalidPillar) as error:
        luks.key({"pillar": place}, there)
    told = "What encryption: pillar names is not in the pillar: the passphrase is missing, or is no text."
    assert str(error.value) == told


def test_a_key_shows_no_passphrase():
    key = luks.key({"pillar": "keys:one"}, {"keys": {"one": SECRET}})
    assert key == Key("luks2", ("keys", "one"), SECRET) and key.argument() == {"format": "luks2", "passphrase": SECRET}
    assert SECRET not in f"{key} {key!r} {key!s} {[key]}"
    assert SECRET not in json.dumps(luks.reference(key))


def test_a_passphrase_is_handed_over_in_memory():
    with secret.handed(SECRET) as path:
        assert open(path).read() == open(path).read() == SECRET
        # Of whoever is started meanwhile nobody has it by itself.
        assert not os.get_inheritable(int(path.rpartition("/")[2]))
        assert "memfd:passphrase" in os.readlink(path)
    with pytest.raises(FileNotFoundError):
        open(path)


def test_a_daemon_that_comes_after_a_kill_does_not_wait():
    """Salt is killed before its daemon has read the passphrase. A named pipe would let it wait for ever."""
    code = "import sys; from saltrbd import secret\nwith secret.handed('x') as path: print(path, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=UTILS) as salt:
        path = salt.stdout.readline().strip()
        assert subprocess.run(["cat", path], check=True, capture_output=True, timeout=10).stdout == b"x"
        salt.kill()
    assert subprocess.run(["cat", path], capture_output=True, timeout=10).returncode == 1
