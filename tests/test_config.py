import dataclasses
from typing import Any, Literal

import pytest

from pld.config import parse_config, run
from pld.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """An example.

    Attributes:
        name: whose it is
        batch_size: how many
        online_teacher: whether it is live
    """

    name: str = "x"
    batch_size: int = 3
    online_teacher: bool = False
    loss: Literal["pld", "kd"] = "pld"
    temperatures: tuple[float, ...] = (1.0,)
    model_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    store: str | None = None
    k: int = 5


def parse(*argv, **settings):
    return parse_config(Example, argv, prog="example", description="An example.", **settings)


def test_defaults_file_and_arguments_in_this_order(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("batch_size: 7\nname: from-file\nmodel_kwargs: {layers: [1, 2]}\n")
    assert parse() == Example()
    assert parse("--config", str(file)).batch_size == 7
    config = parse("--config", str(file), "--batch_size", "9", "--temperatures", "[1, 2.5]")
    assert config == Example(name="from-file", batch_size=9, model_kwargs={"layers": [1, 2]}, temperatures=(1.0, 2.5))


def test_spellings():
    assert parse("--batch-size=4", "-k", "2") == Example(batch_size=4, k=2)
    assert parse("--online-teacher", "--name", "y") == Example(online_teacher=True, name="y")
    assert parse("--name", "y", "--online-teacher") == Example(online_teacher=True, name="y")
    assert parse("--online-teacher", "false") == Example()
    assert parse("--model_kwargs", '{"a": 1}').model_kwargs == {"a": 1}
    assert parse("--store", "s3://a-b/c-d") == Example(store="s3://a-b/c-d")


def test_files_by_name(tmp_path):
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "one.yaml").write_text("batch_size: 11\n")
    assert parse("--config", "paper/one", named_files=tmp_path).batch_size == 11
    assert parse("--config=paper/one", named_files=tmp_path).batch_size == 11
    assert parse("--name", "paper/one", named_files=tmp_path).name == "paper/one"
    (tmp_path / "other.yaml").write_text("batch_size: 12\n")
    assert parse("--config", str(tmp_path / "other.yaml"), named_files=tmp_path).batch_size == 12
    for argv in (["--config", "paper/on"], ["--config=paper/on"]):
        with pytest.raises(ConfigError, match=r"--config paper/on: neither a file nor .*; nearest are paper/one"):
            parse(*argv, named_files=tmp_path)


def test_help_names_the_files_and_counts_those_in_folders(tmp_path, capsys):
    (tmp_path / "paper").mkdir()
    for name in ("demo", "paper/one", "paper/two0.5"):
        (tmp_path / f"{name}.yaml").write_text("")
    with pytest.raises(SystemExit):
        parse("--help", named_files=tmp_path)
    assert "or one of: demo, paper/... (2)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch", "3"], "unknown option 'batch'; nearest are batch_size"),
        (["--batch_size", "many"], "batch_size"),
        (["--loss", "kld"], "loss"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["stray"], "stray"),
        (["--batch_size"], "expected one argument"),
    ],
)
def test_wrong_arguments(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse(*argv)


def test_an_unknown_key_in_a_file(tmp_path):
    (tmp_path / "a.yaml").write_text("batchsize: 7\n")
    with pytest.raises(ConfigError, match="unknown option 'batchsize'; nearest are batch_size"):
        parse("--config", str(tmp_path / "a.yaml"))


def test_print_config_and_help(capsys):
    for argv, wanted in (
        (["--batch_size", "8", "--print_config"], "batch_size: 8"),
        (["--help"], "how many"),
        (["-h"], "how many"),
    ):
        with pytest.raises(SystemExit) as exit_:
            parse(*argv)
        assert exit_.value.code == 0
        assert wanted in capsys.readouterr().out


def test_run_prints_what_the_user_can_mend_and_raises_the_rest(capsys, monkeypatch):
    def fail(argv):
        raise ConfigError(f"no {argv[0]}\n  make one")

    assert run(fail, ["store"]) == 2
    assert capsys.readouterr().err == "error: no store\n  make one\n"
    with pytest.raises(ZeroDivisionError):
        run(lambda argv: 1 / 0, [])
    assert run(lambda argv: None, []) == 0
    # One screen, not one from each of eight processes.
    monkeypatch.setenv("RANK", "3")
    assert run(fail, ["store"]) == 2
    assert capsys.readouterr().err == "error (process 3): no store\n"
