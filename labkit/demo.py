"""``./lab demo``: the notes' story as declared state, with the proof at the end."""

import json
import subprocess
import time
from pathlib import Path

from labkit import minion
from labkit.commands import LabError, Step, clean_environment, run

# What the example pillar promises: the clone of rbd0001@snap1 is mounted here and holds what was written before.
CLONE_FILE = Path("/mnt/test0002/edit")
EXPECTED = "edit1"

# What demo.transcript mounts: the clones of a snapshot taken without a freeze, and of one taken with it.
CRASH_FILE = Path("/mnt/transcript-crash/edit")
FROZEN_FILE = Path("/mnt/transcript-frozen/edit")

# One salt-call; the slowest step inside has its own, shorter limit.
LONGEST_CALL = 600


def main(home):
    """Apply the example, prove it, apply it again, then show why the freeze matters; the lab stays up."""
    began = time.monotonic()
    apply_example(home)
    prove_clone()
    show_tree(home)
    second_run(home)
    transcript(home)
    print(f"\nThe demo ended well after {time.monotonic() - began:.0f} s. The lab still runs: ./lab status shows it,")
    print("./lab shell gives you ceph and rbd on it, ./lab down clears everything away.")
    return 0


def apply_example(home):
    """Apply the example pillar by a highstate, with Salt's own lines on the terminal."""
    _title("The example pillar, applied: salt-call state.highstate")
    minion.configure(home)
    began = time.monotonic()
    argv = [*minion.salt_call_command(home), "--retcode-passthrough", "--state-output=terse", "state.highstate"]
    try:
        code = subprocess.call(argv, env=clean_environment(), stdin=subprocess.DEVNULL, timeout=LONGEST_CALL)
    except subprocess.TimeoutExpired:
        raise LabError(f"The highstate did not end within {LONGEST_CALL} s.") from None
    if code != 0:
        raise LabError("The highstate failed; the lines above say where.")
    print(f"  {time.monotonic() - began:5.1f} s")


def prove_clone():
    """Read the file in the clone: it must hold what was written into the parent before the snapshot."""
    _title(f"The proof: {CLONE_FILE}, in the clone")
    content = _content(CLONE_FILE)
    print(f"  {_shown(content)}")
    if content != EXPECTED:
        raise LabError(f"{CLONE_FILE} must say {EXPECTED!r}, and it is {_shown(content)}.")


def show_tree(home):
    """Print the lineage of images, snapshots and clones."""
    _title("Images, snapshots and clones: ./lab salt-call rbd_image.tree")
    text = json.loads(run([*minion.salt_call_command(home), "--out=json", "rbd_image.tree"], timeout=120)[1])
    print("\n".join(f"  {line}" for line in text["local"].splitlines()))


def second_run(home):
    """Apply the example once more: nothing may change."""
    _title("The same highstate once more")
    with Step("salt-call state.highstate"):
        results = _states(home, "state.highstate")
    changed = [result for result in results if result["changes"]]
    print(f"  {len(results)} states, {len(changed)} changes")
    if changed:
        names = ", ".join(f"{result['__id__']} ({result['name']})" for result in changed)
        raise LabError(f"A second highstate must change nothing, and it changed: {names}.")


def transcript(home):
    """Show the notes' first failure and its cure: the same write, snapshotted without a freeze and with one."""
    _title("Why the freeze matters: the same write, snapshotted without one and with one")
    with Step("clear away what an earlier demo left: salt-call state.apply demo.clean"):
        _states(home, "state.apply", "demo.clean")
    with Step("write, snapshot, clone, mount the clones: salt-call state.apply demo.transcript"):
        results = _states(home, "state.apply", "demo.transcript")
    for result in results:
        if result["function"] == "rbd_snapshot.protected":
            print(f"  {result['comment']}")
    for clone in (CRASH_FILE, FROZEN_FILE):
        print(f"  {clone}: {_shown(_content(clone))}")
    if _content(FROZEN_FILE) != EXPECTED:
        raise LabError(f"{FROZEN_FILE} must say {EXPECTED!r}: its parent was frozen for the snapshot.")


def _title(text):
    print(f"\n{text}", flush=True)


def _content(path):
    """Return the text of a file, None where there is none: a name without its data is what a crash may leave."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise LabError(f"{path} cannot be read: {problem}.") from None


def _shown(content):
    return "(no such file)" if content is None else content or "(empty)"


def _states(home, *words):
    """Run states by salt-call and return their results in order, each with its ``function``; raise where one failed."""
    argv = [*minion.salt_call_command(home), "--out=json", *words]
    out = run(argv, timeout=LONGEST_CALL, check=False)[1]
    try:
        answer = json.loads(out)["local"]
    except (ValueError, KeyError):
        raise LabError(f"salt-call {' '.join(words)} did not answer with results: {out[-2000:]}") from None
    if not isinstance(answer, dict):
        raise LabError(f"salt-call {' '.join(words)} was refused: {' '.join(answer)}")
    results = sorted(answer.items(), key=lambda item: item[1].get("__run_num__", 0))
    found = []
    for tag, result in results:
        parts = tag.split("_|-")
        found.append({**result, "function": f"{parts[0]}.{parts[-1]}"})
    failed = [result for result in found if result["result"] is False]
    if failed:
        told = "\n".join(f"{result.get('__id__')}: {result['comment']}" for result in failed)
        raise LabError(f"salt-call {' '.join(words)} failed:\n{told}")
    return found
