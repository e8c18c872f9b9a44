"""The card: what the hub reads of it, what people read, and that a store does not mind it."""

import dataclasses

import pytest
from huggingface_hub import DatasetCard

from pld.cli.main import main
from pld.report.card import _size_category, dataset_card, write_card
from pld.store import StoreWriter, open_store
from pld.store.objects.local_storage import LocalStorage
from tests.store.world import World


def written(root, world, **teacher):
    """A finished store of a teacher with other fields."""
    identity = dataclasses.replace(world.identity, teacher=dataclasses.replace(world.identity.teacher, **teacher))
    writer = StoreWriter.open(str(root), identity, world.shards, {"date": "2026-01-01"})
    for part in writer.missing_parts(2):
        world.write_part(writer, part)
    writer.seal()
    return writer


def test_the_hub_reads_it(tmp_path, monkeypatch, capsys):
    world = World()
    writer = written(tmp_path, world)
    monkeypatch.setattr(
        "sys.argv", ["pld", "card", str(tmp_path), "--license", "cc-by-4.0", "--url", "hf://datasets/me/it"]
    )
    assert main() == 0
    assert f"card: {tmp_path}/README.md" in capsys.readouterr().out
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.pretty_name == "resnet50.a1_in1k: top 4 of 20 classes, 2 views an image"
    assert card.data.task_categories == ["image-classification"]
    assert card.data.size_categories == ["n<1K"]
    assert "knowledge-distillation" in card.data.tags
    store = open_store(str(tmp_path))
    for fact in (
        "17 images", store.manifest.identity.fingerprint, world.identity.teacher.weights_sha256, "2026-01-01",
        f"{100 * store.stats.accuracy:.2f} %", f"{store.gradient_error_bound()[0]:.3g} on average",
        'open_store("hf://datasets/me/it")', "--store hf://datasets/me/it", "KD or DIST above temperature 1",
    ):  # fmt: skip
        assert fact in card.text, fact
    # Readers and writers do not mind it, and it outlives a sweep.
    assert open_store(str(tmp_path)).num_views == 2
    assert writer.missing_parts(2) == []
    writer.seal()
    assert (tmp_path / "README.md").exists()
    # It may be written again while it is pld's.
    assert write_card(LocalStorage(tmp_path), "# mine")
    assert not write_card(LocalStorage(tmp_path), card.content)


def test_a_strangers_names_are_text(tmp_path):
    name = 'x"\n---\nlicense: mit\n# <script>alert(1)</script> | [a](b)'
    written(tmp_path, World(), name=name, tag="")
    card = DatasetCard(dataset_card(open_store(str(tmp_path)), "other", "URL"))
    assert card.data.license == "other"
    assert name in card.data.pretty_name
    assert "<script>" not in card.text
    assert "\nlicense: mit" not in card.text


def test_every_class_is_said_to_be_there(tmp_path):
    World(k=20).write(tmp_path, 1)
    assert "All classes are here" in dataset_card(open_store(str(tmp_path)), "other", "URL")


@pytest.mark.parametrize(
    ("settings", "kept", "needs_all"),
    [
        ({}, "top 4 of 20 classes", "what needs all of them (KD or DIST above temperature 1, ListMLE)"),
        ({"error": 0.3}, "at most the top 4 of 20 classes", "what needs all of them (KD or DIST above temperature 1,"),
        (
            {"tail_samples": 3},
            "top 4 of 20 classes and 3 drawn from the others",
            "the classes drawn make KD right on average at each temperature that is kept; what else needs all of them",
        ),
    ],
)
def test_it_says_which_classes_are_there_and_what_they_do_for(tmp_path, settings, kept, needs_all):
    World(**settings).write(tmp_path, 1)
    card = DatasetCard(dataset_card(open_store(str(tmp_path)), "other", "URL"))
    assert card.data.pretty_name == f"resnet50.a1_in1k: {kept}, 1 views an image"
    the = "" if kept.startswith("at most") else "the "
    assert f"With {the}{kept}, {needs_all}" in card.text


def test_a_licence_is_an_identifier(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pld", "card", str(tmp_path), "--license", "a b\nc"])
    with pytest.raises(SystemExit):
        main()
    assert "wanted an identifier such as cc-by-4.0" in capsys.readouterr().err


def test_sizes_are_named_as_on_the_hub():
    sizes = {999: "n<1K", 1000: "1K<n<10K", 1_281_167: "1M<n<10M", 10**9: "1B<n<10B", 10**12: "n>1T"}
    assert {size: _size_category(size) for size in sizes} == sizes
