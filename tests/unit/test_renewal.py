"""The package as ``from saltrbd import ...`` sees it: always that on the disk."""

import json
import shutil
import subprocess
import sys

PROGRAM = """
import json, sys, threading
sys.path.insert(0, sys.argv[1])
from saltrbd import client, errors, spec
first = (client, errors)

def load():
    space = {}
    exec("from saltrbd import client, errors, spec\\nfrom saltrbd.errors import RbdError\\nimport saltrbd", space)
    return space

def told(space):
    return [space["client"] is first[0], space["errors"].RbdError is space["RbdError"], getattr(space["spec"], "ADDED", None)]

answers = [told(load())]
with open(sys.argv[1] + "/saltrbd/spec.py", "a") as file:
    file.write("ADDED = 'new'\\n")
answers.append(told(load()))
again, more = load(), []
threads = [threading.Thread(target=lambda: more.append(load()["client"])) for _ in range(8)]
with open(sys.argv[1] + "/saltrbd/added.py", "w") as file:
    file.write("\\n")
[thread.start() for thread in threads], [thread.join() for thread in threads]
answers.append([len(set(map(id, more))), more[0] is again["client"]])
with open(sys.argv[1] + "/saltrbd/worker/trash.py", "a") as file:
    file.write("\\n")
answers.append(load()["client"] is more[0])
before = load()["client"]
import shutil
shutil.rmtree(sys.argv[1])
answers.append(load()["client"] is before)
print(json.dumps(answers))
"""


def test_renewal(repo, tmp_path):
    shutil.copytree(repo / "_utils", tmp_path / "core", ignore=shutil.ignore_patterns("__pycache__"))
    ran = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "core")], stdout=subprocess.PIPE, timeout=60, check=True)
    unchanged, changed, at_once, worker, gone = json.loads(ran.stdout)
    assert unchanged == [True, True, None]
    assert changed == [False, True, "new"]
    assert at_once == [1, False], "eight threads get one and the same new core"
    assert worker is False, "a changed worker is a changed package"
    assert gone is True, "what is in memory goes on when the files are gone"
