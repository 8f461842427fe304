"""What the doctor finds: a name, how bad it is, and a sentence with what to do."""

from collections import namedtuple

OK, WARNING, FAULT, UNKNOWN = "ok", "warning", "fault", "unknown"

Finding = namedtuple("Finding", "name status text")
