"""Teacher and data agree by name: whatever the order and the number of classes on each side."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch

from pld.errors import ConfigError, DataError
from pld.images import open_source
from pld.join.match import join_source, map_classes
from pld.join.recheck_teacher import rerun_teacher
from pld.report.card import dataset_card
from pld.report.table import store_rows
from pld.signals import TopK
from pld.store import open_store
from pld.store.maintain.verify import verify_store
from pld.store.objects.open import open_storage
from pld.teachers import build_teacher, view_logits
from pld.views import RandomResizedCrop
from tests.end_to_end.colours import NAMES, colour_folder, colour_tar, square, sure_teacher
from tests.end_to_end.commands import cached, caching
from tests.making import write_tar


def top1(store):
    return round(store.stats.accuracy, 3)


def probabilities(store):
    """{key: {class name: probability}} of view 0."""
    topk = store.load_view(0)[np.arange(store.num_samples)]
    names = store.manifest.identity.dataset.class_names
    rows = zip(store.keys.tolist(), topk.classes.tolist(), topk.logprobs.exp().tolist(), strict=True)
    return {key.decode(): {names[c]: p for c, p in zip(cs, ps, strict=True)} for key, cs, ps in rows}


@pytest.mark.parametrize("how", ["dataset.json", "--class_names", "folders"])
def test_classes_in_another_order_give_the_same_numbers(tmp_path, teacher, how):
    data = colour_folder(tmp_path / "data")
    plain = cached(data, teacher, tmp_path / "plain", "-k", 8)
    assert plain.manifest.identity.teacher.class_map is None
    order = NAMES[3:] + NAMES[:3]
    more = ()
    if how == "dataset.json":
        (data / "dataset.json").write_text(json.dumps({"class_names": order}))
    elif how == "--class_names":
        (tmp_path / "names.txt").write_text("\n".join(order))
        more = ("--class_names", tmp_path / "names.txt")
    else:
        teacher = sure_teacher(tmp_path / "teacher", order)
    store = cached(data, teacher, tmp_path / "s", "-k", 8, *more)
    assert top1(store) == top1(plain) == 1.0
    assert store.manifest.identity.teacher.class_map.columns == tuple(
        (NAMES if how != "folders" else order).index(name) for name in (order if how != "folders" else NAMES)
    )
    if how != "folders":  # the same teacher: what it says of each class stays
        said, wanted = probabilities(store), probabilities(plain)
        for key, row in wanted.items():
            assert said[key] == pytest.approx(row, rel=0.02, abs=1e-4)


def test_a_subset_of_the_teachers_classes_is_renormalised_and_what_it_leaves_out_is_told(tmp_path, teacher):
    data = colour_folder(tmp_path / "data", ("fox", "bee", "gnu"))
    store = cached(data, teacher, tmp_path / "s")
    identity = store.manifest.identity
    assert (identity.teacher.num_classes, identity.dataset.class_names) == (3, ("bee", "fox", "gnu"))
    assert identity.teacher.class_map.columns == (1, 5, 6)
    assert identity.teacher.class_map.model_classes == 8
    assert top1(store) == 1.0
    live = build_teacher(f"local-dir:{teacher}")
    source = open_source(str(data))
    all_logits = torch.cat(
        [view_logits(live, source, range(len(source)), view, RandomResizedCrop()) for view in (0, 1)]
    )
    outside = 1 - all_logits.double().softmax(1)[:, [1, 5, 6]].sum(1)
    assert store.stats.mean_unmapped_mass == pytest.approx(float(outside.mean()), rel=1e-4)
    shown = f"{100 * float(outside.mean()):.3g} % of its probability was on the others"
    assert shown in dict(store_rows(store))["left out"]
    assert "3 of the model's 8" in dict(store_rows(store))["classes"]
    assert shown in dataset_card(store, "other", "somewhere")
    assert list(verify_store(open_storage(str(tmp_path / "s")), lambda *_: None)) == []


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_gradient_bound_holds_against_a_live_mapped_teacher(tmp_path, teacher, k):
    from pld.losses import gradient_error_bound, pld_loss

    data = colour_folder(tmp_path / "data", NAMES[1:6][::-1])
    store = cached(data, teacher, tmp_path / "s", "-k", k, "--views", 1)
    source = join_source(store, open_source(str(data)))
    live, _ = map_classes(build_teacher(f"local-dir:{teacher}"), source.classes)
    logits = view_logits(live, source, range(len(source)), 0, RandomResizedCrop())
    topk = store.load_view(0)[store.rows(source.keys)]
    labels = torch.from_numpy(source.labels)
    for seed in range(5):
        student = 3 * torch.randn(len(source), 5, generator=torch.Generator().manual_seed(seed))
        gradients = []
        for signal in (topk, logits):
            s = student.clone().requires_grad_()
            pld_loss(s, signal, labels, reduction="none").sum().backward()
            gradients.append(s.grad)
        error = (gradients[0] - gradients[1]).abs().sum(1)
        bound = gradient_error_bound(topk)
        assert bool((error <= bound + 1e-5).all())
        assert k > 2 or error.max() > 0.01 * bound.max()  # the bound is about something
    dense = TopK.from_logits(logits, labels, k, topk.temperatures)
    assert torch.equal(topk.classes, dense.classes)
    assert (topk.logprobs - dense.logprobs).abs().max() <= topk.logprob_error + 1e-4


def test_a_mapped_teacher_is_compared_again_and_goes_on(tmp_path, teacher):
    data = colour_folder(tmp_path / "data", ("gnu", "ant"))
    store = cached(data, teacher, tmp_path / "s", "-k", 2, "--views", 1)
    agreement = rerun_teacher(store, open_source(str(data)), build_teacher(f"local-dir:{teacher}"), 12)
    assert agreement.max_l1 <= agreement.rounding + 1e-4
    before = store.manifest.identity.fingerprint
    assert cached(data, teacher, tmp_path / "s", "-k", 2, "--views", 3).num_views == 3
    assert open_store(tmp_path / "s").manifest.identity.fingerprint == before
    # Another map is another store.
    (tmp_path / "map.tsv").write_text("ant\tbee\ngnu\tgnu\n")
    assert (
        caching(data, teacher, tmp_path / "s", "-k", 2, "--class_map", tmp_path / "map.tsv", "--allow_wrong_labels")
        == 2
    )


@pytest.mark.parametrize("form", ["names", "numbers", "json"])
def test_a_class_map_where_names_differ(tmp_path, teacher, capsys, form):
    german = {"ameise": "ant", "biene": "bee", "katze": "cat"}
    data = colour_folder(tmp_path / "data", german.values())
    for new, old in german.items():
        (data / old).rename(data / new)
    assert caching(data, teacher, tmp_path / "s") == 2
    error = capsys.readouterr().err
    assert re.search(r"3 of 3 classes are not among those of resnet18: 'ameise'.*--class_map FILE", error)
    lines = {"names": german, "json": german, "numbers": {new: NAMES.index(old) for new, old in german.items()}}[form]
    path = tmp_path / ("map.json" if form == "json" else "map.tsv")
    path.write_text(json.dumps(lines) if form == "json" else "".join(f"{a}\t{b}\n" for a, b in lines.items()))
    store = cached(data, teacher, tmp_path / "s", "--class_map", path)
    assert (top1(store), store.manifest.identity.dataset.class_names) == (1.0, ("ameise", "biene", "katze"))


def test_numbers_without_names(tmp_path, teacher, nameless, capsys):
    """Tars that state no names: as many classes go on with a word, another number is refused."""
    colour_tar(tmp_path / "all.tar", {name: number for number, name in enumerate(NAMES)})
    colour_tar(tmp_path / "few.tar", {name: number for number, name in enumerate(NAMES[:5])})
    assert top1(cached(tmp_path / "all.tar", teacher, tmp_path / "a")) == 1.0
    assert "states no class names: its classes 0 to 7 are assumed to be those of resnet18" in capsys.readouterr().err
    assert top1(cached(tmp_path / "all.tar", nameless, tmp_path / "b")) == 1.0
    for who, store in ((teacher, "c"), (nameless, "d")):
        assert caching(tmp_path / "few.tar", who, tmp_path / store) == 2
        error = capsys.readouterr().err
        assert re.search("few.tar: 5 classes without names; resnet18: 8 classes.*--class_names", error)
        assert not (tmp_path / store).exists()
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    assert top1(cached(tmp_path / "few.tar", teacher, tmp_path / "c", "--class_names", tmp_path / "names.txt")) == 1.0


def test_folders_that_are_numbers(tmp_path, nameless):
    """ImageNetV2 comes as folders 0 to 999, which sorted as text are 0, 1, 10, 100."""
    data = colour_folder(tmp_path / "data", NAMES[::-1])
    for number, name in enumerate(NAMES):
        (data / name).rename(data / str(number))
    store = cached(data, nameless, tmp_path / "s")
    assert (top1(store), store.manifest.identity.teacher.class_map) == (1.0, None)
    few = colour_folder(tmp_path / "few", ("hen", "cat"))
    for number, name in ((7, "hen"), (2, "cat")):
        (few / name).rename(few / str(number))
    store = cached(few, nameless, tmp_path / "s2", "-k", 2)
    assert (top1(store), store.manifest.identity.teacher.class_map.columns) == (1.0, (2, 7))


def test_a_thousand_inferred_classes_are_only_taken_where_a_name_is_theirs(tmp_path):
    """A model of 1000 classes of which nobody says that they are ImageNet's."""
    import timm

    from pld.views.preprocessing import Preprocessing
    from train_student.model.student import export

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=1000)
    export(model, Preprocessing(input_size=(32, 32)), None, tmp_path / "t")
    teacher = build_teacher(f"local-dir:{tmp_path / 't'}")
    assert teacher.names_inferred
    data = colour_folder(tmp_path / "d", ("ant", "bee"))
    with pytest.raises(DataError, match=r"2 classes, 'ant', 'bee'; test_resnet: 1000 classes without names"):
        map_classes(teacher, open_source(str(data)).classes)
    for new, old in (("n02123045", "ant"), ("n01440764", "bee")):
        (data / old).rename(data / new)
    mapped, note = map_classes(teacher, open_source(str(data)).classes)
    assert (mapped.columns, note, mapped.num_outputs) == ((0, 281), None, 2)
    shutil.rmtree(data / "n01440764")
    (data / "n02123045").rename(data / "n02123045x")
    colour_folder(data, ("cat",))
    (data / "cat").rename(data / "n01440764")
    with pytest.raises(DataError, match="1 of 2 classes are not among"):
        map_classes(teacher, open_source(str(data)).classes)


class TestATeacherNearChance:
    def wrong(self, tmp_path, each=20):
        """Numbers in another order than the teacher's, and nothing that says so."""
        return colour_tar(tmp_path / "wrong.tar", {n: (i + 3) % 8 for i, n in enumerate(NAMES)}, each)

    def test_is_stopped_and_nothing_is_written(self, tmp_path, nameless, capsys):
        assert caching(self.wrong(tmp_path), nameless, tmp_path / "s") == 2
        error = capsys.readouterr().err
        assert re.search(r"right on 0.0 % of the first 320 views; by chance it would be on 12.5 %", error)
        assert re.search(
            r"another order than the labels \(taken: '\d' for '\d' 100 %.*go on with --allow_wrong_labels", error
        )
        assert not list((tmp_path / "s").glob("commits/**/*.json"))

    def test_its_advice_is_right(self, tmp_path, teacher, nameless, capsys):
        data = self.wrong(tmp_path)
        assert caching(data, teacher, tmp_path / "s") == 2
        shutil.rmtree(tmp_path / "s")  # as it says
        order = [NAMES[(i - 3) % 8] for i in range(8)]
        (tmp_path / "names.txt").write_text("\n".join(order))
        assert top1(cached(data, teacher, tmp_path / "s", "--class_names", tmp_path / "names.txt")) == 1.0
        (tmp_path / "map.tsv").write_text("".join(f"{i}\t{(i - 3) % 8}\n" for i in range(8)))
        assert top1(cached(data, nameless, tmp_path / "s2", "--class_map", tmp_path / "map.tsv")) == 1.0
        assert top1(cached(data, nameless, tmp_path / "s3", "--allow_wrong_labels")) == 0.0

    def test_is_stopped_where_some_classes_keep_their_place(self, tmp_path, nameless, capsys):
        """As those of folders 0 to 11 do between their order as text and as numbers."""
        numbers = dict(zip(NAMES, (0, 1, 2, 3, 7, 4, 5, 6), strict=True))
        assert caching(colour_tar(tmp_path / "half.tar", numbers, 60), nameless, tmp_path / "s") == 2
        assert "right on 50.0 %" in capsys.readouterr().err

    def test_looks_on_where_a_folder_begins_with_one_class(self, tmp_path, nameless, capsys):
        """Sorted by class, with the first class in its place: the first 2,000 views say nothing of the others."""
        members = {}
        for label, name in enumerate(NAMES):
            images = 220 if label == 0 else 32
            for i in range(images):
                members[f"{label}{name}{i:04}.png"] = square(label, i % 7)
                members[f"{label}{name}{i:04}.cls"] = str(label if label == 0 else label % 7 + 1).encode()
        tar = write_tar(tmp_path / "sorted.tar", members)
        assert caching(tar, nameless, tmp_path / "s", "--views", 10) == 2
        assert "probably in another order" in capsys.readouterr().err

    def test_is_let_go_on_where_it_is_as_unsure_as_it_is_wrong(self, tmp_path):
        import timm

        from pld.views.preprocessing import Preprocessing
        from train_student.model.student import export

        torch.manual_seed(0)
        export(
            timm.create_model("test_resnet", num_classes=8), Preprocessing(input_size=(32, 32)), NAMES, tmp_path / "t"
        )
        assert top1(cached(colour_folder(tmp_path / "d", each=12), tmp_path / "t", tmp_path / "s")) < 0.5


def test_the_identity_says_which_columns(tmp_path, teacher):
    store = cached(colour_folder(tmp_path / "d", ("cat", "hen")), teacher, tmp_path / "s", "-k", 2, "--views", 1)
    told = json.loads((tmp_path / "s" / "store.json").read_text())["identity"]["teacher"]
    assert told["class_map"] == {"model_classes": 8, "columns": [2, 7]}
    assert told["num_classes"] == 2
    held = store.manifest.identity.teacher
    for columns in ((2, 2), (2, 8), (2,)):
        with pytest.raises(ConfigError, match="class map"):
            dataclasses.replace(held, class_map=dataclasses.replace(held.class_map, columns=columns))
