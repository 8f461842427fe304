"""What managing 200 images costs: this package, the rbd command in a loop, and raw librbd, in one run on one cluster.

Run it in the lab, on its embedded cluster with Ceph's own intervals untouched::

    ./lab shell -c 'python benchmarks/volumes.py'

It prints the cluster's configuration and a table in Markdown: seconds for all images, and what each costs at the median. One by one,
200 snapshots take 200 s (the monitor hands out ids once per paxos_propose_interval), twice; the whole run takes about
nine minutes. ``--count`` makes it smaller.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
POOL = "bench"
LIMIT = 1800


def run(*argv):
    """Run a command that must succeed and return what it prints."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT).stdout.decode()


def each(count, *commands):
    """Seconds that these commands take for each number; ``{n}`` in a word is the number."""
    seconds = []
    for number in range(count):
        began = time.perf_counter()
        for words in commands:
            run("rbd", *(word.format(n=number, pool=POOL) for word in words))
        seconds.append(time.perf_counter() - began)
    return seconds


def fresh_pool():
    """Make the benchmark's pool anew, empty."""
    run("ceph", "osd", "pool", "rm", POOL, POOL, "--yes-i-really-really-mean-it")
    run("ceph", "osd", "pool", "create", POOL, "8")
    run("rbd", "pool", "init", POOL)


def by_command(count):
    """The rbd command, a process for each image."""
    return {
        "create": each(count, ["create", "--size", "64M", "{pool}/cmd{n}"]),
        "read": each(count, ["info", "--format", "json", "{pool}/cmd{n}"]),
        "snapshot + protect": each(count, ["snap", "create", "--no-progress", "{pool}/cmd{n}@s"], ["snap", "protect", "{pool}/cmd{n}@s"]),
        "clone": each(count, ["clone", "{pool}/cmd{n}@s", "{pool}/cmdclone{n}"]),
        "clones of one snapshot": each(count, ["clone", "{pool}/cmd0@s", "{pool}/cmddesk{n}"]),
        "look at image and snapshot": each(
            count, ["info", "--format", "json", "{pool}/cmd{n}"], ["snap", "ls", "--format", "json", "{pool}/cmd{n}"]
        ),
    }


def minion(folder, pillar):
    """Write a masterless minion on this checkout and return its salt-call."""
    (folder / "pillar").mkdir(parents=True)
    (folder / "pillar/top.sls").write_text(json.dumps({"base": {"*": ["site"]}}))
    (folder / "pillar/site.sls").write_text(json.dumps(pillar))
    (folder / "states").mkdir()
    (folder / "states/nothing.sls").write_text(
        json.dumps({f"nothing {number}": {"test.nop": []} for number in range(2 * len(pillar["rbd"]["volumes"]))})
    )
    config = {
        "id": "bench",
        "file_client": "local",
        "root_dir": str(folder / "root"),
        "cachedir": str(folder / "root/cache"),
        "pki_dir": str(folder / "root/pki"),
        "sock_dir": str(folder / "root/run"),
        "log_file": str(folder / "log"),
        "module_dirs": [str(REPO)],
        "file_roots": {"base": [str(REPO / "salt"), str(folder / "states")]},
        "pillar_roots": {"base": [str(folder / "pillar")]},
        "enable_fqdns_grains": False,
        "enable_gpu_grains": False,
    }
    (folder / "minion").write_text(json.dumps(config))
    return [str(Path(sys.executable).parent / "salt-call"), "--local", "-c", str(folder), "--out=json"]


def ceph_pillar():
    """The pillar's ``ceph:`` for the cluster that CEPH_CONF names."""
    return {"conf": os.environ["CEPH_CONF"], "pool": POOL}


_WORK = {
    "create": lambda functions, images: functions["rbd_image.create"](images, "64M"),
    "read": lambda functions, images: functions["rbd_image.info"](images),
    "snapshot + protect": lambda functions, images: functions["rbd_snapshot.create"]("s", images=images, protect=True, consistency="crash"),
    "clone": lambda functions, images: [functions["rbd_clone.create"](image + "-clone", image + "@s") for image in images],
    "clones of one snapshot": lambda functions, images: functions["rbd_clone.create"](
        [image + "-desk" for image in images], images[0] + "@s"
    ),
}


def by_modules(count, rounds, folder):
    """This package's execution modules, loaded by Salt itself in one process."""
    import salt.client
    import salt.config

    minion(folder, {"ceph": ceph_pillar(), "rbd": {"volumes": {}}})
    functions = salt.client.Caller(mopts=salt.config.minion_config(str(folder / "minion"))).sminion.functions
    functions["rbd_image.cluster"]()  # connects
    found = {name: [] for name in _WORK}
    for turn in range(rounds):
        images = [f"{POOL}/ours{turn}-{number}" for number in range(count)]
        for name, work in _WORK.items():
            began = time.perf_counter()
            work(functions, images)
            found[name].append(time.perf_counter() - began)
    return found


def by_highstate(count, rounds, folder):
    """salt-call state.apply rbd over a pillar of that many volumes: made, then each with a snapshot more, then unchanged."""
    found = {"make": [], "snapshot": [], "unchanged": [], "salt": []}
    for turn in range(rounds):
        names = [f"vol{turn}-{number}" for number in range(count)]
        bare = {name: {"size": "64M"} for name in names}
        whole = {name: {"size": "64M", "snapshots": {"s": {"protected": True}}} for name in names}
        for step, volumes, sls in (
            ("make", bare, "rbd"),
            ("snapshot", whole, "rbd"),
            ("unchanged", whole, "rbd"),
            ("salt", whole, "nothing"),
        ):
            call = minion(folder / f"{turn}-{step}", {"ceph": ceph_pillar(), "rbd": {"volumes": volumes}})
            began = time.perf_counter()
            answer = json.loads(run(*call, "state.apply", sls))["local"]
            found[step].append(time.perf_counter() - began)
            wrong = [result["comment"] for result in answer.values() if result["result"] is not True]
            assert not wrong, wrong[:3]
            assert bool([result for result in answer.values() if result["changes"]]) == (step in ("make", "snapshot"))
    return found


def table(count, command, raw, modules, states):
    """Print the results."""
    print(f"| {count} images | rbd command, one by one | raw librbd, one by one | this package | rbd command / ours | raw librbd / ours |")
    print("|---|---|---|---|---|---|")
    for name in ("create", "read", "snapshot + protect", "clone", "clones of one snapshot"):
        ours = statistics.median(modules[name])
        row = [per_image(command[name]), per_image(raw[name]), f"{ours:.2f} s ({1000 * ours / count:.1f} ms)"]
        print(f"| {name} | {' | '.join(row)} | {sum(command[name]) / ours:.1f} | {sum(raw[name]) / ours:.1f} |")
    salt = statistics.median(states["salt"])
    rows = (
        ("create", "make", command["create"]),
        ("snapshot + protect", "snapshot", command["snapshot + protect"]),
        ("unchanged", "unchanged", command["look at image and snapshot"]),
    )
    for title, name, other in rows:
        ours = statistics.median(states[name]) - salt
        print(f"| highstate: {title} | {per_image(other)} | | {ours:.2f} s, and Salt itself {salt:.2f} s | {sum(other) / ours:.1f} | |")


def per_image(seconds):
    """All, and the median of one."""
    return f"{sum(seconds):.2f} s ({1000 * statistics.median(seconds):.1f} ms)"


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="images (200)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of this package's work; medians are shown (5)")
    chosen = parser.parse_args()
    if "CEPH_CONF" not in os.environ:
        parser.error("CEPH_CONF is not set: run this by ./lab shell -c 'python benchmarks/volumes.py'")
    fresh_pool()
    shown = ("paxos_propose_interval", "paxos_min_wait", "mon_tick_interval")
    interval = ", ".join(f"{name} {run('ceph', 'config', 'get', 'mon', name).strip()}" for name in shown)
    print(f"{run('ceph', 'version').strip()}; {interval}; {os.cpu_count()} CPUs; {chosen.rounds} rounds of ours, medians.")
    with tempfile.TemporaryDirectory() as folder:
        modules = by_modules(chosen.count, chosen.rounds, Path(folder) / "modules")
        states = by_highstate(chosen.count, chosen.rounds, Path(folder) / "states")
    command = by_command(chosen.count)
    raw = json.loads(run("/usr/bin/python3", str(Path(__file__).with_name("raw_librbd.py")), POOL, str(chosen.count)))
    table(chosen.count, command, raw, modules, states)
    run("ceph", "osd", "pool", "rm", POOL, POOL, "--yes-i-really-really-mean-it")


if __name__ == "__main__":
    main()
