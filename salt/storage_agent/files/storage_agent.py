"""The storage agent: Salt's rest_cherrypy, which passes nothing on but the calls that the pillar names; loaded by ``netapi_dirs``.

Salt's own permissions (``external_auth``) stand behind it, and are not enough for "these functions and nothing else": of a list of
functions the master asks for one that is allowed and then runs all of them; ``saltutil.find_job`` is everybody's; and a call may name
a returner or an executor, which then runs on the minion as root. So a call has one of the shapes that are known here, or it is refused.
"""

import fnmatch
import html
import json
import logging
import re

try:
    import cherrypy
except ImportError:  # what is decided here can be tested without it
    cherrypy = None

log = logging.getLogger(__name__)

__virtualname__ = "storage_agent"

# Where a request may go; all else of rest_cherrypy (run, minions, jobs, keys, events, hook ...) is not there.
PATHS = ("/login", "/", "/logout")

CALL = ("client", "tgt", "tgt_type", "fun", "arg", "kwarg", "full_return")
LOGIN = ("username", "password", "eauth")
EAUTH = "file"

MINION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
KEYWORD = re.compile(r"[a-z][a-z0-9_]*")
# No character of a shell's, no white space, nothing that a command takes for an option.
TEXT = re.compile(r"(?!-)[A-Za-z0-9_./@:+,=-]*")

MOST_VALUES, MOST_DEPTH, LONGEST_TEXT = 200, 4, 1024
BIGGEST_NUMBER = 2**63


def refused_login(lowstate):
    """Return ``(status, sentence)`` for a login that has another shape than username and password, or None."""
    if not (isinstance(lowstate, list) and len(lowstate) == 1 and isinstance(lowstate[0], dict)):
        return 400, "A login is one JSON object with username and password."
    (login,) = lowstate
    if set(login) - set(LOGIN) or not {"username", "password"} <= set(login):
        return 400, "A login has username and password, and may have eauth; it has no other key."
    if not all(isinstance(value, str) and value for value in login.values()):
        return 400, "Username and password of a login must be text."
    return None


def refused(lowstate, rules):
    """Return ``(status, sentence)`` for the first call of a request that is not among what the ``rules`` allow, or None.

    ``rules`` has functions (exact names), targets (globs of minion ids), most_calls and most_minions. A refused request runs nothing of it.
    """
    if not (isinstance(lowstate, list) and lowstate and all(isinstance(call, dict) for call in lowstate)):
        return 400, "A request is a JSON object with one call, or a list of them."
    if len(lowstate) > rules["most_calls"]:
        return 400, f"A request has at most {rules['most_calls']} calls; this one has {len(lowstate)}."
    return next(filter(None, (_refused_call(call, rules) for call in lowstate)), None)


def _refused_call(call, rules):
    unknown = sorted(shown(key) for key in set(call) - set(CALL))
    if unknown:
        return 400, f"A call has the keys {', '.join(CALL)}; it cannot have {', '.join(unknown[:5])}."
    if call.get("client") != "local":
        return 403, f"The client of a call must be local, not {shown(call.get('client'))}."
    function = call.get("fun")
    if not isinstance(function, str) or function not in rules["functions"]:
        return 403, f"The function {shown(function)} is not among those that platform:agent:functions names."
    if not isinstance(call.get("full_return", False), bool):
        return 400, "full_return must be true or false."
    return _refused_target(call, rules) or _refused_arguments(call)


def _refused_target(call, rules):
    kind, target = call.get("tgt_type", "glob"), call.get("tgt")
    # Of all other kinds the master asks what minions have said of themselves.
    if kind not in ("glob", "list"):
        return 403, f"tgt_type must be glob or list, not {shown(kind)}."
    if kind == "glob" and isinstance(target, str) and target in rules["targets"]:
        return None
    wanted = [target] if kind == "glob" else target
    if not isinstance(wanted, list) or not wanted or len(wanted) > rules["most_minions"]:
        return 400, f"tgt must be a minion's id, or with tgt_type list a list of 1 to {rules['most_minions']} ids."
    for minion in wanted:
        if not (isinstance(minion, str) and MINION.fullmatch(minion) and any(fnmatch.fnmatchcase(minion, one) for one in rules["targets"])):
            return 403, f"The target {shown(minion)} is not among those that platform:agent:targets names."
    return None


def _refused_arguments(call):
    positional, named = call.get("arg", []), call.get("kwarg", {})
    if not isinstance(positional, list) or not isinstance(named, dict):
        return 400, "arg must be a list and kwarg an object."
    # Salt takes key=value for a keyword argument, and reads it as YAML.
    if any(isinstance(value, str) and "=" in value for value in positional):
        return 400, "A text in arg cannot hold '='; give keyword arguments in kwarg."
    left = [MOST_VALUES]
    return _refused_value(positional, left, 0) or _refused_value(named, left, 0)


def _refused_value(value, left, depth):
    left[0] -= 1
    if left[0] < 0 or depth > MOST_DEPTH:
        return 400, f"The arguments are more than {MOST_VALUES} values, or nested deeper than {MOST_DEPTH}."
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT or not TEXT.fullmatch(value):
            return (
                400,
                f"The argument {shown(value)} holds more than letters, digits and _ . / @ : + , = -, or begins with -, or is too long.",
            )
        return None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return None if abs(value) < BIGGEST_NUMBER else (400, "A number in the arguments is too big.")
    if isinstance(value, dict):
        wrong = [key for key in value if not (isinstance(key, str) and KEYWORD.fullmatch(key))]
        if wrong:
            return 400, f"The key {shown(wrong[0])} is no name of an argument."
        value = list(value.values())
    return next(filter(None, (_refused_value(item, left, depth + 1) for item in value)), None)


def shown(value):
    """Return a value for a message, short."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def __virtual__():
    if not __opts__.get("storage_agent"):
        return False
    if cherrypy is None:
        return False, "The storage agent needs CherryPy in Salt's Python: pip install cherrypy."
    return __virtualname__


def start():
    """Serve; salt-api runs this in a process of its own, under Salt's user."""
    from cherrypy.lib import sessions
    from salt.netapi.rest_cherrypy import app

    rules = __opts__["storage_agent"]
    server = {key: rules[key] for key in ("host", "port", "thread_pool", "max_request_body_size")}
    root, _, conf = app.get_app(dict(__opts__, rest_cherrypy=dict(server, disable_ssl=True)))

    def entry():
        """Before a session is looked for: a token that nobody was given leaves nothing behind."""
        request = cherrypy.request
        if request.path_info not in PATHS or request.method != "POST":
            raise cherrypy.HTTPError(404, "There are POST /login, POST / and POST /logout.")
        if request.path_info != "/logout" and request.headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
            raise cherrypy.HTTPError(415, "The body must be application/json.")
        if request.path_info != "/login" and request.headers.get("X-Auth-Token") not in sessions.RamSession.cache:
            raise cherrypy.HTTPError(401, "Log in first (POST /login), and send what you got as X-Auth-Token.")

    def check():
        """After the body was read, and before anything of it is run."""
        request = cherrypy.request
        if request.path_info == "/logout":
            return
        lowstate = request.lowstate
        found = refused_login(lowstate) if request.path_info == "/login" else refused(lowstate, rules)
        if found:
            log.warning("Refused for %s: %s", request.headers.get("X-Forwarded-For", request.remote.ip), found[1])
            raise cherrypy.HTTPError(*found)
        for call in lowstate:
            # There is one kind of account, whatever the platform calls it.
            call.update({"eauth": EAUTH} if request.path_info == "/login" else {"timeout": rules["timeout"]})

    cherrypy.tools.storage_agent_entry = cherrypy.Tool("on_start_resource", entry, priority=10)
    # rest_cherrypy's own tool has made the low data by then (priority 50).
    cherrypy.tools.storage_agent_check = cherrypy.Tool("before_handler", check, priority=60)
    own = {"tools.storage_agent_entry.on": True, "tools.storage_agent_check.on": True, "error_page.default": _error}
    conf["/"].update(own, **{"tools.cors_tool.on": False, "tools.html_override.on": False})
    cherrypy.quickstart(root, "/", conf)


def _error(status, message, traceback, version):
    """The body of an answer that is an error; CherryPy has made the message fit for a page."""
    cherrypy.response.headers["Content-Type"] = "application/json"
    return json.dumps({"error": html.unescape(message)})
