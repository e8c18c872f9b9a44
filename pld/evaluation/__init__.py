"""Evaluation: a model's accuracy, likelihood and calibration on labelled images, and its agreement with a store."""

from pld.evaluation.measure import BATCH_SIZE, evaluate
from pld.evaluation.stored_signals import stored_signals

__all__ = ["BATCH_SIZE", "evaluate", "stored_signals"]
