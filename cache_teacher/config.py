"""`cache-teacher`'s options, and the views that they ask for."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

from pld.errors import ConfigError
from pld.images import Source
from pld.join.mixing import ask_policy, choose_partners
from pld.logs import FILE_HELP, LEVEL_HELP, Level
from pld.options import AT_LEAST_ONE, check_values, option
from pld.precision import Precision
from pld.store import Decoder, FormatName
from pld.teachers import Teacher, short_name
from pld.views import Fixed, Policy, mix_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Run a teacher once over a dataset and write its top-k log-probabilities to a store."""

    teacher: str = option(
        "",
        "an alias (vit_large, vit_base, resnet152, mnv4_conv_large, mnv4_hybrid_medium, mnv4_hybrid_large), a timm "
        "name with or without tag, local-dir:FOLDER, hf-hub:REPO, torchvision:MODEL, transformers:REPO_OR_FOLDER, or "
        "python:MODULE:FUNCTION, which returns a module and its preprocessing",
    )
    weights: str | None = option(
        None,
        "a file to load in place of published weights, of timm's and torchvision's models (.safetensors or .pth; "
        "FILE#ENTRY if it holds several)",
    )
    data: str = option(
        "",
        "glyphs, tar shards such as 'train-{0000..1023}.tar' (quoted), a folder of images or shards, or ImageNet as "
        "docs/imagenet.md has it; shards also behind a URL",
    )
    split: str = option("train", "which part of a folder, by its name or another word for it; also names the store")
    class_names: str | None = option(
        None,
        "a file with the names of the data's classes in the order of their numbers (one a line, or JSON), or "
        "imagenet-1k; those of dataset.json or of the training split's folders if not given",
    )
    class_map: str | None = option(
        None,
        "a file that says which of the teacher's classes each of the data's is, where their names differ (a line each: "
        "data's class, a tab, teacher's class or its number; or a JSON object)",
    )
    unlabelled: bool = option(
        False,
        "take every image of the split, below a folder or in tars without .cls, and no labels: the teacher alone "
        "ranks; existing labels are ignored",
    )
    allow_wrong_labels: bool = option(
        False, "go on although the teacher's classes are probably in another order than the labels"
    )
    store: str | None = option(
        None, "the folder or URL (s3://BUCKET/STORE) to write; stores/DATA-TEACHER-SPLIT if not given"
    )
    views: int = option(50, "number of views of each image to store", check=AT_LEAST_ONE)
    k: int = option(50, "classes to keep for each view; the number of classes keeps every logit", check=AT_LEAST_ONE)
    tail_samples: int = option(
        0,
        "classes to draw from the rest of each view's classes, so that kd, dkd, soft_ce and wttm are unbiased at every "
        "temperature of --temperatures; part of the store's identity",
        check=("0 or more", lambda value: value >= 0),
    )
    error: float | None = option(
        None,
        "keep of each view as few classes as bring the bound of PLD's gradient error at T = 1 under this, such as "
        "0.03; --k is then the most; part of the store's identity",
        check=("above 0 and below 2", lambda value: value is None or 0 < value < 2),
    )
    policy: str | None = option(
        None,
        "how views are drawn: steps with commas between them, such as rrc,flip,rand-m9-mstd0.5-inc1,erase-0.25; light, "
        "deit, tinyvit or a1; fixed; or JSON; the dataset's own crop and flip if not given",
    )
    view_seed: int = option(0, "seed of the view policy; another seed draws other crops")
    temperatures: tuple[float, ...] = option(
        (0.5, 1.0, 1.5, 2.0, 4.0),
        "temperatures at which the mass outside the top k is kept",
        check=("positive ones, 1.0 among them", lambda values: 1.0 in values and min(values) > 0),
    )
    decoder: Decoder = option(
        "cpu",
        "cpu, or nvjpeg to decode on the GPU: other pixels, which students then see too; part of the store's identity",
    )
    precision: Precision = option("fp32", "precision of the teacher's forward pass; part of the store's identity")
    compile: bool = option(
        False, "run the teacher through torch.compile; on a GPU some teachers gain, all start a minute later"
    )
    batch_size: int = option(256, "views in one forward pass", check=AT_LEAST_ONE)
    threads: int | None = option(
        None,
        "decoding threads, beside a GPU decoding processes; if not given, the process's share of the cores",
        check=AT_LEAST_ONE,
    )
    on_bad_image: Literal["error", "skip"] = option(
        "error", "stop at an image that cannot be decoded, or leave it out and count it"
    )
    format: FormatName = option(
        "zarr", "what the parts of a new store are: zarr, or webdataset (tars that plain webdataset reads)"
    )
    dry_run: bool = option(
        False,
        "write nothing: say what is missing, how large the store will be, and how long it takes, from a measured "
        "minute",
    )
    device: str | None = option(None, "where the teacher runs; a GPU if there is one")
    log_level: Level = option("info", LEVEL_HELP)
    log_file: str | None = option(None, FILE_HELP)

    def __post_init__(self) -> None:
        missing = [f"--{name}" for name in ("teacher", "data") if not getattr(self, name)]
        if missing:
            raise ConfigError(
                f"{' and '.join(missing)} not given.\n"
                "  make cache TEACHER=vit_large DATA='imagenet/train-{0000..1023}.tar' VIEWS=50 K=50\n"
                "  cache-teacher --teacher vit_large --data glyphs --help"
            )
        check_values(self)
        if self.class_map and self.unlabelled and not self.class_names:
            raise ConfigError(
                "--class_map: images without labels have no classes of their own to map; name those that the store is "
                "to have with --class_names FILE, or leave --class_map out"
            )

    @property
    def store_path(self) -> str:
        """The store's place, named by what is in it unless given."""
        if self.store:
            return self.store
        data = Path(self.data).name or "data"
        words = [data, short_name(self.teacher), self.split]
        return "stores/" + "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", word).strip("_") for word in words)


def choose_policy(config: CacheConfig, source: Source, teacher: Teacher) -> Policy:
    """The view policy: the option's, else the dataset's; a fixed crop is the one the teacher was evaluated with.

    Raises:
        ConfigError: it cannot be read, or asks for what the dataset's own rules out.
    """
    default = dataclasses.replace(source.policy, seed=config.view_seed)
    if config.policy is None:
        policy = choose_partners(default, source)
    else:
        crop_fraction = teacher.preprocessing.crop_fraction
        policy = ask_policy(config.policy, default, source, default_crop_fraction=crop_fraction)
    if config.on_bad_image == "skip" and mix_steps(policy) and policy.partners == "dataset":
        raise ConfigError(
            f"--on_bad_image skip: the shards of {source.location} hold few classes or images, so that views are mixed "
            "across them. An image left out, and repaired later, would change what others were mixed with. Replace or "
            "remove such images; or write shuffled shards, whose images are mixed within each, and cache those: "
            f"pld data {config.data} --shards OUT"
        )
    return policy


def limit_views(policy: Policy, wanted: int) -> tuple[int, str | None]:
    """How many of the wanted views differ, and a note for the user if they are fewer: a fixed crop has one view."""
    if isinstance(policy, Fixed) and not policy.steps and wanted > 1:
        return 1, f"fixed draws one view of each image: 1 view is cached in place of {wanted}"
    return wanted, None
