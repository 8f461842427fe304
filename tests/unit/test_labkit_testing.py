"""Which tests run for which words, and which requirements they bring."""

import configparser

import pytest

from labkit import prepare, testing
from labkit.commands import LabError


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    monkeypatch.setattr(testing, "_folders", lambda: ["faults", "functional", "integration", "unit", "vagrant"])


def runs(*words):
    version, parts, rest = testing._understand(words)
    return [(salt, [path.name for path in folders], rest) for salt, folders in testing._runs(version, parts, rest)]


NEW, OLD = prepare.SALT, prepare.OTHER_SALT
ALL = ["unit", "functional", "integration"]
BOTH = [path.name for path in testing._on_both()]
APART = ["test_kills.py", "test_secrets.py", "test_secrets_events.py"]
HALF, OTHER_HALF = ([path.name for path in half] for half in testing._halves())
HERE = "tests/unit/test_labkit_testing.py"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [(NEW, APART, []), (NEW, ["unit", *HALF], [])]),
        (["-k", "lab"], [(NEW, APART, ["-k", "lab"]), (NEW, ["unit", *HALF], ["-k", "lab"])]),
        (["--lane"], [(OLD, BOTH, []), (NEW, OTHER_HALF, [])]),
        (["--lane", "-k", "lab"], [(OLD, BOTH, ["-k", "lab"]), (NEW, OTHER_HALF, ["-k", "lab"])]),
        (["--salt", OLD], [(OLD, APART, []), (OLD, ALL, [])]),
        (["faults", "--kills", "200", "--seed", "7"], [(NEW, ["faults"], ["--kills", "200", "--seed", "7"])]),
        (["unit"], [(NEW, ["unit"], [])]),
        (["vagrant"], [(NEW, ["vagrant"], [])]),
        (["unit", "functional", "-x"], [(NEW, ["unit", "functional"], ["-x"])]),
        (["functional", f"--salt={OLD}", "-k", "unit"], [(OLD, ["functional"], ["-k", "unit"])]),
        (["unit", "functional", HERE], [(NEW, ["functional"], [HERE])]),
        ([HERE], [(NEW, [], [HERE])]),
        ([f"{HERE}::test_x", "--salt", OLD], [(OLD, [], [f"{HERE}::test_x"])]),
    ],
)
def test_runs(words, expected):
    assert runs(*words) == expected


def test_what_runs_on_both_versions(repo):
    there = {path.name for path in (repo / "tests/functional").glob("test_*.py")}
    assert set(BOTH) | set(testing.ONCE) == there and not set(BOTH) & set(testing.ONCE)
    for name in ("image", "snapshot", "clone", "device", "filesystem"):
        assert f"test_rbd_{name}.py" in BOTH


def test_no_file_is_left_out(repo):
    assert sorted(HALF + OTHER_HALF) == sorted(path.name for path in (repo / "tests/functional").glob("test_*.py"))


@pytest.mark.parametrize(
    ("codes", "several", "code"),
    [
        ([0, 0], True, 0),
        ([1, 0], True, 1),
        ([0, 1], True, 1),
        ([5, 0], True, 0),
        ([0, 5, 1], True, 1),
        ([5, 5], True, 5),
        ([5], False, 5),
        ([2], False, 2),
    ],
)
def test_an_earlier_failure_is_not_forgotten_and_one_run_may_have_no_tests(codes, several, code):
    assert testing._code(codes, several) == code


@pytest.mark.parametrize("words", [["--salt"], ["lint", "unit"]])
def test_words_that_make_no_sense_are_refused(words):
    with pytest.raises(LabError):
        testing._understand(words)


def test_lint_is_a_part():
    assert testing._understand(["lint"]) == (None, ["lint"], [])


def test_requirements_come_from_setup_cfg():
    assert "pytest-salt-factories" in prepare.extra("tests")
    assert "ruff" in prepare.extra("lint")


def test_the_package_names_every_folder_with_code(repo):
    setup = configparser.ConfigParser()
    setup.read(repo / "setup.cfg")
    mapped = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    assert sorted(mapped) == sorted(setup["options"]["packages"].split())
    code = {str(path.parent.relative_to(repo)) for path in (repo / "_utils").rglob("*.py")}
    assert code | {"_beacons", "_modules", "_runners", "_states"} == set(mapped.values())
