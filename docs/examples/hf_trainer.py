"""Distil from a store with Hugging Face's Trainer: its `compute_loss` is all that changes.

Run it in a folder with a store: python hf_trainer.py DATA STORE
"""

import sys
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from pld.images import open_source
from pld.join.store_views import StoreViews
from pld.losses import PLDLoss
from pld.store import open_store


class DistillationTrainer(Trainer):
    """A Trainer whose train_dataset is a StoreViews; an eval_dataset gives (pixels, label)."""

    pld = PLDLoss()

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """PLD of the teacher's logits for the targets, which are rows; in an evaluation they are labels."""
        outputs = model(pixel_values=inputs["pixel_values"])
        if model.training:
            topk = self.train_dataset.topk(inputs["targets"])
            loss = self.pld(outputs.logits, topk, topk.labels)
        else:
            loss = cross_entropy(outputs.logits, inputs["targets"])
        return (loss, outputs) if return_outputs else loss


class NextView(TrainerCallback):
    """Epoch e trains on view e mod V."""

    def __init__(self, views: StoreViews) -> None:
        self.views = views

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Runs before the epoch's loader starts."""
        self.views.set_epoch(round(state.epoch or 0))


def collate(samples: list[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    """A batch as the Trainer moves it: normalised pixels, and the numbers that come with them."""
    pixels = torch.stack([pixels for pixels, _ in samples]).float() / 127.5 - 1
    return {"pixel_values": pixels, "targets": torch.tensor([target for _, target in samples])}


def main(data: str, store_url: str) -> None:
    """Train a student on the store's views."""
    store = open_store(store_url)
    views = StoreViews(store, open_source(data), size=32)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    student = ResNetForImageClassification(
        ResNetConfig(**sizes, num_labels=store.manifest.identity.teacher.num_classes)
    )
    arguments = TrainingArguments(
        "hf_run",
        num_train_epochs=3,
        per_device_train_batch_size=16,
        learning_rate=5e-3,
        remove_unused_columns=False,  # the targets are not an argument of the model
        label_names=["targets"],
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        dataloader_num_workers=2,
    )
    trainer = DistillationTrainer(
        student, arguments, data_collator=collate, train_dataset=views, callbacks=[NextView(views)]
    )
    trainer.train()
    for logged in trainer.state.log_history:
        if "loss" in logged:
            print(f"epoch {logged['epoch']:.0f}, loss {logged['loss']:.4f}")
    print(f"last view {views.view}")


if __name__ == "__main__":
    main(*sys.argv[1:])
