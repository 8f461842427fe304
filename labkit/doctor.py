"""``./lab doctor``: the package's own doctor on the lab's cluster; without a lab, on this host. Needs neither Salt nor the bindings."""

import json
import sys

from labkit import cluster, processes
from labkit.home import REPO

_STATES = {"T": "is stopped (SIGSTOP)", "D": "waits in the kernel", "Z": "is dead"}


def main(home):
    """Print every finding and return 1 where one is a fault, else 0."""
    sys.path.insert(0, str(REPO / "_utils"))
    from saltrbd import doctor
    from saltrbd.doctor_finding import FAULT

    findings = [*_lab(home), *doctor.examine({"id": "lab"}, _pillar(home))]
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.status:8}{finding.name:{width + 2}}{finding.text}")
    print(doctor.summary(findings))
    return 1 if FAULT in {finding.status for finding in findings} else 0


def _pillar(home):
    """Return the lab's generated pillar: JSON, which is YAML too."""
    try:
        return json.loads((home.pillar / "ceph.sls").read_text())
    except (OSError, ValueError):
        return {}


def _lab(home):
    """Say whether the lab's cluster runs."""
    from saltrbd.doctor_finding import FAULT, OK, WARNING, Finding

    if cluster.facts(home.cluster) is None:
        yield Finding("lab", WARNING, "The lab is not running; ./lab up starts it. This host is examined as it is.")
        return
    running = cluster.daemons(home.cluster)
    for name in cluster.DAEMONS:
        if name not in running:
            yield Finding(f"lab {name}", FAULT, "It does not run; ./lab up brings the cluster up again.")
            continue
        state = processes.state(running[name])
        words = _STATES.get(state)
        yield Finding(f"lab {name}", FAULT if words else OK, f"Its process {running[name]} {words or 'runs'}.")
