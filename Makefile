# Two commands on a fresh machine: `make demo` and `make test`. Both do all the set-up themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Torch: the build for this machine is chosen below. TORCH_INDEX_URL, when set, names the package
# index to take it from (PyTorch's install page lists one for CPU-only builds).
TORCH_VERSION ?= 2.13.0
TORCH_INDEX_URL ?=
# Peers live in an environment of their own: what they need must not change what twinvae runs with.
PEERS_VENV ?= .venv-peers
# Likewise those of the bench, and the mutation tool.
BENCH_VENV ?= .venv-bench
MUTANTS_VENV ?= .venv-mutants
# And what builds the documentation.
DOCS_VENV ?= .venv-docs

.PHONY: setup demo bundles docs test lint bench bench-domain bench-prepare bench-scores bench-evaluation bench-peers bench-fusion campaign mutants clean
setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then echo "torch: keeping the one installed"; \
	elif [ -n "$(TORCH_INDEX_URL)" ]; then echo "torch: from $(TORCH_INDEX_URL)"; \
	  $(BIN)/pip install --quiet torch --index-url $(TORCH_INDEX_URL); \
	elif nvidia-smi >/dev/null 2>&1; then echo "torch: NVIDIA driver found, taking the CUDA build"; \
	  $(BIN)/pip install --quiet 'torch>=2.6'; \
	else echo "torch: no NVIDIA driver, taking a CPU build where the package index offers one"; \
	  $(BIN)/pip install --quiet torch==$(TORCH_VERSION); fi
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup  ## generate a cohort; the paper's two models, then preset best on the same scans
	$(BIN)/twinvae run demo --out runs/demo
	$(BIN)/twinvae run best --out runs/best --set cohort.phantom=null \
	  --set cohort.manifest=runs/demo/manifest.tsv \
	  --set training.healthy.epochs=4 --set training.mixed.epochs=5

# Label maps of real anatomies, as SynthSeg offers its own under Apache-2.0; hours on two cores.
bundles: setup  ## train and pack the bundles of the package: make bundles LABELS=DIR UNLABELLED=DIR
	@test -n "$(LABELS)" || { echo "bundles: expected LABELS=FOLDER of label maps"; exit 2; }
	@test -n "$(UNLABELLED)" || { echo "bundles: expected UNLABELLED=FOLDER of scans (configs/bundle.yaml)"; exit 2; }
	$(BIN)/twinvae phantom cohorts/random --labels $(LABELS) --contrast random --healthy 320 --mixed 40 --seed 11
	TWINVAE_LABELS=$(abspath $(LABELS)) $(BIN)/twinvae run configs/slab.yaml --out runs/slab
	for contrast in T2w FLAIR T1w; do \
	  name=$$(echo $$contrast | tr A-Z a-z); \
	  $(BIN)/twinvae phantom cohorts/$$contrast --labels $(LABELS) --contrast $$contrast --healthy 80 --mixed 30 --seed 21 && \
	  TWINVAE_CONTRAST=$$contrast TWINVAE_UNLABELLED=$(abspath $(UNLABELLED)) \
	  $(BIN)/twinvae run configs/bundle.yaml --out runs/$$name \
	    --set contrast=$$contrast --set name=$$name && \
	  $(BIN)/twinvae bundles pack runs/$$name --card docs/cards/$$name.md -o src/twinvae/bundles/$$name || exit 1; \
	done
	$(BIN)/twinvae fuse T2w=runs/t2w FLAIR=runs/flair T1w=runs/t1w --out runs/all
	$(BIN)/twinvae bundles pack runs/all --card docs/cards/any.md -o src/twinvae/bundles/any \
	  --member T2w=t2w --member FLAIR=flair --member T1w=t1w

$(DOCS_VENV)/.docs: pyproject.toml
	$(MAKE) setup VENV=$(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --editable '.[docs]'
	@touch $@

docs: $(DOCS_VENV)/.docs  ## the documentation as a site, in site/; any warning stops it
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

test: setup lint  ## every check that a change must pass
	$(BIN)/pytest -n 2 --cov --cov-report=term --cov-fail-under=90

lint: setup
	$(BIN)/ruff check src tests benchmarks examples docs/hooks
	$(BIN)/ruff format --check src tests benchmarks examples docs/hooks
	$(BIN)/mypy
	$(BIN)/lint-imports

# What cannot be installed beside this torch is left out, and the page says so.
$(BENCH_VENV)/.bench: pyproject.toml
	$(MAKE) setup VENV=$(BENCH_VENV)
	-$(BENCH_VENV)/bin/pip install --quiet --editable '.[bench-lightning]'
	-$(BENCH_VENV)/bin/pip install --quiet --editable '.[bench-pythae]'
	-$(BENCH_VENV)/bin/pip install --quiet --editable '.[bench-imaging]'
	-$(BENCH_VENV)/bin/pip install --quiet --editable '.[bench-store]'
	@touch $@

bench: setup $(BENCH_VENV)/.bench  ## docs/performance.md: ONLY=training,detect FRESH=1; QUICK=1: a first look
	$(BIN)/python benchmarks/bench --rivals-python $(BENCH_VENV)/bin/python \
	  $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(if $(FRESH),--fresh)

bench-domain: setup  ## which real and changed scans are out of domain: make bench-domain DATA=DIR
	@test -n "$(DATA)" || { echo "bench-domain: expected DATA=FOLDER (see benchmarks/domain.py)"; exit 2; }
	$(BIN)/python benchmarks/domain.py $(DATA)

bench-prepare: setup  ## seconds and memory a scan, beside TorchIO and MONAI
	$(BIN)/python benchmarks/prepare.py

bench-scores: setup  ## what scores add to the networks' passes, with the paper's networks
	$(BIN)/python benchmarks/scoring_cost.py --further

bench-evaluation: setup  ## seconds for 2,000 resamples of 30 scores on 5,000 slices
	$(BIN)/python benchmarks/evaluation_cost.py

bench-fusion: setup  ## fused contrasts beside single ones: make bench-fusion DATA=DIR (docs/fusion.md)
	@test -n "$(DATA)" || { echo "bench-fusion: expected DATA=FOLDER (see benchmarks/fusion.py)"; exit 2; }
	$(BIN)/python benchmarks/fusion.py $(DATA) --out runs/fusion

$(PEERS_VENV)/.peers: pyproject.toml
	$(MAKE) setup VENV=$(PEERS_VENV)
	$(PEERS_VENV)/bin/pip install --quiet --editable '.[peers]'
	@touch $@

bench-peers: $(PEERS_VENV)/.peers  ## peers beside a finished run's scores: make bench-peers RUN=runs/demo
	@test -n "$(RUN)" || { echo "bench-peers: expected RUN=FOLDER of a finished run"; exit 2; }
	$(PEERS_VENV)/bin/python benchmarks/peers.py $(RUN)
	$(PEERS_VENV)/bin/twinvae evaluate $(RUN)/peers.tsv -o $(RUN)/peers

campaign: setup  ## kills, full disks, damaged files; ONLY=kills,headers SEED=0 (docs/reliability.md)
	$(BIN)/python benchmarks/campaign $(if $(ONLY),--only $(ONLY)) --seed $(or $(SEED),0)

$(MUTANTS_VENV)/.mutants: pyproject.toml
	$(MAKE) setup VENV=$(MUTANTS_VENV)
	$(MUTANTS_VENV)/bin/pip install --quiet --editable '.[dev,mutants]'
	@touch $@

mutants: $(MUTANTS_VENV)/.mutants  ## faults that the tests let through: SAMPLE=200 SEED=0 (hours; goes on)
	$(MUTANTS_VENV)/bin/python benchmarks/mutants --sample $(or $(SAMPLE),200) --seed $(or $(SEED),0)

clean:
	rm -rf $(VENV) $(PEERS_VENV) $(BENCH_VENV) $(MUTANTS_VENV) $(DOCS_VENV) site build dist src/*.egg-info
