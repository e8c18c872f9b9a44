"""The design: what it holds, in which order, and what a hash depends on."""

import dataclasses

from experiments.study.design import SWEEP_SEED, Student, Trial, best_settings, design, swept, trials
from tests.experiments.study.made_up import recipes

BEST = {"kd": swept("kd")["kd alpha=0.1"], "dist": swept("dist")["dist alpha=0.3"]}


def test_every_run_once_and_the_number_known_before_the_sweeps():
    planned = list(trials(design(100, 5, BEST)))
    assert len({trial.name for trial in planned}) == len(planned)
    assert len({recipes().trial_hash(trial) for trial in planned}) == len(planned)
    assert len({str(recipes().run_folder(trial)) for trial in planned}) == len(planned)
    assert len(list(trials(design(100, 5, {})))) == len(planned)


def test_what_the_study_is_about_comes_first():
    planned = list(trials(design(100, 5, BEST)))
    names = [trial.experiment for trial in planned]
    assert names.index("baselines") > max(i for i, name in enumerate(names) if name in ("main", "cache", "sweep"))
    main = [(trial.student.method, trial.seed) for trial in planned if trial.experiment == "main"]
    assert sorted(main) == sorted((m, s) for m in ("ce", "kd", "dist", "pld") for s in range(1, 6))


def test_sweeps_choose_under_a_seed_that_judges_nothing():
    for trial in trials(design(100, 5, BEST)):
        assert (trial.seed == SWEEP_SEED) == (trial.experiment == "sweep")
    waiting = [trial for trial in trials(design(100, 5, {})) if not trial.student.ready]
    assert {trial.student.method for trial in waiting} == {"kd", "dist"}


def test_the_best_of_a_sweep_is_known_when_all_of_it_is_in():
    def run(label, top1):
        return {"name": f"sweep/{label}/seed0", "method": "kd", "top1": top1}

    found = {label: run(label, 30.0 + (label == "kd alpha=0.3")) for label in swept("kd")}
    assert best_settings(found) == {"kd": swept("kd")["kd alpha=0.3"]}
    found.pop("kd alpha=0")
    assert best_settings(found) == {}


def test_stores_that_have_no_more_than_all_classes():
    planned = list(trials(design(12, 2, BEST)))
    assert {trial.student.store for trial in planned} == {"all", "k1", "k5", "k10", "fixed", "mismatched", None}


def test_a_hash_depends_on_what_the_result_depends_on():
    made = recipes()
    trial = Trial(experiment="main", label="pld", student=Student(method="pld"), seed=1)
    key = made.trial_hash(trial)
    assert made.trial_hash(dataclasses.replace(trial, experiment="k", label="k=C")) == key
    elsewhere = dataclasses.replace(made, student={**made.student, "output": "x", "data": "y", "workers": 7})
    assert elsewhere.trial_hash(trial) == key
    others = [
        made.trial_hash(dataclasses.replace(trial, seed=2)),
        made.trial_hash(dataclasses.replace(trial, student=Student(method="kd"))),
        made.trial_hash(dataclasses.replace(trial, student=Student(method="pld", store="k5"))),
        made.trial_hash(dataclasses.replace(trial, student=Student(method="pld", settings={"tail": "uniform"}))),
        dataclasses.replace(made, student={**made.student, "lr": 1.0}).trial_hash(trial),
        dataclasses.replace(made, teacher={**made.teacher, "lr": 1.0}).trial_hash(trial),
        dataclasses.replace(made, changed={"epochs": 3}).trial_hash(trial),
        dataclasses.replace(made, data=dataclasses.replace(made.data, digests={"teacher": "z"})).trial_hash(trial),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_commands_say_all_that_differs_from_the_recipe():
    student = Student(method="kd", settings={"alpha": 0.1, "views": None}, store="k5")
    command = recipes().trial_command(Trial(experiment="x", label="a, b=c", student=student, seed=3))
    assert command.startswith(
        "accelerate launch --quiet train_student.py --config experiments/study/study.yaml --loss kd --store runs/study/"
    )
    assert " --alpha 0.1 --views null --seed 3 --output runs/study/students/a-b-c-seed3-" in command
