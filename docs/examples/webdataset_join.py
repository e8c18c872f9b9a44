"""Distil in a plain WebDataset pipeline, straight from the images' shards and a store.

Run it in a folder with a store: python webdataset_join.py 'DATA/train-{0000..0002}.tar' STORE
"""

import sys

import timm
import torch
import webdataset

from pld.losses import pld_loss
from pld.store import open_store
from pld.webdataset import collate, join


def main(shards: str, store_url: str) -> None:
    """Train a student on the store's views."""
    store = open_store(store_url)
    student = timm.create_model("test_resnet", num_classes=store.manifest.identity.teacher.num_classes)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3)
    step = join(store, size=32)
    samples = webdataset.WebDataset(shards, shardshuffle=100, seed=0).compose(step).shuffle(1000)
    loader = webdataset.WebLoader(samples, batch_size=16, num_workers=1, collate_fn=collate)
    for epoch in range(3):
        step.set_epoch(epoch)
        for batch in loader:
            logits = student(batch["pixels"].float() / 127.5 - 1)
            loss = pld_loss(logits, batch["topk"], batch["topk"].labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(f"epoch {epoch}, view {step.view_index}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
