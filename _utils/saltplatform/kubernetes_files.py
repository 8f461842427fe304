"""The folder of manifests: what is there, what is to be done, and doing it. Files of others are never touched."""

import os
import stat
from collections import namedtuple

from saltrbd.converge import change
from saltrbd.errors import InvalidArgument, Refused, quoted
from saltrbd.postgresql.files import write

from saltplatform import kubernetes_shown as shown
from saltplatform import kubernetes_text as texts

FOLDER_MODE = 0o700
# Bytes of a file that are looked at; a ConfigMap or Secret of Kubernetes' has a megabyte at most.
_READ = 4 << 20
# What :func:`saltrbd.postgresql.files.write` leaves where it is killed.
_UNFINISHED = ".salt-new"

# ``mode`` is None where there is no folder. ``files``: {name: File}; ``unfinished``: names; ``others``: whether there is more.
Found = namedtuple("Found", "mode owner files unfinished others")
# ``by``: "written", "edited" or "" (somebody else's); ``content``: None of somebody else's.
File = namedtuple("File", "by content mode owner")
# ``content`` as it is to be, with the object that it is the text of.
Wanted = namedtuple("Wanted", "content mode item")
# ``write`` and ``remove``: names; ``folder``: "", "make" or "remove".
Plan = namedtuple("Plan", "changes refusals write remove folder")


def wanted(objects):
    """Return {file name: :class:`Wanted`} of objects; what holds a secret is for root alone."""
    found = {}
    for item in objects:
        name = texts.file_name(item)
        found[name] = Wanted(texts.text(name, item), 0o600 if shown.has_secrets(item) else 0o644, item)
    return found


def check_folder(path):
    """Return the path; raises :class:`InvalidArgument` where it is no absolute path in its plain form, or one of the system's folders."""
    if (
        not isinstance(path, str)
        or not path.startswith("/")
        or path.startswith("//")
        or os.path.normpath(path) != path
        or path.count("/") < 2
    ):
        text = "The folder must be an absolute path in its plain form, of its own and not right below /, not {}."
        raise InvalidArgument(text.format(quoted(path)))
    return path


def look(path):
    """Return what is :class:`Found` at a path; raises :class:`Refused` where something else than a folder is."""
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Found(None, None, {}, [], False)
    if not stat.S_ISDIR(facts.st_mode):
        raise Refused("{} is no folder; nothing is written there.".format(path))
    files, unfinished, others = {}, [], False
    for entry in sorted(os.scandir(path), key=lambda item: item.name):
        if entry.name.endswith(_UNFINISHED) and texts.FILE_NAME.fullmatch(entry.name[: -len(_UNFINISHED)]) and _is_file(entry):
            unfinished.append(entry.name)
            continue
        files[entry.name] = _file(entry)
        others = others or not files[entry.name].by
    return Found(stat.S_IMODE(facts.st_mode), facts.st_uid, files, unfinished, others)


def _is_file(entry):
    return entry.is_file(follow_symlinks=False)


def _file(entry):
    facts = entry.stat(follow_symlinks=False)
    content = _content(entry.path) if _is_file(entry) and texts.FILE_NAME.fullmatch(entry.name) else None
    by = texts.written_as(entry.name, content) if content is not None else ""
    return File(by, content if by else None, stat.S_IMODE(facts.st_mode), facts.st_uid)


def _content(path):
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        data = file.read(_READ + 1)
    try:
        return data.decode("utf-8") if len(data) <= _READ else None
    except UnicodeDecodeError:
        return None


def plan(path, found, files, gone=False, key=""):
    """Return the :class:`Plan` that makes the folder hold exactly these files of ours.

    ``gone``: the folder itself shall be gone, where nothing else is in it. ``key``: is shown nowhere.
    Changes are {path: {field: {"old", "new"}}}, without what is secret.
    """
    changes, refusals, put, remove, folder = {}, [], [], [], ""
    owner = os.geteuid()
    if not gone and (found.mode, found.owner) != (FOLDER_MODE, owner):
        folder = "make"
        if found.others:
            text = "{} is there with another mode or owner ({}, {}) and files that this state did not write: name a folder of its own."
            refusals.append(text.format(path, _octal(found.mode), found.owner))
        new = {"folder": change(None, _octal(FOLDER_MODE))}
        changes[path] = new if found.mode is None else _attributes(found.mode, found.owner, FOLDER_MODE, owner)
    for name, want in files.items():
        there = found.files.get(name)
        if there and not there.by:
            refusals.append("{} is there and was not written by this state; move it away.".format(os.path.join(path, name)))
        elif not there or (there.content, there.mode, there.owner) != (want.content, want.mode, owner):
            put.append(name)
            changes[os.path.join(path, name)] = _change(there, want, owner, key)
    for name, there in found.files.items():
        if name in files or not there.by:
            continue
        if there.by == "edited":
            text = "{} is not declared any more, but was changed since Salt wrote it. Remove it, or take its first line away to keep it."
            refusals.append(text.format(os.path.join(path, name)))
            continue
        remove.append(name)
        changes[os.path.join(path, name)] = {"file": change(_read_title(there.content), None)}
    for name in found.unfinished:
        remove.append(name)
        changes[os.path.join(path, name)] = {"file": change("left by a run that was killed", None)}
    if gone and found.mode is not None and not found.others and not refusals:
        folder = "remove"
        changes[path] = {"folder": change(_octal(found.mode), None)}
    return Plan({} if refusals else changes, refusals, put, remove, folder)


def _change(there, want, owner, key):
    if not there:
        return {"file": change(None, _title(want.item))}
    found = _attributes(there.mode, there.owner, want.mode, owner)
    if there.content == want.content:
        return found
    try:
        (old,) = texts.objects(there.content)
        differs = shown.changes(old, want.item, key)
    except (InvalidArgument, ValueError, AttributeError, TypeError):
        differs = {"text": change("no object of Kubernetes'", "as declared")}
    return dict(differs or {"text": change("written in another way", "as declared")}, **found)


def _attributes(mode, owner, wanted_mode, wanted_owner):
    found = {} if mode == wanted_mode else {"mode": change(_octal(mode), _octal(wanted_mode))}
    return found if owner == wanted_owner else dict(found, owner=change(owner, wanted_owner))


def _octal(mode):
    return "{:04o}".format(mode)


def _title(item):
    return "{} {}".format(item["kind"], item["metadata"]["name"])


def _read_title(content):
    try:
        return _title(*texts.objects(content))
    except (InvalidArgument, ValueError, KeyError, TypeError):
        return "a file of Salt's"


def carry_out(path, steps, files):
    """Do what a :class:`Plan` without refusals says. What it is stopped at is done by the next run."""
    if steps.folder == "make":
        os.makedirs(path, mode=FOLDER_MODE, exist_ok=True)
        os.chown(path, os.geteuid(), -1)
        os.chmod(path, FOLDER_MODE)
    for name in steps.write:
        write(os.path.join(path, name), files[name].content, files[name].mode, "root")
    for name in steps.remove:
        os.unlink(os.path.join(path, name))
    if steps.folder == "remove":
        os.rmdir(path)
