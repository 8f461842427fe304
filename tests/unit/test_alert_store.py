"""The state of the alerts on the disk: whole, by one writer at a time, and never in the way when it is broken."""

import json
import subprocess
import sys

import pytest
from saltplatform import alerts
from saltplatform.store import Busy, Store

ADD = """
import sys
sys.path.insert(0, sys.argv[1])
from saltplatform.store import Store
for _ in range(20):
    with Store(sys.argv[2]).changed() as state:
        state["number"] += 1
"""


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def test_it_is_kept(store, tmp_path):
    with store.changed() as state:
        assert state == alerts.empty()
        state["number"] = 7
    with Store(str(tmp_path)).changed() as state:
        assert state["number"] == 7
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_it_is_not_written_when_nothing_changes_or_the_body_fails(store, tmp_path):
    with store.changed():
        pass
    assert not (tmp_path / "state.json").exists()
    with pytest.raises(RuntimeError), store.changed() as state:
        state["number"] = 7
        raise RuntimeError
    assert store.read()["number"] == 0


def test_ten_writers_lose_nothing(store, tmp_path, repo):
    writers = [subprocess.Popen([sys.executable, "-c", ADD, str(repo / "_utils"), str(tmp_path)]) for _ in range(10)]
    assert [writer.wait(120) for writer in writers] == [0] * 10
    assert store.read()["number"] == 200


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 0}', '{"version": 1}', "null"])
def test_what_is_no_state_is_put_aside(store, tmp_path, text, caplog):
    (tmp_path / "state.json").write_text(text)
    with store.changed() as state:
        assert state == alerts.empty()
        state["number"] = 1
    assert [path.read_text() for path in tmp_path.glob("state.json.broken-*")] == [text]
    assert "no state of alerts" in caplog.text
    assert json.loads((tmp_path / "state.json").read_text())["number"] == 1


def test_one_sends_at_a_time(store):
    with store.locked("delivery"), pytest.raises(Busy), store.locked("delivery", patience=0.0):
        pass
