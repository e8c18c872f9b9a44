"""Evaluation: a model's accuracy, likelihood and calibration on labelled images, and its agreement with a store."""

from pld.evaluation.measure import evaluate
from pld.evaluation.stored_signals import stored_signals

__all__ = ["evaluate", "stored_signals"]
