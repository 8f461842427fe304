#!py
"""Managed by Salt. What a node's beacon rbd_health reports goes on as data; nothing of it is rendered."""


def run():
    """The reaction to one event: Salt gives ``tag`` and ``data``."""
    return {"report of rbd_health": {"runner.platform_alerts.report": [{"args": [{"tag": tag}, {"data": data}]}]}}  # noqa: F821
