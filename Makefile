# Thin: every target is one program of tools/ or one CMake preset.
PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc)
KEEP ?=
SECONDS_EACH ?= 60
RUNTIME := libonnxruntime.so.1.32.0

.PHONY: all debug asan tsan test test-full demo bench fuzz eval install format gates clean help
all: ## build the program: build/s2m3
	@tools/bootstrap build
	@tools/build -j$(JOBS) release s2m3
	@ln -sfn release/s2m3 build/s2m3

debug asan tsan: ## build everything with that preset, in build/PRESET
	@tools/bootstrap test
	@tools/build -j$(JOBS) $@

test: ## everything that CI checks
	@tools/bootstrap test
	@tools/test

test-full: ## the same with the slow tests
	@tools/bootstrap test
	@tools/test --full

demo: all ## a fleet of small devices on this machine (KEEP=1: leave it running)
	@tools/bootstrap demo
	@tools/demo $(if $(KEEP),--keep)

bench: ## build and run the benchmarks
	@tools/bootstrap bench
	@tools/bench -j$(JOBS)

fuzz: ## each fuzz target for SECONDS_EACH seconds
	@tools/bootstrap fuzz
	@tools/fuzz-run --seconds $(SECONDS_EACH)

eval: all ## answers of the fleet against the unsplit models
	@tools/bootstrap eval
	@tools/eval

install: all ## the program and the runtime's library below PREFIX (and DESTDIR)
	@install -D -m 755 build/release/s2m3 $(DESTDIR)$(PREFIX)/bin/s2m3
	@install -D -m 644 .deps/lib/$(RUNTIME) $(DESTDIR)$(PREFIX)/lib/$(RUNTIME)
	@ln -sfn $(RUNTIME) $(DESTDIR)$(PREFIX)/lib/libonnxruntime.so

format: ## lay out all C files by .clang-format
	@tools/bootstrap test
	@git ls-files -z --cached --others --exclude-standard '*.c' '*.h' | xargs -0 clang-format -i --style=file

gates: ## the checks of the source text, and that each of them can fail
	@tools/gates/run
	@tools/gates/selftest

clean: ## remove what was built (not what was fetched: that is .deps/)
	@rm -rf build

help: ## this list
	@sed -n 's/^\([a-z][a-z -]*\):[^#]*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | \
	    awk -F'\t' '{printf "make %-18s %s\n", $$1, $$2}'
