"""What is done to the folder, as a table: what is there, what is wanted, what becomes of it."""

import os

import pytest
from manifest_facts import build
from saltplatform import kubernetes_files as files
from saltrbd.errors import InvalidArgument

ROOT = os.geteuid()
WANTED = {name: want for name, want in files.wanted(build()).items() if name.endswith(("-db.yaml", "secret.yaml"))}
VOLUME, CLAIM, SECRET = "30-persistentvolume-db.yaml", "40-persistentvolumeclaim-db.yaml", "10-secret-csi-rbd-secret.yaml"
OLD = "30-persistentvolume-old.yaml"


def there(**more):
    """A folder as it is after a run: {name: File}, with what a case changes."""
    found = {name: files.File("written", want.content, want.mode, ROOT) for name, want in WANTED.items()}
    found.update(more)
    return {name: item for name, item in found.items() if item}


def look(found, mode=0o700, owner=ROOT, unfinished=(), others=False):
    return files.Found(mode, owner, found, list(unfinished), others)


def foreign(mode=0o644):
    return files.File("", None, mode, ROOT)


def edited(name, **change):
    return files.File("edited", WANTED[name].content + "# more\n", WANTED[name].mode, ROOT)._replace(**change)


old = files.File("written", WANTED[VOLUME].content.replace("name: db", "name: old"), 0o644, ROOT)
CASES = {
    "as declared": (look(there()), [], [], "", 0),
    "nothing there": (look({}, None, None), sorted(WANTED), [], "make", 4),
    "an empty folder": (look({}), sorted(WANTED), [], "", 3),
    "another mode of the folder": (look(there(), 0o755), [], [], "make", 1),
    "another owner of the folder": (look(there(), owner=ROOT + 1), [], [], "make", 1),
    "one is missing": (look(there(**{VOLUME: None})), [VOLUME], [], "", 1),
    "one was changed": (look(there(**{VOLUME: edited(VOLUME)})), [VOLUME], [], "", 1),
    "another mode": (look(there(**{SECRET: edited(SECRET, content=WANTED[SECRET].content, mode=0o644)})), [SECRET], [], "", 1),
    "another owner": (look(there(**{SECRET: edited(SECRET, content=WANTED[SECRET].content, owner=ROOT + 1)})), [SECRET], [], "", 1),
    "one too many": (look(there(**{OLD: old})), [], [OLD], "", 1),
    "somebody else's": (look(there(**{"mine.yaml": foreign()}), others=True), [], [], "", 0),
    "left by a killed run": (look(there(), unfinished=[OLD + ".salt-new"]), [], [OLD + ".salt-new"], "", 1),
}


@pytest.mark.parametrize("case", CASES)
def test_plan(case):
    found, write, remove, folder, changes = CASES[case]
    plan = files.plan("/etc/kubernetes/rbd", found, WANTED)
    assert plan.refusals == []
    assert (sorted(plan.write), plan.remove, plan.folder, len(plan.changes)) == (write, remove, folder, changes)


REFUSED = {
    "somebody else's in the place of ours": (look(there(**{VOLUME: foreign()}), others=True), "was not written by this state"),
    "changed and not declared": (look(there(**{OLD: old._replace(by="edited")}), others=True), "was changed since Salt wrote it"),
    "a folder of others": (look(there(**{"mine.yaml": foreign()}), 0o755, others=True), "name a folder of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    found, words = REFUSED[case]
    plan = files.plan("/etc/kubernetes/rbd", found, WANTED)
    assert plan.changes == {}
    assert [words in sentence for sentence in plan.refusals] == [True]


GONE = {
    "as written": (look(there()), sorted(WANTED), "remove", 4),
    "nothing there": (look({}, None, None), [], "", 0),
    "an empty folder": (look({}), [], "remove", 1),
    "with somebody else's": (look(there(**{"mine.yaml": foreign()}), others=True), sorted(WANTED), "", 3),
    "another mode of the folder": (look(there(), 0o755), sorted(WANTED), "remove", 4),
}


@pytest.mark.parametrize("case", GONE)
def test_absent(case):
    found, remove, folder, changes = GONE[case]
    plan = files.plan("/etc/kubernetes/rbd", found, {}, gone=True)
    assert (plan.refusals, plan.write) == ([], [])
    assert (sorted(plan.remove), plan.folder, len(plan.changes)) == (remove, folder, changes)


@pytest.mark.parametrize("path", [None, 5, "", "x", "/", "//", "/x", "/x/", "/x/../y", "/x//y", "//x/y", "/x/./y"])
def test_folders(path):
    with pytest.raises(InvalidArgument, match="The folder must be an absolute path"):
        files.check_folder(path)
    assert files.check_folder("/x/y") == "/x/y"
