"""Who uses an image: who watches it, the advisory locks on it, its group. This session itself is no user."""

import mirrors


def watchers(session, handle):
    """Who watches the image, without this session's own."""
    return [
        {"address": item["addr"], "client": item["id"], "cookie": item["cookie"]}
        for item in handle.watchers_list()
        if item["id"] not in session.instances
    ]


def users_of(session, handle, pool, namespace):
    """The group, the watchers without this session's own, the rbd-mirror daemons among them, and the advisory locks (librbd's own exclusive
    lock has a cookie "auto ...")."""
    found = watchers(session, handle)
    copying = mirrors.clients(session, handle, pool, namespace) if found else ()
    lockers = handle.list_lockers() or {}
    group = handle.group()["name"]
    return {
        "group": group or None,
        "watchers": [watcher for watcher in found if watcher["client"] not in copying],
        "mirrors": [watcher for watcher in found if watcher["client"] in copying],
        "locks": [
            {"client": client, "cookie": cookie, "address": address}
            for client, cookie, address in lockers.get("lockers", [])
            if not cookie.startswith("auto ")
        ],
    }


def image_users(session, report, pool, namespace, image, snapshot=""):
    """Who uses the image: {"watchers": [...], "mirrors": [...], "locks": [...], "group": the group of images that it is in or None}."""
    with session.image(pool, namespace, image) as handle:
        return users_of(session, handle, pool, namespace)


OPERATIONS = {"image_users": image_users}
