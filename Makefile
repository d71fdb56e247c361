.DEFAULT_GOAL := help
.PHONY: build up down demo trace order-retry check test fuzz watch bench clean-local help

LOCAL := .local/venv/bin/python -m infra.local
# As it was written: make would carry out what stands in $(…).
unexport ID
export WANTED := $(value ID)

build: bootstrap ## Build every function for AWS (arm64)
	@.local/venv/bin/python -m pip install -q --disable-pip-version-check -r infra/local/requirements/build.txt
	PATH="$(CURDIR)/.local/venv/bin:$$PATH" cargo lambda build --release --arm64 --output-format zip --workspace --exclude system-tests

up: bootstrap ## Build, start the local AWS and deploy what has changed
	@$(LOCAL) up

down: bootstrap ## Stop the local AWS; its state is kept
	@$(LOCAL) down

demo: bootstrap ## Play the story through the API; brings the system up if it is down
	@$(LOCAL) demo

trace: bootstrap ## Print the traces of ID=<order, post, trace or request id>; without it, the latest (ALL=1: idle runs too)
	@$(LOCAL) trace $(if $(ALL),--all) -- "$$WANTED"

order-retry: bootstrap ## Make the saga of the order ID=<order id> go on where it stopped
	@$(LOCAL) order-retry -- "$$WANTED"

check: ## All that has to pass and needs no running system: lints, unit tests, templates, documents
	@infra/local/bootstrap check
	@$(LOCAL) check

test: ## All that has to pass: `make check`, and the running system
	@infra/local/bootstrap test
	@$(LOCAL) test

fuzz: bootstrap ## Ask the running system everything its description allows, and more, until Ctrl-C
	@infra/local/bootstrap fuzz
	@$(LOCAL) fuzz

watch: bootstrap ## Serve the code being edited on port 9000, with the local AWS behind it
	@$(LOCAL) watch

bench: bootstrap ## Print the numbers: calls per request, cold start, artifact sizes
	@$(LOCAL) bench

clean-local: bootstrap ## Stop the local AWS and forget its state (ALL=1: the tools too)
	@$(LOCAL) clean $(if $(ALL),--all)

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap:
	@infra/local/bootstrap
