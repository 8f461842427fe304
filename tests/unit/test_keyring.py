"""The key of the Ceph user: found as librados finds it, and never shown."""

import pytest
from saltrbd import keyring, settings
from saltrbd.errors import AuthenticationFailed

KEY, OTHER = "AQBpbGFudGVkLWtleS1vZi1jZXBo", "AQBvdGhlci1rZXktb2YtY2VwaA=="


def chosen(tmp_path, **ceph):
    return settings.load({}, {"ceph": {"conf": str(tmp_path / "ceph.conf"), "user": "k8s", **ceph}})


def write(path, text):
    path.write_text(text)
    return str(path)


CONTENT = f'[client.other]\n\tkey = {OTHER}\n[client.k8s]\n\tkey = {KEY}\n\tcaps mon = "profile rbd"\n'


def test_the_keyring_that_the_pillar_names(tmp_path):
    write(tmp_path / "ceph.conf", f"[global]\nkey = {OTHER}\n")
    assert keyring.key(chosen(tmp_path, keyring=write(tmp_path / "k", CONTENT))) == KEY


@pytest.mark.parametrize(
    "conf",
    [
        "[client.k8s]\nkeyring = {folder}/k\n",
        "[client]\nkeyring = {folder}/missing,{folder}/k\n",
        "[global]\nkeyring = {folder}/$id\n",
        "[client.k8s]\nkey = " + KEY + "\n",
        "[client.k8s]\nkeyfile = {folder}/keyfile\n",
    ],
)
def test_the_configuration(tmp_path, conf):
    for name in ("k", "k8s"):
        write(tmp_path / name, CONTENT)
    write(tmp_path / "keyfile", KEY + "\n")
    write(tmp_path / "ceph.conf", conf.format(folder=tmp_path))
    assert keyring.key(chosen(tmp_path)) == KEY


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            None,
            "No key of client.k8s was found on this host ({path}: No such file or directory). Get the keyring by 'ceph auth get client.k8s",
        ),
        (f"[client.other]\nkey = {OTHER}\n", "({path} has no key of client.k8s)"),
        ("[client.k8s]\nkey =\n", "({path} has no key of client.k8s)"),
        ("[client.k8s]\nkey = planted!\n", "What this host has as the key of client.k8s is no key of Ceph's."),
    ],
)
def test_no_key(tmp_path, content, words):
    path = tmp_path / "k"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AuthenticationFailed) as error:
        keyring.key(chosen(tmp_path, keyring=str(path)))
    assert words.format(path=path) in str(error.value)
    for secret in (OTHER, "planted"):
        assert secret not in str(error.value)


def test_an_unreadable_keyfile(tmp_path):
    write(tmp_path / "ceph.conf", f"[client.k8s]\nkeyfile = {tmp_path}/none\n")
    with pytest.raises(AuthenticationFailed, match="The keyfile .*/none cannot be read"):
        keyring.key(chosen(tmp_path))
