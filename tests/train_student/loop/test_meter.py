"""What a run is advised that waits for images."""

from train_student.loop import meter


def test_advice_where_much_time_goes_into_waiting(monkeypatch):
    assert meter.advice(0.1, 3) is None
    monkeypatch.setattr(meter, "HAS_BOXES", True)
    usual = meter.advice(0.25, 3)
    assert usual.startswith("25 % of the time went into waiting for images: raise --workers (now 3 for each process)")
    monkeypatch.setattr(meter, "HAS_BOXES", False)
    assert meter.advice(0.25, 3).removeprefix(usual).startswith("; here photos are decoded beyond their crops")
