"""Stage two with images decoded by a GPU. A CPU stands in for it."""

import json

import numpy as np
import pytest
import torch

import cache_teacher.inputs
import cache_teacher.load_parts
import train_student.data.training_data
from pld.config import run
from pld.images import open_source
from pld.loading import ViewRequest, decode_views, view_decoder
from pld.loading.nvjpeg import NvjpegViewDecoder
from pld.views.preprocessing import Preprocessing
from tests.making import make_store, student_settings
from tests.train_student.runs import as_arguments, metrics, train_world
from train_student.data.batches import load_batches
from train_student.run.train import main as train_main

CPU = torch.device("cpu")
PREPROCESSINGS = [Preprocessing(input_size=(32, 32)), Preprocessing(input_size=(24, 40), interpolation="bilinear")]


@pytest.fixture
def store(world, tmp_path, monkeypatch):
    """A store whose teacher saw what "nvjpeg" decoded; and no check of the device."""
    monkeypatch.setattr(cache_teacher.load_parts, "decoding_processes", lambda device, num: num)
    for module in (cache_teacher.inputs, train_student.data.training_data):
        monkeypatch.setattr(module, "check_device", lambda device: None)
    return str(make_store(world, str(tmp_path / "s"), views=2, k=5, threads=2, decoder="nvjpeg"))


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_are_each_images_views(world, processes):
    source = open_source(str(world / "data"))
    decoder = view_decoder(source, source.policy, PREPROCESSINGS, gpu=CPU)
    assert isinstance(decoder, NvjpegViewDecoder)
    rng = np.random.default_rng(0)
    requests = [ViewRequest(rng.integers(0, len(source), n), (v,)) for v, n in enumerate((4, 8, 3, 30, 8, 8))]
    with load_batches(source, decoder, requests, workers=processes) as batches:
        for request, batch in zip(requests, batches, strict=True):
            assert batch.labels.tolist() == source.labels[request.rows].tolist()
            for number, images in enumerate(batch.images):
                assert images.is_contiguous(memory_format=torch.channels_last)
                for row, pixels in zip(request.rows.tolist(), images, strict=True):
                    alone = decode_views(decoder, [row], request.view_indexes)[number][0, 0]
                    # Filled up to other images' sizes, sums may round differently.
                    assert (pixels.int() - alone.int()).abs().max() <= 1


def test_a_student_sees_what_its_teacher_saw(world, tmp_path, store, console, monkeypatch):
    made = []
    monkeypatch.setattr(
        "train_student.loop.run_batches.view_decoder",
        lambda *a, **named: made.append(view_decoder(*a, **named)) or made[-1],
    )
    train_world(world, tmp_path / "run", store=store, epochs=1)
    assert [type(decoder) for decoder in made] == [NvjpegViewDecoder]
    assert "warning" not in console.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["decoder"] == "nvjpeg"
    assert np.isfinite(metrics(tmp_path / "run")[-1]["loss"])


def test_other_pixels_than_the_teachers_are_said(world, tmp_path, store, console):
    train_world(world, tmp_path / "run", store=store, epochs=1, decoder="cpu")
    assert "decodes or resizes images a little differently than the teacher's" in console.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["decoder"] == "cpu"


def test_without_a_gpu_such_a_store_is_refused(world, tmp_path, store, console, monkeypatch):
    monkeypatch.undo()
    assert run(train_main, as_arguments(student_settings(world, tmp_path / "run", store=store, epochs=1))) == 2
    assert "this is cpu; give --decoder cpu" in console.readouterr().err
    assert not (tmp_path / "run").exists()
