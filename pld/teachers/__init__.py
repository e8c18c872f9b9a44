"""Teachers: the names that `--teacher` takes, and the frozen models that are built from them."""

from pld.teachers.build import build_teacher, model_preprocessing, read_weights, tensors_digest, weights_digest
from pld.teachers.image_size import set_image_size
from pld.teachers.names import ALIASES, FOLDER_PREFIXES, check_model_name
from pld.teachers.teacher import Teacher, view_logits

__all__ = [
    "ALIASES",
    "FOLDER_PREFIXES",
    "Teacher",
    "build_teacher",
    "check_model_name",
    "model_preprocessing",
    "read_weights",
    "set_image_size",
    "tensors_digest",
    "view_logits",
    "weights_digest",
]
