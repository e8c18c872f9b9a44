import dataclasses
import json
import re
from typing import Any, Literal

import pytest

from pld.config import parse_config, run
from pld.errors import ConfigError
from pld.options import AT_LEAST_ONE, as_flat, check_values, from_flat, option, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    name: str = option("x", "whose it is")
    batch_size: int = option(3, "how many")
    online_teacher: bool = option(False, "whether it is live")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How weights change."""

    lr: float = option(0.5, "peak learning rate")
    epochs: int | None = option(None, "passes", check=AT_LEAST_ONE)
    nesterov: bool = option(False, "look ahead")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What is read."""

    images: str = option("", "a folder", flat="data")
    workers: int = option(2, "loaders", affects_result=False)
    store: list[str] | str | None = option(None, "a store, or several")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grouped:
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    name: str = option("x", "whose it is")


def parse_grouped(*argv):
    return parse_config(Grouped, argv, prog="grouped", description="An example.")


def grouped(data=None, optimizer=None, **rest):
    return Grouped(data=Data(**data or {}), optimizer=Optimizer(**optimizer or {}), **rest)


def test_an_option_of_a_group_has_two_names():
    wanted = grouped({"images": "a"}, {"lr": 0.1, "nesterov": True}, name="y")
    assert parse_grouped("--data", "a", "--lr", "0.1", "--nesterov", "--name", "y") == wanted
    assert parse_grouped("--data.images=a", "--optimizer.lr", "0.1", "--optimizer.nesterov", "--name=y") == wanted
    assert parse_grouped("--data.store", "a", "--store", "b") == grouped({"store": ["a", "b"]})
    assert from_flat(Grouped, {"data": "a", "lr": 0.1, "nesterov": True, "name": "y"}) == wanted
    assert as_flat(wanted)["data"] == "a"
    assert as_flat(wanted)["lr"] == 0.1


@pytest.mark.parametrize(
    "text",
    [
        "data: a\nlr: 1e-1\n",
        "data: {images: a}\noptimizer: {lr: 1.0e-1}\n",
        "data: a\noptimizer:\n  lr: 0.1\n",
        "data: {images: a}\nlr: 0.1\n",
    ],
)
def test_files_are_flat_or_in_groups_or_both(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    file = ["--config", str(tmp_path / "a.yaml")]
    assert parse_grouped(*file) == grouped({"images": "a"}, {"lr": 0.1})
    assert parse_grouped(*file, "--optimizer.lr", "2", "--data=b") == grouped({"images": "b"}, {"lr": 2.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer: {lrr: 1}\n", r"unknown option 'optimizer\.lrr'; nearest are optimizer\.lr"),
        ("data: {data: a}\n", r"unknown option 'data\.data'; nearest are .*data\."),
        ("optimiser: {lr: 1}\n", r"unknown option 'optimiser\.lr'; nearest are optimizer\.lr"),
        ("lr: 1\noptimizer: {lr: 2}\n", r"lr: given twice, as lr and as optimizer\.lr"),
        ("optimizer: {lr: many}\n", "lr"),
        ("optimizer: [\n", "config"),
    ],
)
def test_wrong_groups_in_a_file(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse_grouped("--config", str(tmp_path / "a.yaml"))


def test_wrong_groups_on_the_command_line():
    for argv in (["--optimizer.lrr", "1"], ["--optimizer.lrr=1"]):
        with pytest.raises(ConfigError, match=r"unknown option 'optimizer\.lrr'; nearest are optimizer\.lr"):
            parse_grouped(*argv)
    with pytest.raises(ConfigError, match="unknown option 'lrr'; nearest are lr"):
        from_flat(Grouped, {"lrr": 1})


def test_groups_are_printed_and_read_back(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse_grouped("--data", "a", "--lr", "0.1", "--print_config")
    printed = capsys.readouterr().out
    assert "optimizer:\n  lr: 0.1\n" in printed
    (tmp_path / "a.yaml").write_text(printed)
    assert parse_grouped("--config", str(tmp_path / "a.yaml")) == grouped({"images": "a"}, {"lr": 0.1})


def test_groups_are_the_sections_of_help(capsys):
    with pytest.raises(SystemExit):
        parse_grouped("--help")
    assert re.search(r"optimizer:\n +How weights change\.\n\n +--lr LR +peak learning rate", capsys.readouterr().out)


def test_a_value_is_checked_by_its_field():
    check_values(grouped(optimizer={"epochs": 1}))
    check_values(grouped())
    with pytest.raises(ConfigError, match="--epochs 0: wanted at least 1"):
        check_values(grouped(optimizer={"epochs": 0}))
    assert [name for name, each in options(Grouped).items() if not each.affects_result] == ["workers"]


def test_run_prints_what_the_user_can_mend_and_raises_the_rest(tmp_path, capsys, monkeypatch):
    def fail(argv):
        raise ConfigError(f"no {argv[0]}\n  make one")

    assert run(fail, ["store"]) == 2
    assert capsys.readouterr().err == "error: no store\n  make one\n"
    with pytest.raises(ZeroDivisionError):
        run(lambda argv: 1 / 0, [])
    assert run(lambda argv: None, []) == 0
    # Where torchrun looks for it.
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert run(fail, ["runs"]) == 2
    assert json.loads((tmp_path / "error.json").read_text())["message"] == "error: no runs\n  make one"
    assert capsys.readouterr().err
    # One screen, not one from each of eight processes.
    monkeypatch.setenv("RANK", "3")
    assert run(fail, ["store"]) == 2
    assert capsys.readouterr().err == "error (process 3): no store\n"


def test_two_options_of_one_name_are_refused():
    """A plug-in's loss may have a setting that is called as an option of another group."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Loss:
        lr: float = option(0.1, "of hinge")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Both:
        loss: Loss = Loss()
        lr: float = option(0.2, "learning rate")

    Both.__annotations__["loss"] = Loss
    Loss.__annotations__["lr"] = Both.__annotations__["lr"] = float
    with pytest.raises(
        ConfigError, match=r"--lr is defined twice: lr \(learning rate\) and loss.lr \(of hinge\); a plug-in"
    ):
        options(Both)
