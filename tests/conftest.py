"""Shape and type annotations are checked at run time: the hook must come before the packages are imported."""

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(["pld", "cache_teacher", "train_student"], "beartype.beartype").__enter__()

# Two shared cores: a slow example says nothing.
settings.register_profile("pld", deadline=None)
settings.load_profile("pld")
