"""Flattening and rolling back take longer than their limit as long as they get on; what stops is told, and goes on from there."""

import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults import lasts, stopped
from saltrbd import errors, spec

G = 1 << 30
LIMIT = 2


@pytest.fixture
def big_clone(make_client, pool):
    """Make a clone of so many bytes without an object map, so that every object is asked for; returns (clone, its parent)."""

    def make(size):
        parent, clone = (spec.parse(f"{pool}/{uuid.uuid4().hex[:8]}-{name}") for name in ("parent", "clone"))
        ceph = make_client()
        ceph.call("image_create", parent, size=size, features=["layering"])
        ceph.call("snapshot_create", parent.at("s"))
        ceph.call("clone_create", clone, parent=parent.at("s").where(), clone_format=2, features=["layering"])
        return clone, parent.at("s")

    return make


def test_a_flatten_goes_on_and_stops_without_progress(cluster, make_client, big_clone, caplog):
    ceph, (clone, _) = make_client(timeout=LIMIT, progress_timeout=LIMIT), big_clone(128 * G)
    with ThreadPoolExecutor(1) as threads:
        flatten = threads.submit(ceph.call, "clone_flatten", clone)
        time.sleep(LIMIT + 0.3)
        assert not flatten.done(), "it is fast here: take a larger image"
        with stopped(cluster, "ceph-osd"), lasts(LIMIT - 1, 2 * LIMIT), pytest.raises(errors.CephTimeout) as caught:
            flatten.result()
    assert str(caught.value).startswith(f"Flattening the image {clone} made no progress for {LIMIT} s on the cluster at ")
    patient = make_client(progress_timeout=60)
    with caplog.at_level(logging.INFO, logger="saltrbd.client"):
        patient.call("clone_flatten", clone)
    assert [line for line in caplog.messages if line.startswith(f"Flattening the image {clone}: ") and line.endswith("0 %")]
    assert patient.call("image_info", clone)["parent"] is None
    patient.call("clone_flatten", clone)  # one without a parent stays as it is


def test_a_rollback_may_take_its_time_for_each_object(make_client, big_clone):
    """It has no progress for Python: its limit grows with the image."""
    ceph, (_, snapshot) = make_client(progress_timeout=1.5), big_clone(128 * G)
    began = time.monotonic()
    ceph.call("snapshot_rollback", snapshot)
    assert time.monotonic() - began > 1.5, "it is fast here: take a larger image"
    facts = make_client().call("snapshot_compare", snapshot)
    assert (facts["differs_at"], facts["size"]) == (None, 128 * G)


def test_a_rollback_that_stops_is_told(cluster, make_client, make_images):
    (image,) = make_images(1)
    ceph = make_client(timeout=LIMIT, progress_timeout=LIMIT)
    ceph.call("snapshot_create", image.at("s"))
    with stopped(cluster, "ceph-osd"), lasts(LIMIT, 2 * LIMIT), pytest.raises(errors.CephTimeout) as caught:
        ceph.call("snapshot_rollback", image.at("s"))
    assert str(caught.value).startswith(f"Rolling the image back to {image}@s made no progress for {LIMIT} s on the cluster at ")
    patient = make_client()
    patient.call("snapshot_rollback", image.at("s"))
    assert patient.call("snapshot_compare", image.at("s"))["differs_at"] is None
