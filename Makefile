# make demo    four mixes of a demo take, in out/demo
# make test    lint, then every test
# make bench   speed, memory, the comparison with the raw take, how fast training sets are prepared, ONNX, the live student
# make bench-quality  how near the mixes come to real ones, beside floor, ceiling and presets; needs VOCAL_RESTYLER_DATA
# make bench-ablations  what each choice of the design gives: trains them all, small
# make bench-train  what training costs beside the network itself, memory, and two processes against one
# make lint    style, types and import directions
# make lock    write requirements.lock anew from pyproject.toml
# make clean   remove caches and build leftovers; .venv, out and runs stay
# Each makes .venv where it is missing or no longer fits. PYTHON=python3.12 says with which Python.

PYTHON ?= python3
PACKAGES := audio codec conditioning diffusion restyler
BIN := .venv/bin/python -m

.PHONY: demo test bench bench-quality bench-ablations bench-train lint lock clean environment

demo: environment
	@.venv/bin/restyler demo --out out/demo

# Tests start hundreds of processes: with bytecode kept, they don't compile the project each for themselves.
test: lint
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN) pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

bench: environment
	@$(BIN) restyler.bench
	@$(BIN) restyler.bench_speed
	@$(BIN) restyler.bench_prepare
	@$(BIN) restyler.bench_long
	@$(BIN) restyler.bench_arithmetic
	@$(BIN) restyler.bench_onnx
	@$(BIN) restyler.bench_live

bench-quality: environment
	@scripts/bench_quality.sh

bench-ablations: environment
	@$(BIN) restyler.ablate
	@$(BIN) restyler.ablate_sampling

bench-train: environment
	@$(BIN) restyler.bench_train

lint: environment
	@$(BIN) ruff check --quiet .
	@$(BIN) ruff format --check --quiet .
	@$(BIN) mypy
	@.venv/bin/python .venv/bin/lint-imports --no-logo

lock:
	@scripts/lock.sh $(PYTHON)

environment:
	@scripts/environment.sh $(PYTHON)

clean:
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
