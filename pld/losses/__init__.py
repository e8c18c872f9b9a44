"""Losses of (student logits, teacher, labels): Plackett-Luce distillation and the baselines it is compared with."""

from pld.losses.dist import dist_loss
from pld.losses.distances import cross_entropy_loss, dkd_loss, kd_loss
from pld.losses.error_bound import gradient_error_bound
from pld.losses.modules import (
    CrossEntropyLoss,
    DISTLoss,
    DKDLoss,
    KDLoss,
    ListMLELoss,
    PLDLoss,
    PListMLELoss,
)
from pld.losses.plackett_luce.nll import plackett_luce_nll
from pld.losses.ranking import listmle_loss, pld_loss, plistmle_loss
from pld.losses.registry import NamedLoss, RequiredSignal, build_loss, loss_names, required_signal
from pld.losses.standardize import standardize_logits
from pld.losses.teacher import dense_logprobs

__all__ = [
    "CrossEntropyLoss",
    "DISTLoss",
    "DKDLoss",
    "KDLoss",
    "ListMLELoss",
    "NamedLoss",
    "PLDLoss",
    "PListMLELoss",
    "RequiredSignal",
    "build_loss",
    "cross_entropy_loss",
    "dense_logprobs",
    "dist_loss",
    "dkd_loss",
    "gradient_error_bound",
    "kd_loss",
    "listmle_loss",
    "loss_names",
    "plackett_luce_nll",
    "pld_loss",
    "plistmle_loss",
    "required_signal",
    "standardize_logits",
]
