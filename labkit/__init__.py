"""The lab behind ``./lab``: an embedded Ceph cluster, Salt beside it, the demo and the tests.

Standard library only, run by the system's own Python, so that nothing has to be installed
before the lab itself installs it.
"""
