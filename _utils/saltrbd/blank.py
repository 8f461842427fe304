"""Is a mapped image blank? A filesystem is made only on a device that is proven to be that image and to hold nothing.

blkid's "nothing found" is no proof: it says the same of a device that it cannot read. The proof, in this order, each step
while the former ones hold:

    the device is that image     fsid and image id, size, mapped read-write and exclusively by this host
    nobody else uses it          watchers of the image; mounts, swap, devices on top, open files on this host
    nothing below it             no parent, no migration
    nothing is on its way        synced, and opened for ourselves alone until the end of the proof
    librbd knows of no data      its diff from no snapshot is empty (whole objects only while the map is valid)
    no signature                 blkid's low-level probe
    both ends read zero          first and last MiB, read by ourselves

Behind a LUKS header the same holds of what lies behind it, and the header must be one that this package wrote: its UUID stands in
the image's mark. What was never written reads as anything there, so that the ends tell nothing.

Discarded everywhere counts as blank. Written zeros do not: librbd cannot tell them from data.
"""

import json
import os
import selectors
import subprocess
import sys
import time

from saltrbd import device_find, device_users, errors, loop, luks, owner, signature, users
from saltrbd.process import SYSTEM_PYTHON
from saltrbd.run import KILL_WAIT, environment
from saltrbd.size import show

HELPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "blank_helper.py")
# A device may be open for an instant, longer on a busy host: udev looks at it after every change, and Salt's grains run lvm.
PASSING = 3.0


def prove(ceph, mapping, content=True, exact=True):
    """Raise :class:`NotBlank` with the reason unless the mapped image is proven blank.

    ``content`` False proves only that it is ours alone, for a device whose content is to be wiped; ``exact`` False lets a device
    pass that has not seen its image grow yet. Raises :class:`CommandTimeout` or :class:`CephTimeout` when the device or the
    cluster does not answer.
    """
    image = ceph.call("image_info", mapping.spec)
    _prove_identity(ceph, mapping, image, exact)
    _prove_unused(ceph, mapping, image)
    if image["parent"]:
        raise _not(mapping, "it is a clone of {pool}/{image}@{snapshot}".format(**image["parent"]))
    if "migrating" in image["features"]:
        raise _not(mapping, "it is being migrated")
    with _Held(ceph, mapping) as held:
        if content:
            _prove_content(ceph, mapping, held, _begin(ceph, mapping, image))


def _not(mapping, why, data=False):
    error = errors.NotBlank("{} at {} gets no filesystem: {}.".format(mapping.spec, mapping.device, why))
    error.data = data
    return error


def data_at(first, device, when="", found=None):
    """Return the words for an image in which librbd knows of data, first at that byte."""
    return (
        "librbd knows of data in it, first at byte {}{}. Written zeros count as data. If nothing in it is needed, {}run "
        "'blkdiscard {}', or move the image to the trash and declare a new one"
    ).format(first, ", and it carries {}".format(found.text) if found else "", when, device)


def _prove_identity(ceph, mapping, image, exact):
    if mapping.fault:
        raise _not(mapping, mapping.fault)
    if mapping.fsid != ceph.fsid or mapping.image_id != image["id"] or mapping.spec.snapshot:
        raise _not(mapping, "the device is another image (id {}, not {})".format(mapping.image_id, image["id"]))
    if mapping.read_only:
        raise _not(mapping, "it is mapped read-only")
    prove_there(mapping)
    size, wanted = loop.size_of(mapping.device), (image["size"] - luks.offset_of(ceph, mapping, image["size"])) // 512 * 512
    if size > wanted or (exact and size < wanted):
        raise _not(mapping, "the device has {}, the image {}; unmap and map it again".format(show(size), show(image["size"])))


def prove_there(mapping):
    """Raise :class:`NotBlank` unless the device still serves that image: its number may have gone to another one."""
    if not device_find.is_there(mapping):
        raise _not(mapping, "the device does not serve that image any more")


def _prove_unused(ceph, mapping, image):
    spec = mapping.spec
    held = owner.holder(ceph, spec, image["id"])
    mine = owner.me(ceph.settings)
    if held is None or any(held.facts.get(key) != mine[key] for key in mine):
        raise _not(mapping, "it is not mapped exclusively by this host; unmap it and declare rbd_device.mapped")
    _wait_unused(mapping, owner.PASSING, lambda: _watchers(ceph, spec, held))
    _wait_unused(mapping, PASSING, lambda: device_users.users(mapping))


def _watchers(ceph, spec, held):
    found = users.named(ceph.call("image_users", spec), ceph.settings.host, held)["watchers"]
    return ["it is in use by " + users.words(item) for item in found if item["address"] != held.facts.get("address")]


def _wait_unused(mapping, limit, ask):
    until = time.monotonic() + limit
    while True:
        using = ask()
        if not using:
            return
        if time.monotonic() > until:
            raise _not(mapping, " and ".join(using))
        time.sleep(0.2)


def _begin(ceph, mapping, image):
    """Return the byte of the image at which its content begins: behind the LUKS header that this package wrote."""
    if not mapping.encryption:
        return 0
    header = luks.read(ceph, mapping.spec, image["size"])
    if not luks.is_ours(header, luks.mark_of(image)):
        raise _not(mapping, luks.FOREIGN)
    return header.offset


def _prove_content(ceph, mapping, held, start):
    facts = ceph.call("image_blank", mapping.spec, start=start)
    if facts["parent"] or facts["migrating"]:
        raise _not(mapping, "it is a clone, or being migrated")
    found = signature.probe(mapping.device, ceph.settings.timeout)
    if facts["first_used"] is not None:
        raise _not(mapping, data_at(facts["first_used"], mapping.device, found=found), data=True)
    if found:
        raise _not(mapping, "it carries {}".format(found.text), data=True)
    used = [] if mapping.encryption else held.ask("used")
    if used:
        raise _not(mapping, "it does not read zero at byte {}".format(used[0]))


class _Held:
    """The helper process that has the device open for itself alone."""

    def __init__(self, ceph, mapping):
        self._mapping, self._limit, self._buffer = mapping, ceph.settings.progress_timeout, b""
        self._timeout = ceph.settings.timeout

    def __enter__(self):
        argv = [sys.executable or SYSTEM_PYTHON, "-E", "-s", "-S", HELPER, self._mapping.device]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, cwd="/", env=environment()
        )
        try:
            self._answer("held", self._limit, "written back")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()
        try:
            self._process.wait(timeout=KILL_WAIT)
        except subprocess.TimeoutExpired:
            self._process.kill()  # one that sleeps in the kernel is left

    def ask(self, key):
        """Return the helper's answer to one more question."""
        self._process.stdin.write(b"?")
        return self._answer(key, self._timeout, "read")

    def _ready(self, seconds):
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return selector.select(max(0.0, seconds))

    def _answer(self, key, limit, doing):
        until = time.monotonic() + limit
        while b"\n" not in self._buffer:
            if not self._ready(until - time.monotonic()):
                self._process.kill()
                raise errors.CommandTimeout(
                    "{} at {} could not be {} within {:g} s; process {} is left behind.".format(
                        self._mapping.spec, self._mapping.device, doing, limit, self._process.pid
                    )
                )
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise errors.CommandFailed("The process that holds {} ended early.".format(self._mapping.device))
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line.decode("ascii"))
        if "error" in answer:
            raise _not(self._mapping, "it cannot be opened alone, synced and read: {}".format(answer["error"]))
        return answer[key]
