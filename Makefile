# Every target installs what it needs into .venv, again when what that is made from changes. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
READY_DEV := .venv/ready-dev

# make cache TEACHER=vit_large [DATA= STORE= SPLIT= VIEWS=50 K=50 POLICY= FORMAT=zarr WEIGHTS= ARGS=]
DATA ?= data/imagenet
SPLIT ?= train
VIEWS ?= 50
K ?= 50
COUNT_GPUS := $(BIN)/python -c 'import torch; print(max(1, torch.cuda.device_count()))'

DEMO := runs/demo

.DEFAULT_GOAL := help
.NOTPARALLEL:  # one pip at a time, and no benchmark beside another
.PHONY: help setup demo demo-seeds demo-tails study study-page test test-long cache train recipes bench bench-gpu certificate api clean format

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY_DEV)  ## create .venv and install everything into it, developers' tools too

$(READY): EXTRA = report
$(READY_DEV): EXTRA = dev
$(READY) $(READY_DEV): pyproject.toml $(wildcard pld/images/decode/native/* pld/views/steps/pixels/native/*)
	$(PYTHON) -m venv .venv
	rm -f pld/images/decode/*.so pld/views/steps/pixels/*.so  # so that no older build is left where this one fails
	@echo 'Installing pld-distill[$(EXTRA)] into .venv takes some minutes; PyTorch is most of it.'
	$(BIN)/python -m pip install $(if $(MAKE_TERMOUT),,--quiet) --no-compile --editable '.[$(EXTRA)]'
	@touch $(READY) $@

demo: $(READY)  ## train a teacher on glyphs, cache it, distil it into students, write runs/demo/index.html
	rm -rf $(DEMO)
	$(BIN)/accelerate launch --quiet train_student.py --config demo_teacher --output $(DEMO)/teacher
	$(BIN)/cache-teacher --teacher local-dir:$(DEMO)/teacher/model --data glyphs --views 8 --k 94 --store $(DEMO)/store
	$(BIN)/accelerate launch --quiet train_student.py --config demo --loss ce --output $(DEMO)/ce
	$(BIN)/accelerate launch --quiet train_student.py --config demo --loss kd --output $(DEMO)/kd
	$(BIN)/accelerate launch --quiet train_student.py --config demo --loss pld --output $(DEMO)/pld
	$(BIN)/pld report $(DEMO)/teacher $(DEMO)/ce $(DEMO)/kd $(DEMO)/pld --store $(DEMO)/store --out $(DEMO)/index.html

demo-seeds: $(READY)  ## after `make demo`: two more seeds of each student, and the spread, into docs/results/demo.txt
	rm -rf $(foreach loss,ce kd pld,$(DEMO)/$(loss)-1 $(DEMO)/$(loss)-2)
	for seed in 1 2; do for loss in ce kd pld; do \
	  $(BIN)/accelerate launch --quiet train_student.py --config demo --loss $$loss --seed $$seed \
	    --output $(DEMO)/$$loss-$$seed || exit; done; done
	$(BIN)/pld report $(DEMO)/teacher $(foreach loss,ce kd pld,$(DEMO)/$(loss) $(DEMO)/$(loss)-1 $(DEMO)/$(loss)-2) \
	  | tee docs/results/demo.txt

demo-tails: $(READY)  ## after `make demo`: KD from all classes, from 10 with 8 of the tail, and from 10 alone; three seeds
	rm -rf $(foreach from,full sampled lumped,$(DEMO)/$(from) $(DEMO)/$(from)-0 $(DEMO)/$(from)-1 $(DEMO)/$(from)-2)
	for kept in "sampled --tail_samples 8" "lumped"; do \
	  $(BIN)/cache-teacher --teacher local-dir:$(DEMO)/teacher/model --data glyphs --views 8 --k 10 \
	    --store $(DEMO)/$$kept || exit; done
	for seed in 0 1 2; do \
	  set -- $(BIN)/accelerate launch --quiet train_student.py --config demo --loss kd --seed $$seed; \
	  "$$@" --output $(DEMO)/full-$$seed || exit; \
	  "$$@" --store $(DEMO)/sampled --output $(DEMO)/sampled-$$seed || exit; \
	  "$$@" --store $(DEMO)/lumped --approximate_teacher --output $(DEMO)/lumped-$$seed || exit; done
	$(BIN)/pld report $(foreach from,full sampled lumped,$(foreach seed,0 1 2,$(DEMO)/$(from)-$(seed))) \
	  | tee docs/results/sampled_tail.txt

study: DATA = data/tiny-imagenet

study: $(READY)  ## what PLD from a cache gives on photos: make study DATA=FOLDER [ARGS=], hours on 2 cores; goes on where it was
	$(BIN)/python -m experiments.study --data '$(DATA)' $(ARGS)

study-page: $(READY)  ## the study's tables and page anew from docs/results/study.json, finished or not
	$(BIN)/python -m experiments.study --report

test: $(READY_DEV)  ## format, lint, types, layers and tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile

test-long: test  ## the exhaustive tests too, and the property tests on new random examples
	$(BIN)/pytest -n 2 --dist loadfile -m 'long or hypothesis' --hypothesis-profile new

cache: $(READY)  ## run a teacher once over DATA into STORE: make cache TEACHER=vit_large DATA='train-{0000..1023}.tar'
	@gpus=$$($(COUNT_GPUS)); \
	if [ $$gpus -gt 1 ]; then run="$(BIN)/torchrun --nproc_per_node $$gpus"; else run=$(BIN)/python; fi; \
	$$run -m cache_teacher --teacher '$(TEACHER)' --data '$(DATA)' --split '$(SPLIT)' --views $(VIEWS) -k $(K) \
	  $(if $(STORE),--store '$(STORE)') $(if $(POLICY),--policy '$(POLICY)') $(if $(WEIGHTS),--weights '$(WEIGHTS)') \
	  $(if $(FORMAT),--format $(FORMAT)) $(ARGS)

train: $(READY)  ## train a student: make train ARGS='--config demo --loss pld'
	$(BIN)/accelerate launch train_student.py $(ARGS)

recipes: $(READY)  ## the paper's experiments as recipes: figures, settings, the store each needs, where each number is from
	@$(BIN)/python -m train_student.recipes

BENCHMARKS := $(patsubst experiments/benchmarks/bench_%.py,bench-%,$(filter-out %_gpu.py,$(wildcard experiments/benchmarks/bench_*.py)))

bench: $(BENCHMARKS)  ## all benchmarks that need no GPU

bench-gpu: $(READY_DEV)  ## where there is a GPU: check every loss on it, then time PLD beside what it replaces
	$(BIN)/python -m experiments.benchmarks.bench_gpu

bench-input: $(READY_DEV)  ## the path from bytes to batches beside ImageFolder, webdataset and DALI, which it installs
	$(BIN)/python -m pip install --quiet --editable '.[benchmarks]'
	$(BIN)/python -m experiments.benchmarks.bench_input

bench-%: $(READY_DEV)  ## one benchmark, its last line JSON: make bench-losses
	$(BIN)/python -m experiments.benchmarks.bench_$*

# make certificate PHOTOS='photos-{0000..0003}.tar'
WEIGHTS_OF := runs/certificate

certificate: $(READY_DEV)  ## the table in docs/gradient_error_bound.md, from photos with ImageNet's labels: PHOTOS='photos-{0..3}.tar'
	mkdir -p $(WEIGHTS_OF)
	for model in tf_efficientnet_lite0 tf_efficientnet_lite2; do \
	  $(BIN)/python -m experiments.imagenet_teacher $$model $(WEIGHTS_OF)/$$model.safetensors || exit; done
	$(BIN)/python -m experiments.certificate '$(PHOTOS)' --write \
	  --student-weights $(WEIGHTS_OF)/tf_efficientnet_lite0.safetensors \
	  --teacher-weights $(WEIGHTS_OF)/tf_efficientnet_lite2.safetensors

api: $(READY_DEV)  ## the API reference as pages, site/index.html
	$(BIN)/python -m pdoc --docformat google -o site pld.losses pld.signals pld.views pld.images pld.store pld.errors

format: $(READY_DEV)  ## format, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove runs, stores, caches and .venv
	rm -rf .venv runs stores build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache pld/images/decode/*.so \
	  pld/views/steps/pixels/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
