"""Teachers: the names that `--teacher` takes, and the frozen models that are built from them."""

from pld.teachers.build import build_teacher
from pld.teachers.names import ALIASES, FOLDER_PREFIXES, check_model_name, short_name, stated_identity
from pld.teachers.own_code import register_teacher
from pld.teachers.teacher import Teacher, view_logits
from pld.teachers.timm_models import model_preprocessing
from pld.teachers.trial import set_image_size
from pld.teachers.weights import tensors_digest, weights_digest

__all__ = [
    "ALIASES",
    "FOLDER_PREFIXES",
    "Teacher",
    "build_teacher",
    "check_model_name",
    "model_preprocessing",
    "register_teacher",
    "set_image_size",
    "short_name",
    "stated_identity",
    "tensors_digest",
    "view_logits",
    "weights_digest",
]
