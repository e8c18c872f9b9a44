"""timm's training loop (train.py of 1.0.23 and later), distilling from a store: the two changed lines are marked.

Run it in a folder with a store: python timm_task.py DATA STORE
"""

import sys

import timm
import torch
from timm.data import create_loader, resolve_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

from pld.images import open_source
from pld.store import open_store
from pld.timm import PLDTask, StoreViews

EPOCHS = 3


def main(data: str, store_url: str) -> None:
    """Train a student on the store's views."""
    device, store = torch.device("cuda" if torch.cuda.is_available() else "cpu"), open_store(store_url)
    model = timm.create_model("test_resnet", num_classes=store.manifest.identity.teacher.num_classes).to(device)
    data_config = resolve_data_config({"input_size": (3, 32, 32)}, model=model)
    # In place of create_dataset(...):
    dataset_train = StoreViews(store, open_source(data), data_config["input_size"][1:])
    loader_train = create_loader(
        dataset_train,
        input_size=data_config["input_size"],
        batch_size=16,
        is_training=True,
        mean=data_config["mean"],
        std=data_config["std"],
        num_workers=2,
        device=device,
    )
    # In place of ClassificationTask(model, criterion, ...):
    task = PLDTask(model, dataset_train, device=device)
    optimizer = create_optimizer_v2(model, opt="lamb", lr=5e-3)
    schedule, num_epochs = create_scheduler_v2(optimizer, num_epochs=EPOCHS, updates_per_epoch=len(loader_train))
    for epoch in range(num_epochs):
        loader_train.dataset.set_epoch(epoch)
        model.train()
        sums = dict.fromkeys(("loss", "label_loss", "teacher_loss"), 0.0)
        for images, rows in loader_train:
            result = task(images, rows)
            result["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            sums = {name: total + result[name].item() for name, total in sums.items()}
        schedule.step(epoch + 1)
        means = ", ".join(f"{name} {total / len(loader_train):.4f}" for name, total in sums.items())
        print(f"epoch {epoch}, view {dataset_train.view}: {means}")


if __name__ == "__main__":
    main(*sys.argv[1:])
