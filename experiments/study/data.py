"""The study's images: links to the shards of DATA, all of them for the teacher, the first ones for the students."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from experiments.study.config import WORK
from pld.errors import ConfigError, DataError
from pld.files import write_text, writing
from pld.images import open_source
from pld.images.sources.description import DATASET_FILE
from pld.store import dataset_digest

DATA = WORK / "data"
# Objects fill these photos: ImageNet's own crops, down to 8 % of the area, would leave little of them at 32 pixels.
_VIEWS = {"name": "random_resized_crop", "scale": [0.35, 1.0], "flip": True}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyData:
    """What the study is about, for its hashes and its page.

    Attributes:
        digests: of the teacher's, the students' and the validation images, as stores compute them.
        sizes: how many images each has.
        num_classes: C.
    """

    digests: dict[str, str]
    sizes: dict[str, int]
    num_classes: int


def prepare_data(location: str, images: int) -> StudyData:
    """Link the shards into runs/study/data and describe them.

    Raises:
        ConfigError: runs/study/data holds links to other shards.
        DataError: no shards, or unusable ones.
    """
    folder = Path(location).expanduser().resolve()
    train, val = (sorted(folder.glob(f"{split}-*.tar")) for split in ("train", "val"))
    if not train or not val:
        raise DataError(
            f"{location}: wanted tar shards train-*.tar and val-*.tar; pld data FOLDER --shards OUT makes them"
        )
    source = open_source(str(folder))
    names = source.class_names or tuple(str(i) for i in range(int(source.known_labels().max()) + 1))
    sizes = source.shard_sizes
    enough = next((n for n in range(1, len(train) + 1) if sum(sizes[:n]) >= images), len(train))
    _link(DATA / "teacher", [*train, *val])
    _link(DATA / "student", [*train[:enough], *val])
    write_text(DATA / DATASET_FILE, json.dumps({"class_names": names, "view_policy": _VIEWS}))
    sources = {
        "teacher": open_source(str(DATA / "teacher")),
        "student": open_source(str(DATA / "student")),
        "val": open_source(str(DATA / "student"), "val"),
    }
    return StudyData(
        digests={name: dataset_digest(source.keys, source.labels) for name, source in sources.items()},
        sizes={name: len(source) for name, source in sources.items()},
        num_classes=len(names),
    )


def _link(folder: Path, shards: list[Path]) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = {path.name: path.resolve() for path in folder.iterdir()}
        wanted = {path.name: path for path in shards}
        if held and held != wanted:
            raise ConfigError(f"{folder}: links to other shards; remove {WORK} to begin a study of these")
        for name, path in wanted.items():
            if not held:
                (folder / name).symlink_to(path)
