"""A bucket that fails: training goes on, and the run's end says what could not be pushed."""

import pytest
from s3fs import S3FileSystem

from tests.object_store import FaultyProxy
from train_student.run.bucket.mirror import working_folder


@pytest.fixture
def url(bucket):
    return f"{bucket}/runs/one"


@pytest.fixture
def proxy(object_store, bucket, monkeypatch):
    """Between runs and the bucket; lets everything pass at first."""
    monkeypatch.setattr("pld.remote.retry._FIRST_WAIT_SECONDS", 0.001)
    with FaultyProxy(object_store.port, failing=0, cutting=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        S3FileSystem.clear_instance_cache()
        yield proxy
    S3FileSystem.clear_instance_cache()


def fail(proxy, share):
    return lambda: setattr(proxy, "failing", share)


def forget_lock(storage):
    """Of a command that could not say that it gave the run up, and is dead."""
    for name in storage.list("lock"):
        storage.delete(name)


def test_a_bucket_that_fails_for_a_while_does_not_stop_training(
    settings, url, proxy, before_step, assert_finished, training
):
    before_step({9: fail(proxy, 1.0), 18: fail(proxy, 0.0)})
    status, printed = training(settings)
    assert status == 0
    warnings = [line for line in printed.splitlines() if f"warning: {url}: could not be pushed to: " in line]
    assert len(warnings) == 3  # steps 12 and 16, and the first epoch's metrics
    assert all("until then there is step-000000008" in line for line in warnings)
    assert_finished()


def test_a_run_whose_end_cannot_be_pushed_fails_and_says_how_to_push_it(
    settings, url, storage, proxy, before_step, assert_finished, training
):
    before_step({25: fail(proxy, 1.0)})
    status, printed = training(settings)
    assert status == 2
    assert f"error: {url}: the run's end could not be pushed: " in printed
    assert f"It is in {working_folder(url)}: give the same command with --resume auto on this machine" in printed
    proxy.failing = 0.0
    forget_lock(storage)
    status, printed = training(settings)
    assert status == 0
    assert "what an earlier command could not push is pushed now" in printed
    assert f"{url}: finished already" in printed
    assert_finished(steps=(24, 32))
