"""What a launcher's environment asks for that changes a run: refused where the run's own options decide it."""

from __future__ import annotations

from collections.abc import Mapping

from pld.errors import ConfigError
from pld.precision import Precision

_SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
_WHERE = "from accelerate launch or its configuration file"


def check_launcher_variables(environment: Mapping[str, str], precision: Precision) -> None:
    """Raise ConfigError where accelerate would do, or be told, another thing than the run's options say.

    Args:
        environment: this process's.
        precision: the run's, as it is meant on this machine.
    """
    for name, what in _SHARDED.items():
        if environment.get(name, "").lower() in ("true", "1", "yes", "on"):
            raise ConfigError(
                f"{name} ({_WHERE}): training with {what} is not supported, each process holds the whole student; "
                "launch with --multi_gpu, or another configuration file (docs/launch)"
            )
    mixed = environment.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    # "no" is what the launcher says, too, where nothing was said to it.
    if mixed not in ("no", precision):
        ours = f"--precision {mixed}, or " if mixed in ("bf16", "fp16") else ""
        raise ConfigError(
            f"ACCELERATE_MIXED_PRECISION is {mixed} ({_WHERE}), and the run's --precision {precision}: give {ours}"
            "accelerate launch --mixed_precision no"
        )
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        raise ConfigError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS is {steps} in the environment, which would divide the gradients: "
            f"unset it, and give --accumulate {steps} for as many micro-batches"
        )
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() != "no":
        raise ConfigError(
            f"ACCELERATE_DYNAMO_BACKEND is {backend} ({_WHERE}), and the run's options compile the student: give "
            "accelerate launch --dynamo_backend no, and here --compile"
        )
