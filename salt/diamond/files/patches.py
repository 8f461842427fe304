"""What the source release 4.0.515 needs beyond 2to3 to run on Python 3: (file, how often the text stands there, the text, the new text)."""

CONTINUE = "                        continue\n"
GIVE_UP = "                        self.given_up.add(process_name)\n" + CONTINUE

# A collector that has failed ends; Diamond started it anew at once, to fail at every interval.
MAY_START = """\
    def may_start(self, name):
        started, pause = self.starts.get(name, (0, 0))
        now = time.time()
        if now < started + pause:
            return False
        # After an hour's work a failure is a new one.
        pause = min(max(30, 2 * pause), 3600) if now < started + 3600 else 30
        if started:
            self.log.warning('%s had ended and is started again; should it '
                             'end once more, then after %d s', name, pause)
        self.starts[name] = (now, pause)
        return True

    def run(self):
"""

PATCHES = [
    # open() was called file() too; 2to3 cannot know that it is not somebody's own function.
    ("bin/diamond", 1, "file(options.pidfile, 'r')", "open(options.pidfile, 'r')"),
    ("bin/diamond", 2, "file(options.pidfile, 'w+')", "open(options.pidfile, 'w+')"),
    # Collectors and handlers are handed to their processes as they are, which only a fork can do; Python 3.14 starts otherwise.
    (
        "bin/diamond",
        1,
        "        setproctitle(os.path.basename(__file__))\n    main()",
        "        setproctitle(os.path.basename(__file__))\n    multiprocessing.set_start_method('fork')\n    main()",
    ),
    # A socket takes bytes.
    (
        "src/diamond/handler/graphite.py",
        1,
        "self._send_data(''.join(self.metrics))",
        "self._send_data(''.join(self.metrics).encode('utf-8'))",
    ),
    # At the end the queue may be gone before those who put into it.
    (
        "src/diamond/handler/queue.py",
        1,
        "        self._flush()\n\n    def process",
        "        try:\n            self._flush()\n        except (EOFError, OSError):\n            pass\n\n    def process",
    ),
    # A collector that cannot be loaded says so once, not once a second for ever; a reload (SIGHUP) tries again.
    (
        "src/diamond/server.py",
        1,
        "        self.metric_queue = None\n",
        "        self.metric_queue = None\n        self.given_up = set()\n        self.starts = {}\n",
    ),
    (
        "src/diamond/server.py",
        1,
        "for process_name in running_collectors - running_processes:",
        "for process_name in (running_collectors - running_processes -\n                                     self.given_up):",
    ),
    (
        "src/diamond/server.py",
        1,
        "                                       collector_name)\n" + CONTINUE,
        "                                       collector_name)\n" + GIVE_UP,
    ),
    (
        "src/diamond/server.py",
        1,
        "                                       process_name)\n" + CONTINUE,
        "                                       process_name)\n" + GIVE_UP,
    ),
    (
        "src/diamond/server.py",
        1,
        "                self.config = load_config(self.configfile)\n                collectors",
        "                self.given_up.clear()\n                self.config = load_config(self.configfile)\n                collectors",
    ),
    ("src/diamond/server.py", 1, "    def run(self):\n", MAY_START),
    (
        "src/diamond/server.py",
        1,
        "                    collector = initialize_collector(\n",
        "                    if not self.may_start(process_name):\n"
        + CONTINUE
        + "\n                    collector = initialize_collector(\n",
    ),
    # Python 3.7 and newer know no such escape in a regular expression.
    ("src/collectors/numa/numa.py", 1, "\\MB'", "MB'"),
    # The root of a container is a filesystem too.
    ("src/collectors/diskspace/diskspace.py", 1, "device == 'tmpfs'", "device in ('tmpfs', 'overlay')"),
    # PostgreSQL's own processes belong to no database.
    (
        "src/collectors/postgres/postgres.py",
        1,
        "        FROM pg_stat_activity\n        GROUP BY pg_stat_activity.datname",
        "        FROM pg_stat_activity\n        WHERE datname IS NOT NULL\n        GROUP BY pg_stat_activity.datname",
    ),
]
