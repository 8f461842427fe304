"""The platform around the storage: its settings, and who is told when something is wrong. Plain Python, without any Salt dunder."""
