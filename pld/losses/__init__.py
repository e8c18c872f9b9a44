"""Losses of (student logits, teacher, labels): Plackett-Luce distillation and the baselines it is compared with."""

from pld.losses.dist import DISTLoss, dist_loss
from pld.losses.kd import CrossEntropyLoss, KDLoss, cross_entropy_loss, kd_loss
from pld.losses.named import NamedLoss, RequiredSignal, build_loss, needs_teacher
from pld.losses.plackett_luce.nll import plackett_luce_nll
from pld.losses.ranking import (
    ListMLELoss,
    PLDLoss,
    PListMLELoss,
    gradient_error_bound,
    listmle_loss,
    pld_loss,
    plistmle_loss,
)
from pld.losses.registry import Setting, loss_names, loss_settings, losses_without_labels
from pld.losses.registry import loss as register_loss
from pld.losses.standardize import standardize_logits
from pld.losses.teacher import dense_logprobs
from pld.losses.variants.divergences import JSLoss, RKLLoss, SoftCELoss, js_loss, rkl_loss, soft_ce_loss
from pld.losses.variants.dkd import DKDLoss, dkd_loss
from pld.losses.variants.ea_kd import EAKDLoss, ea_kd_loss
from pld.losses.variants.rld import RLDLoss, rld_loss
from pld.losses.variants.wttm import WTTMLoss, wttm_loss

__all__ = [
    "CrossEntropyLoss",
    "DISTLoss",
    "DKDLoss",
    "EAKDLoss",
    "JSLoss",
    "KDLoss",
    "ListMLELoss",
    "NamedLoss",
    "PLDLoss",
    "PListMLELoss",
    "RKLLoss",
    "RLDLoss",
    "RequiredSignal",
    "Setting",
    "SoftCELoss",
    "WTTMLoss",
    "build_loss",
    "cross_entropy_loss",
    "dense_logprobs",
    "dist_loss",
    "dkd_loss",
    "ea_kd_loss",
    "gradient_error_bound",
    "js_loss",
    "kd_loss",
    "listmle_loss",
    "loss_names",
    "loss_settings",
    "losses_without_labels",
    "needs_teacher",
    "plackett_luce_nll",
    "pld_loss",
    "plistmle_loss",
    "register_loss",
    "rkl_loss",
    "rld_loss",
    "soft_ce_loss",
    "standardize_logits",
    "wttm_loss",
]
