"""The second lane of ``./lab test``: half of the tests, beside the other half, since a test waits for more than it computes.

It is a ``./lab test`` of its own in namespaces of its own: it sees only its own processes (:func:`processes.find` leaves other namespaces
out), mounts on its own, has /etc as a copy and a /run/rbd-volumes of its own, no systemd, a cluster and a folder for temporary files of its
own. What both share are the kernel's loop devices, each known by its cluster's fsid.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

from labkit.commands import clean_environment
from labkit.home import REPO, Home

# The word by which a second ./lab test knows that it is the lane.
WORD = "--lane"

# The shell stays, as the first process of the lane: it takes in who loses its parent.
_SET_UP = """
cp -a /etc "$1/etc" && mount --bind "$1/etc" /etc || exit 1
mkdir -p /run/rbd-volumes && mount -t tmpfs tmpfs /run/rbd-volumes || exit 1
[ ! -d /run/systemd ] || mount -t tmpfs tmpfs /run/systemd || exit 1
shift
"$@"
exit $?
"""

# Who ends the first lane, however, ends the second one.
_APART = ["setpriv", "--pdeathsig", "KILL"]
_APART += ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child"]

# Seconds for the lane to clear away what runs when the first one is ended.
_PATIENCE = 60


def home_of(home):
    """Return the home of the second lane beside this home."""
    return Home(home.folder / "lane", home.venvs)


@contextlib.contextmanager
def beside(home, words):
    """Run the lane beside the block; what is yielded waits for it when it is called, prints what it said and returns its exit code."""
    own = home_of(home)
    own.make()
    for name in ("etc", "tmp"):
        shutil.rmtree(own.folder / name, ignore_errors=True)
    (own.folder / "tmp").mkdir(mode=0o700)
    env = clean_environment(
        PYTHONPATH=str(REPO), RBD_LAB_HOME=str(own.folder), RBD_LAB_VENVS=str(own.venvs), TMPDIR=str(own.folder / "tmp"), TERM="dumb"
    )
    argv = [*_APART, "sh", "-c", _SET_UP, "sh", own.folder, sys.executable, "-P", "-B", "-m", "labkit", "test", WORD, *words]
    with open(own.log / "lane.log", "w+") as said:
        lane = subprocess.Popen(
            [str(part) for part in argv],
            cwd=REPO,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=_for_the_lane_to_decide,
        )

        def ended():
            code = lane.wait()
            said.seek(0)
            shutil.copyfileobj(said, sys.stdout)
            sys.stdout.flush()
            return code

        try:
            yield ended
        finally:
            if lane.poll() is None:
                _end(lane)
            shutil.rmtree(own.folder / "etc", ignore_errors=True)


def _for_the_lane_to_decide():
    """What only sets the lane up (setpriv, unshare, sh) must outlive the ./lab test inside, which clears away and ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end(lane):
    os.killpg(lane.pid, signal.SIGTERM)
    try:
        lane.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        lane.kill()
        lane.wait()
