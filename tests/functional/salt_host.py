"""A host of its own for tests: Salt in its own network, process and mount namespaces, told what to do by JSON lines.

``python salt_host.py MINION_CONFIG_FOLDER`` reads ``{"number", "function", "args", "kwargs", "at"}`` and answers ``{"number", "result"}``
or ``{"number", "error", "class"}``. ``at`` is the time (seconds since 1970) to begin.
"""

import json
import os
import sys
import time


def main():
    import salt.client
    import salt.config

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever Salt prints is no answer
    caller = salt.client.Caller(mopts=salt.config.minion_config(os.path.join(sys.argv[1], "minion")))
    answers.write(json.dumps({"number": 0, "result": "ready"}) + "\n")
    for line in sys.stdin:
        order = json.loads(line)
        time.sleep(max(0.0, order["at"] - time.time()))
        try:
            answer = {"result": caller.cmd(order["function"], *order["args"], **order["kwargs"])}
        except Exception as error:  # noqa: BLE001 - the test looks at it
            answer = {"error": str(error), "class": type(error).__name__}
        answers.write(json.dumps({"number": order["number"], **answer}) + "\n")


if __name__ == "__main__":
    main()
