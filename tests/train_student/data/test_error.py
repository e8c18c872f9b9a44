"""A store whose views list as many classes as an error asks for, from the teacher to a student."""

import pytest

from pld.cli.main import _main as pld
from pld.errors import ConfigError
from tests.making import make_store, student_settings
from train_student.config import TrainConfig
from train_student.run.train import train


def test_pld_trains_from_it_inspect_describes_it_and_plistmle_refuses(world, tmp_path, capsys):
    store = make_store(world, str(tmp_path / "kept"), k=9, error=1.0, views=2)
    pld(["inspect", str(store)])
    said = capsys.readouterr().out
    assert "a view on average" in said
    assert "error above 1" in said
    settings = student_settings(world, tmp_path / "run", store=str(store), loss="pld", epochs=1)
    train(TrainConfig.from_flat(**settings))
    refused = student_settings(world, tmp_path / "other", store=str(store), loss="plistmle", epochs=1)
    with pytest.raises(ConfigError, match="needs the same k of all"):
        train(TrainConfig.from_flat(**refused))
