"""Generated specs, sizes, settings and pillars, most of them bad: only errors of our own, and what is valid comes back.

3,060 examples in all: 600 specs, 400 sizes, 400 configurations, 300 declarations, 800 pillars with anything in them,
500 pillars that mostly make sense, 60 more of these rendered by Salt.
"""

import contextlib
import datetime
import fnmatch
import json

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from saltrbd import clone, errors, features, image, size, snapshot, spec, tree, volumes
from saltrbd import settings as saltrbd_settings

CHOSEN = saltrbd_settings.load({}, {})


def examples(number):
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


# Anything that YAML, JSON or a state's Python can hand over.

TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(["", "\ud800", "a\0b", "-x", "{}", "{0!r}", "%s", "x" * 300, "true", "1e3"])
# Hypothesis itself cannot show a number of more than 4300 digits before it is made.
HUGE = st.sampled_from([5000, 20000]).map(lambda digits: 10**digits)
NUMBERS = st.integers() | st.sampled_from([0, -1, 2**31, 2**32, 2**63, 2**64]) | st.floats() | HUGE
LEAVES = (
    st.none()
    | st.booleans()
    | NUMBERS
    | TEXT
    | st.binary(max_size=4)
    | st.dates()
    | st.just(datetime.timedelta(1))
    | st.sampled_from([set(), frozenset([1]), ..., object, 1j])
)
KEYS = TEXT | st.integers() | st.booleans() | st.none() | HUGE | st.just(float("nan")) | st.just((1, 2))
JUNK = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)


def maybe(good):
    """A good value, and now and then anything."""
    return st.one_of(good, good, good, good, JUNK)


@contextlib.contextmanager
def named_errors():
    """Let only errors of our own pass, with a message that can be printed anywhere."""
    try:
        yield
    except errors.RbdError as error:
        event("refused by " + type(error).__name__)
        assert type(error) is not errors.RbdError
        message = str(error)
        assert message
        message.encode("utf-8")
        assert "\n" not in message
        assert "\0" not in message


# Specs and sizes.

NAMES = st.text(st.sampled_from("ab*[]?.:-_é😀%{}#'\"\\$"), min_size=1, max_size=6)
SEPARATED = st.lists(NAMES | TEXT | st.sampled_from(["/", "@", "//", "@@", " "]), max_size=7).map("".join)
SPECS = st.builds("{}/{}@{}".format, NAMES, NAMES, NAMES) | st.builds("{}/{}/{}".format, NAMES, NAMES, NAMES) | SEPARATED | JUNK


@examples(600)
@given(SPECS, st.none() | NAMES, st.none() | NAMES)
def test_specs(text, pool, namespace):
    for parse in (spec.parse, spec.parse_image, spec.parse_snapshot):
        with named_errors():
            parsed = parse(text, pool, namespace)
            event("parsed")
            assert spec.parse(str(parsed)) == parsed
            assert str(spec.parse(str(parsed))) == str(parsed)
            if text.count("/"):  # it names its pool
                assert str(parsed) == text


SIZES = (
    st.integers(1, 2**63 - 1)
    | st.builds("{}{}{}".format, st.integers(-1, 10**6) | st.floats(), st.sampled_from(["", " "]), st.text("KMGTPEIBkmgib ", max_size=3))
    | JUNK
)


@examples(400)
@given(SIZES)
def test_sizes(value):
    with named_errors():
        number = size.parse(value)
        event("parsed")
        assert 1 <= number < 2**63
        assert size.parse(size.show(number)) == number
        assert size.parse(str(number)) == number


# What a state is given.

DECLARED = {
    "image_size": st.sampled_from(["1G", 4096]),
    "image_features": st.sampled_from([["layering"], "layering,exclusive-lock", []]),
    "object_size": st.sampled_from(["4M", "1M"]),
    "stripe_unit": st.sampled_from(["64K", 4096]),
    "stripe_count": st.integers(1, 8),
    "data_pool": st.sampled_from(["ec", "p"]),
    "metadata": st.dictionaries(TEXT, TEXT | NUMBERS, max_size=2),
    "config": st.dictionaries(st.sampled_from(["rbd_cache", "rbd_qos_iops_limit"]), TEXT | NUMBERS, max_size=2),
}


@examples(300)
@given(st.fixed_dictionaries({}, optional={key: maybe(good) for key, good in DECLARED.items()}), JUNK, JUNK)
def test_declarations(declared, anything, names):
    with named_errors():
        want = image.desired(**declared)
        event("declared")
        for plan in (
            image.plan_present(spec.parse("p/i"), None, want, defaults={"default_features": "61", "default_order": 22}),
            image.plan_drift(spec.parse("p/i"), image.planned_facts(dict(want, size=1)), want),
        ):
            assert plan.steps or plan.refusals or not plan.changes
    for check in (clone.check_format, features.declared, snapshot.check_consistency, image.check_restore):
        with named_errors():
            check(anything)
    for check in (image.flag, image.names):
        with named_errors():
            check(anything, "what")
    with named_errors():
        assert all(item.snapshot for item in snapshot.named(anything, names, "p"))


# Pillars.

CEPH = {
    **{key: st.sampled_from(["a", "b"]) for key in ("conf", "user", "keyring", "fsid", "pool", "namespace")},
    "fs_type": st.sampled_from(["ext4", "xfs"]),
    "monitors": st.lists(st.just("192.0.2.1:6789"), max_size=2),
}
LIMITS = {
    **{key: st.integers(1, 100) for key in ("timeout", "progress_timeout", "freeze_timeout", "threads")},
    "python": st.just("/usr/bin/python3"),
    "driver": st.sampled_from(["auto", "fuse"]),
}


def section(good, junk=True):
    keys = {key: maybe(value) if junk else value for key, value in good.items()}
    return st.fixed_dictionaries({}, optional=keys)


CONFIGURATIONS = maybe(st.fixed_dictionaries({}, optional={"ceph": maybe(section(CEPH)), "rbd": maybe(section(LIMITS))}))


@examples(400)
@given(CONFIGURATIONS, CONFIGURATIONS)
def test_configurations(opts, pillar):
    opts, pillar = (value if isinstance(value, dict) else {"ceph": value, "rbd": value} for value in (opts, pillar))
    with named_errors():
        chosen = saltrbd_settings.load(opts, pillar)
        event("loaded")
        assert hash(chosen) == hash(saltrbd_settings.load(opts, pillar))
        assert all(isinstance(word, str) for word in saltrbd_settings.command_args(chosen))
        with named_errors():
            volumes.read(saltrbd_settings.plain(pillar.get("rbd") or {}), chosen)


PLACES = {"pool": st.sampled_from(["rbd", "q"]), "namespace": st.sampled_from(["", "n"])}
LAYOUT = {
    "size": st.sampled_from(["1G", "2G", 4096]),
    "features": st.sampled_from([["layering"], ["layering", "exclusive-lock"]]),
    "object_size": st.just("4M"),
    "data_pool": st.just("ec"),
    "metadata": st.dictionaries(st.sampled_from(["a", "é😀"]), st.sampled_from(["x", "😀", 1, True, "a: b", "{{ x }}", "%", "'\""])),
}
MOUNTS = st.sampled_from(["/m", "/m/a", "/m/a/b", "/m/b", "/n", "/n/*", "/n/[a]", "/n/é😀"])
MOUNTED = {
    "mount": MOUNTS,
    "fs_type": st.sampled_from(["ext4", "xfs"]),
    "mount_options": st.lists(st.sampled_from(["noatime", "discard"]), max_size=2),
    "persist": st.booleans(),
    "driver": st.sampled_from(["auto", "fuse", "krbd"]),
    "map_options": st.lists(st.sampled_from(["a", "b=c"]), max_size=2),
    "exclusive": st.booleans(),
    "encryption": st.just({"format": "luks2", "passphrase": "It-is-secret"}),
}
SNAPSHOT_NAMES = st.sampled_from(["s", "t", "*", "é😀"])
IMAGE_NAMES = st.sampled_from(["a", "b", "c", "d", "[ab]", "*", "é😀", "a.b", "yes", "1", "a'b", "{}", "#"])


def snapshots(junk):
    options = section({"protected": st.booleans(), "consistency": st.sampled_from(["auto", "crash", "filesystem"])}, junk)
    return st.dictionaries(SNAPSHOT_NAMES | KEYS if junk else SNAPSHOT_NAMES, options | st.none(), max_size=3)


def pillar(junk):
    names = IMAGE_NAMES | KEYS if junk else IMAGE_NAMES
    parents = st.builds("{}@{}".format, IMAGE_NAMES, SNAPSHOT_NAMES)
    common = {**PLACES, **LAYOUT, **MOUNTED, "snapshots": snapshots(junk)}
    del common["size"]
    optional = {key: maybe(value) if junk else value for key, value in common.items()}
    volume = st.fixed_dictionaries(
        {"size": maybe(LAYOUT["size"]) if junk else LAYOUT["size"]},
        optional={**optional, "label": st.just("data"), "mkfs_options": st.lists(st.just("-q"), max_size=1), "allow_shrink": st.booleans()},
    )
    above = {"parent": maybe(parents) if junk else parents}
    below = st.fixed_dictionaries(above, optional={**optional, "clone_format": st.sampled_from([1, 2, "auto"])})
    declared = {
        "volumes": st.dictionaries(names, maybe(volume) if junk else volume, max_size=4),
        "clones": st.dictionaries(names, maybe(below) if junk else below, max_size=4),
    }
    return st.fixed_dictionaries({}, optional={key: maybe(value) if junk else value for key, value in declared.items()})


def check_layout(found):
    """Every requisite is there once, and nothing waits for itself."""
    states = {state["id"]: state for group in found.values() for state in group}
    assert len(states) == sum(len(group) for group in found.values())
    before = {}
    for identity, state in states.items():
        before[identity] = set()
        for requisite in state["require"]:
            ((module, pattern),) = requisite.items()
            matches = [other for other in states if fnmatch.fnmatch(other, pattern) and states[other]["function"].startswith(module + ".")]
            assert len(matches) == 1, (pattern, matches)
            before[identity].add(matches[0])
    left = dict(before)
    while left:
        free = [identity for identity, waits in left.items() if not waits & set(left)]
        assert free, left
        for identity in free:
            del left[identity]
    return states, before


def all_before(identity, before):
    found, ahead = set(), [identity]
    while ahead:
        for other in before[ahead.pop()] - found:
            found.add(other)
            ahead.append(other)
    return found


@examples(800)
@given(maybe(pillar(junk=True)))
def test_pillars_with_anything_in_them(section):
    with named_errors():
        entries = volumes.read(saltrbd_settings.plain(section), CHOSEN)
        event("read")
        check_layout(tree.layout(entries))


def sensible(section):
    """Make it likelier to be valid: no option of a mount without one, no freeze without one, parents that have their snapshots."""
    for group in section.values():
        for declared in group.values():
            mounted = declared.get("mount") is not None
            for key in [] if mounted else [*MOUNTED, "label", "mkfs_options"]:
                declared.pop(key, None)
            for name, options in declared.get("snapshots", {}).items():
                if options and options.get("consistency") == "filesystem" and not mounted:
                    declared["snapshots"][name] = dict(options, consistency="crash")
    for declared in section.get("clones", {}).values():
        name, _, wanted = declared["parent"].partition("@")
        for group in section.values():
            if name in group and group[name] is not declared:
                group[name].setdefault("snapshots", {}).setdefault(wanted, None)
    return section


SENSIBLE = pillar(junk=False).map(sensible)


@examples(500)
@given(SENSIBLE)
def test_pillars_that_make_sense(section):
    with named_errors():
        entries = volumes.read(section, CHOSEN)
        event("read")
        states, before = check_layout(tree.layout(entries))
        made = {
            spec.parse(name).at(state["arguments"]["name"]) if "images" in state["arguments"] else spec.parse(name): identity
            for identity, state in states.items()
            if state["function"].startswith("rbd_snapshot.")
            for name in state["arguments"].get("images", [state["arguments"]["name"]])
        }
        for entry in entries:
            mount = "rbd mount {}".format(entry["mount"])
            for name in entry["snapshots"]:
                # A snapshot comes after its image, and after the mount that is frozen for it.
                identity = made[entry["spec"].at(name)]
                assert "rbd {} {}".format("clone" if entry["clone"] else "image", entry["spec"]) in all_before(identity, before)
                assert entry["mount"] is None or mount in all_before(identity, before)
            if entry["clone"] and entry["parent"] in made:
                assert made[entry["parent"]] in all_before("rbd clone {}".format(entry["spec"]), before)
            if entry["mount"]:
                assert "rbd device {}".format(entry["spec"]) in all_before(mount, before)


@pytest.fixture(scope="module")
def render(repo, tmp_path_factory):
    """Render the state tree's SLS over a layout, by Salt's own Jinja and YAML."""
    import salt.config
    import salt.utils.templates
    import salt.utils.yaml

    folder = tmp_path_factory.mktemp("minion")
    minion = {"id": "tests", "root_dir": str(folder), "file_client": "local", "file_roots": {"base": [str(repo / "salt")]}}
    (folder / "minion").write_text(json.dumps(minion))
    opts = dict(salt.config.minion_config(str(folder / "minion")), saltenv="base")

    def rendered(layout, name):
        context = {
            "opts": opts,
            "saltenv": "base",
            "sls": "rbd." + name,
            "grains": {},
            "pillar": {},
            "salt": {"rbd_volumes.layout": lambda: layout},
        }
        path = repo / "salt/rbd" / (name + ".sls")
        text = salt.utils.templates.render_jinja_tmpl(path.read_text(), context, tmplpath=str(path))
        return salt.utils.yaml.safe_load(text)

    return rendered


@examples(60)
@given(section=SENSIBLE)
def test_the_state_tree_renders_to_what_is_laid_out(render, section):
    try:
        found = dict(tree.layout(volumes.read(section, CHOSEN)), mistakes=None)
    except errors.InvalidPillar:
        return
    for name, groups in (
        ("images", ["images"]),
        ("clones", ["clones"]),
        ("devices", ["devices"]),
        ("filesystems", ["filesystems", "mounts"]),
        ("snapshots", ["snapshots"]),
    ):
        rendered = render(found, name) or {}
        rendered.pop("include", None)
        if name == "images" and not (found["images"] or found["clones"]):
            # A pillar without volumes says so, in one place.
            assert "rbd_volumes.declared" in rendered.pop("the pillar rbd")
        wanted = {state["id"]: state for group in groups for state in found[group]}
        assert set(rendered) == set(wanted)
        for identity, state in wanted.items():
            ((function, arguments),) = rendered[identity].items()
            given_there = {key: value for argument in arguments for key, value in argument.items()}
            require = given_there.pop("require", [])
            assert (function, given_there, require) == (state["function"], state["arguments"], state["require"])
