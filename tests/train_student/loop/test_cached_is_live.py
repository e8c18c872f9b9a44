"""Distilling from the store is distilling from the live teacher, to within what the store certifies."""

import itertools

import numpy as np
import pytest
import timm
import torch

from pld.images import open_source
from pld.join.match import join_source, stored_policy
from pld.join.mixing import plan_mixing
from pld.loading import view_decoder
from pld.losses import gradient_error_bound, pld_loss
from pld.signals import MixedLabels, larger_share
from pld.store import open_store
from pld.teachers import build_teacher
from pld.views.preprocessing import Preprocessing
from tests.making import SIDE, make_store, make_teacher
from train_student.data.batches import epoch_items, load_batches
from train_student.data.teacher_signal import LiveTeacher, StoredTeacher

NUM_CLASSES = 40  # more than the dataset's labels use, so that a top-10 leaves a tail
STEPS = 50


def read_batches(source, decoder, items):
    with load_batches(source, decoder, items, workers=0) as batches:
        yield from batches


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp("forty") / "teacher", num_classes=NUM_CLASSES)


@pytest.mark.parametrize("k", [NUM_CLASSES, 10])
def test_gradients_agree_within_the_certificate(world, teacher, tmp_path, k):
    store_path = str(tmp_path / "store")
    data = str(world / "data")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(map(str, range(NUM_CLASSES))))
    settings = {"class_names": str(names), "teacher": f"local-dir:{teacher}", "views": 4, "k": k}
    make_store(world, store_path, **settings)
    source, store = open_source(data), open_store(store_path)
    live, stored = LiveTeacher(build_teacher(f"local-dir:{teacher}")), StoredTeacher(store, source)
    preprocessing = Preprocessing(input_size=(SIDE, SIDE))
    torch.manual_seed(0)
    student = timm.create_model("test_resnet", num_classes=NUM_CLASSES)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    decoder = view_decoder(source, source.policy, [preprocessing, *live.preprocessings])
    cpu = torch.device("cpu")
    steps, worst = 0, 0.0
    for epoch in range(4):
        items = epoch_items(
            source, seed=0, epoch=epoch, view_indexes=(epoch,), batch_size=16, streams=2, rank=0, world=1
        )
        for batch in read_batches(source, decoder, items):
            logits = student(preprocessing.normalize(batch.images[0]))
            from_store, from_teacher = stored(batch, cpu), live(batch, cpu)
            gradients = [
                torch.autograd.grad(
                    pld_loss(logits, signal, batch.labels, reduction="none").sum(), logits, retain_graph=True
                )[0]
                for signal in (from_store, from_teacher)
            ]
            difference = (gradients[0] - gradients[1]).abs().sum(1)
            bound = gradient_error_bound(from_store)
            assert bool((difference <= bound + 1e-5).all()), (steps, difference - bound)
            worst = max(worst, float((difference / bound).max()))
            optimizer.zero_grad()
            pld_loss(logits, from_store, batch.labels).backward()
            optimizer.step()
            steps += 1
    assert steps >= STEPS
    assert worst > 0.01  # the bound is compared with something: rounding and truncation do show


@pytest.mark.parametrize(
    ("policy", "num_views"),
    [
        ("deit", 4),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in [
                ("deit", 1),
                ("tinyvit", 1),
                ("a1", 1),
                ("light", 4),
                ("three,jitter-0.3", 1),
                ("cutmix-1.0", 1),
            ]
        ),
    ],
)
def test_strong_views_agree_too(world, teacher, tmp_path, policy, num_views):
    """Every policy, 50 steps: the live teacher sees the mixed pixels that the student sees."""
    names = tmp_path / "names.txt"
    names.write_text("\n".join(map(str, range(NUM_CLASSES))))
    data = str(world / "data")
    store = open_store(str(make_store(world, str(tmp_path / "store"), class_names=str(names), policy=policy, k=10,
                                      teacher=f"local-dir:{teacher}", views=4)))  # fmt: skip
    source = join_source(store, open_source(data, class_names=tuple(map(str, range(NUM_CLASSES)))))
    views_policy = stored_policy(store)
    plan = plan_mixing(source, views_policy, [store])
    live, stored = LiveTeacher(build_teacher(f"local-dir:{teacher}")), StoredTeacher(store, source)
    preprocessing = Preprocessing(input_size=(SIDE - 8, SIDE))  # another size than the teacher's
    torch.manual_seed(0)
    student = timm.create_model("test_resnet", num_classes=NUM_CLASSES)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    decoder = view_decoder(source, views_policy, [preprocessing, *live.preprocessings])
    cpu, steps, worst, num_mixed = torch.device("cpu"), 0, 0.0, 0
    for epoch in range(4 // num_views):
        views = tuple(range(epoch * num_views, (epoch + 1) * num_views))
        items = epoch_items(source, seed=0, epoch=epoch, view_indexes=views, batch_size=16, streams=2, rank=0, world=1,
                            plan=plan)  # fmt: skip
        for batch in itertools.islice(read_batches(source, decoder, items), STEPS * num_views // 4 + 1):
            logits = student(preprocessing.normalize(batch.images[0]))
            from_store, from_teacher = stored(batch, cpu), live(batch, cpu)
            assert torch.equal(from_store.labels, larger_share(batch.labels))
            losses = [pld_loss(logits, signal, batch.labels, reduction="none") for signal in (from_store, from_teacher)]
            gradients = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in losses]
            difference, bound = (gradients[0] - gradients[1]).abs().sum(1), gradient_error_bound(from_store)
            assert bool((difference <= bound + 1e-5).all()), (steps, difference - bound)
            worst = max(worst, float((difference / bound).max()))
            num_mixed += int((batch.labels.share < 1).sum()) if isinstance(batch.labels, MixedLabels) else 0
            optimizer.zero_grad()
            losses[0].mean().backward()
            optimizer.step()
            steps += 1
    assert steps >= STEPS
    assert worst > 0.01
    assert (num_mixed > 0) == (plan is not None)


def test_another_view_or_another_crop_breaks_it(world, tmp_path):
    """The comparison can fail: a table of the wrong view is outside the certificate by far."""
    source, store = open_source(str(world / "data")), open_store(str(world / "full"))
    live = LiveTeacher(build_teacher(f"local-dir:{world / 'teacher'}"))
    decoder = view_decoder(source, source.policy, live.preprocessings)
    items = epoch_items(source, seed=0, epoch=0, view_indexes=(1,), batch_size=64, streams=2, rank=0, world=1)
    batch = next(read_batches(source, decoder, items))
    logits = torch.zeros(64, store.manifest.identity.teacher.num_classes, requires_grad=True)
    topk = store.load_view(0)[store.rows(source.keys)[batch.request.rows]]
    gradients = [
        torch.autograd.grad(pld_loss(logits, signal, batch.labels, reduction="none").sum(), logits)[0]
        for signal in (topk, live(batch, torch.device("cpu")))
    ]
    difference = (gradients[0] - gradients[1]).abs().sum(1)
    assert np.mean((difference > gradient_error_bound(topk)).tolist()) > 0.5
