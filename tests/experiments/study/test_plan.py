"""The plan: what it holds, in which order, and what a hash depends on."""

import dataclasses

from experiments.study.evidence import best_settings
from experiments.study.plan import SWEEP_SEED, Row, Student, plan, rows, swept
from tests.experiments.study.made_up import recipes

BEST = {"kd": swept("kd")["kd alpha=0.1"], "dist": swept("dist")["dist alpha=0.3"]}


def test_every_run_once_and_the_number_known_before_the_sweeps():
    planned = list(rows(plan(100, 5, BEST)))
    assert len({row.name for row in planned}) == len(planned)
    assert len({recipes().row_hash(row) for row in planned}) == len(planned)
    assert len({str(recipes().run_folder(row)) for row in planned}) == len(planned)
    assert len(list(rows(plan(100, 5, {})))) == len(planned)


def test_what_the_study_is_about_comes_first():
    planned = list(rows(plan(100, 5, BEST)))
    names = [row.experiment for row in planned]
    assert names.index("baselines") > max(i for i, name in enumerate(names) if name in ("main", "cache", "sweep"))
    main = [(row.student.method, row.seed) for row in planned if row.experiment == "main"]
    assert sorted(main) == sorted((m, s) for m in ("ce", "kd", "dist", "pld") for s in range(1, 6))


def test_sweeps_choose_under_a_seed_that_judges_nothing():
    for row in rows(plan(100, 5, BEST)):
        assert (row.seed == SWEEP_SEED) == (row.experiment == "sweep")
    waiting = [row for row in rows(plan(100, 5, {})) if not row.student.ready]
    assert {row.student.method for row in waiting} == {"kd", "dist"}


def test_the_best_of_a_sweep_is_known_when_all_of_it_is_in():
    def run(label, top1):
        return {"name": f"sweep/{label}/seed0", "method": "kd", "top1": top1}

    found = {label: run(label, 30.0 + (label == "kd alpha=0.3")) for label in swept("kd")}
    assert best_settings(found) == {"kd": swept("kd")["kd alpha=0.3"]}
    found.pop("kd alpha=0")
    assert best_settings(found) == {}


def test_stores_that_have_no_more_than_all_classes():
    planned = list(rows(plan(12, 2, BEST)))
    assert {row.student.store for row in planned} == {"all", "k1", "k5", "k10", "fixed", "mismatched", None}


def test_a_hash_depends_on_what_the_result_depends_on():
    made = recipes()
    row = Row(experiment="main", label="pld", student=Student(method="pld"), seed=1)
    key = made.row_hash(row)
    assert made.row_hash(dataclasses.replace(row, experiment="k", label="k=C")) == key
    elsewhere = dataclasses.replace(made, student={**made.student, "output": "x", "data": "y", "workers": 7})
    assert elsewhere.row_hash(row) == key
    others = [
        made.row_hash(dataclasses.replace(row, seed=2)),
        made.row_hash(dataclasses.replace(row, student=Student(method="kd"))),
        made.row_hash(dataclasses.replace(row, student=Student(method="pld", store="k5"))),
        made.row_hash(dataclasses.replace(row, student=Student(method="pld", settings={"tail": "uniform"}))),
        dataclasses.replace(made, student={**made.student, "lr": 1.0}).row_hash(row),
        dataclasses.replace(made, teacher={**made.teacher, "lr": 1.0}).row_hash(row),
        dataclasses.replace(made, changed={"epochs": 3}).row_hash(row),
        dataclasses.replace(made, data=dataclasses.replace(made.data, digests={"teacher": "z"})).row_hash(row),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_commands_say_all_that_differs_from_the_recipe():
    student = Student(method="kd", settings={"alpha": 0.1, "views": None}, store="k5")
    command = recipes().row_command(Row(experiment="x", label="a, b=c", student=student, seed=3))
    assert command.startswith("accelerate launch --quiet train_student.py --config study --loss kd --store runs/study/")
    assert " --alpha 0.1 --views null --seed 3 --output runs/study/students/a-b-c-seed3-" in command
