"""Shape and type annotations are checked at run time: the hook must come before the packages are imported."""

from jaxtyping import install_import_hook

install_import_hook(["pld", "cache_teacher", "train_student"], "beartype.beartype").__enter__()
