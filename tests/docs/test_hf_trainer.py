"""The example for Hugging Face's Trainer: an evaluation takes its own dataset's labels, not the teacher's rows."""

import importlib.util

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from pld.images import open_source
from pld.join.store_views import StoreViews
from pld.store import open_store
from tests.making import NUM_CLASSES, make_dataset, make_store, make_teacher
from tests.processes import ROOT


@pytest.mark.long
def test_an_evaluation_has_the_labels_cross_entropy(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    spec = importlib.util.spec_from_file_location("hf_trainer", ROOT / "docs" / "examples" / "hf_trainer.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    make_dataset(tmp_path / "data")
    make_teacher(tmp_path / "teacher")
    views = StoreViews(open_store(make_store(tmp_path, views=1, k=5)), open_source(str(tmp_path / "data")), size=32)
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
    student = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes, num_labels=NUM_CLASSES))
    images = torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(9) % NUM_CLASSES
    arguments = transformers.TrainingArguments(
        str(tmp_path / "run"), label_names=["targets"], remove_unused_columns=False, report_to="none", use_cpu=True
    )
    trainer = example.DistillationTrainer(
        student,
        arguments,
        data_collator=example.collate,
        train_dataset=views,
        eval_dataset=TensorDataset(images, labels),
    )
    found = trainer.evaluate()["eval_loss"]
    with torch.no_grad():
        wanted = cross_entropy(student.eval()(pixel_values=images / 127.5 - 1).logits, labels)
    assert found == pytest.approx(float(wanted), rel=1e-5)
