"""docs/shown.md: every test that it names exists, and every row names one."""

import ast
import re

import pytest

NAMED = re.compile(r"`(\w+)/(test_\w+)::(test_\w+)`")
# Features and mistakes that the page must account for.
ROWS = (38, 16)


@pytest.fixture(scope="module")
def page(repo):
    return (repo / "docs/shown.md").read_text()


@pytest.fixture(scope="module")
def tables(page):
    """The rows of the two tables: [[(what, where)], ...]."""
    found = []
    for part in page.split("\n## ")[1:]:
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
        found.append([tuple(row) for row in rows[1:]])
    return found


def functions(path):
    """The names of the functions at a file's top."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_shown_or_open(tables):
    assert tuple(map(len, tables)) == ROWS
    for row in [row for rows in tables for row in rows]:
        assert len(row) == 2, row
        what, where = row
        # Nothing but names of tests, or the word open with its reason.
        assert NAMED.search(where) or where.startswith("open: "), what
        assert where.startswith("open: ") or NAMED.sub("", where).strip(", ") == "", what
    assert [what.partition(".")[0] for what, _ in tables[1]] == [str(number) for number in range(1, ROWS[1] + 1)]


def test_every_named_test_exists(repo, page):
    named = NAMED.findall(page)
    assert len(named) > 100
    known, missing = {}, []
    for folder, file, name in named:
        path = repo / "tests" / folder / f"{file}.py"
        if path not in known:
            known[path] = functions(path) if path.exists() else set()
        if name not in known[path]:
            missing.append(f"{folder}/{file}::{name}")
    assert missing == []


def test_what_runs_in_machines(repo, page):
    """The page's list is that of tests/vm/test_functional.py, and what a row says is shown by krbd or nbd is in one of its files."""
    body = ast.parse((repo / "tests/vm/test_functional.py").read_text()).body
    (files,) = [node.value for node in body if isinstance(node, ast.Assign) and node.targets[0].id == "FILES"]
    head = page.partition("\n## ")[0]
    listed = re.findall(r"`(test_\w+)`(?:,|\n)", head.rpartition("shown there:")[2] + "\n")
    assert tuple(listed) == ast.literal_eval(files)
    for line in page.splitlines():
        if line.startswith("| ") and re.search(r"\(\*krbd", line):
            assert any(folder == "vm" or file in listed for folder, file, _ in NAMED.findall(line)), line
