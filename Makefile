.DEFAULT_GOAL := help
.PHONY: build up down demo token trace logs dead-letters redrive order-retry contract check test clients outages fuzz watch bench clean-local help

LOCAL := .local/venv/bin/python -m infra.local
# The text of ID as the user wrote it. Without $(value), make would expand $(…) in it.
unexport ID
export WANTED := $(value ID)
# These variables are read from the command line only, because EMAIL and NAME may have another meaning in the environment.
GIVEN := ADMIN DELETE EMAIL F FOLLOW NAME Q RAW SINCE
unexport $(GIVEN)
given = $(if $(filter command,$(origin $(1))),$(value $(1)))
$(foreach name,$(GIVEN),$(eval export WANTED_$(name) := $$(call given,$(name))))

build: bootstrap ## Build every function for AWS (arm64)
	@umask 077 && .local/venv/bin/python -m pip install -q --require-hashes --no-deps --only-binary :all: \
		--disable-pip-version-check -r infra/local/requirements/build.txt && chmod -R go= .local/venv
	PATH="$(CURDIR)/.local/venv/bin:$$PATH" cargo lambda build --release --arm64 --output-format zip --workspace --exclude system-tests

up: bootstrap ## Build, start the local cloud and deploy the stacks that have changed
	@$(LOCAL) up

down: bootstrap ## Stop the local cloud and keep its state
	@$(LOCAL) down

demo: bootstrap ## Play a story through the API, and start the system first if it is down
	@$(LOCAL) demo

token: bootstrap ## Print an access token, and sign the user up first if necessary: EMAIL=, NAME=, ADMIN=1
	@$(LOCAL) token --email="$$WANTED_EMAIL" --name="$$WANTED_NAME" --admin="$$WANTED_ADMIN"

trace: bootstrap ## Print the traces of ID=<order, post, trace or request id>, or list the latest (ALL=1: with hidden ones)
	@$(LOCAL) trace $(if $(ALL),--all) -- "$$WANTED"

logs: bootstrap ## Print log lines: of the function F=, with the id ID=, SINCE=10m, FOLLOW=1, RAW=1
	@$(LOCAL) logs --function="$$WANTED_F" --id="$$WANTED" --since="$$WANTED_SINCE" \
		--follow="$$WANTED_FOLLOW" --raw="$$WANTED_RAW"

dead-letters: bootstrap ## List the queues with dead letters, or the dead letters of Q=<consumer> with their reasons (DELETE=1)
	@$(LOCAL) dead-letters --queue="$$WANTED_Q" --id="$$WANTED" --delete="$$WANTED_DELETE"

redrive: bootstrap ## Put the dead letters of Q=<consumer> back into its queue, or only those with ID=
	@$(LOCAL) redrive --queue="$$WANTED_Q" --id="$$WANTED"

order-retry: bootstrap ## Resume the saga of the order ID=<order id> where it stopped
	@$(LOCAL) order-retry -- "$$WANTED"

contract: ## Write every file that is generated from the code: the API's description, schemas, inputs, routes
	@cargo build --quiet --workspace --example contract
	@$${CARGO_TARGET_DIR:-target}/debug/examples/contract

check: ## Run every check that needs no running system: lints, unit tests, templates, documents
	@infra/local/bootstrap check
	@$(LOCAL) check

test: ## Run every check and test: `make check`, and the tests of the running system
	@infra/local/bootstrap test
	@$(LOCAL) test

clients: ## Run every generator and linter on the API's description, and a program with each generated client
	@infra/local/bootstrap clients
	@$(LOCAL) up
	@cargo test --workspace --test system clients:: -- --include-ignored --skip clients::browser::

outages: bootstrap ## Take each dependency of each function away for an hour, which takes 36 s, and print what happened
	@$(LOCAL) up
	@cargo test --workspace --test outages -- --include-ignored --nocapture --test-threads 1

fuzz: bootstrap ## Send the running system valid and invalid requests, generated from its description, until Ctrl-C
	@infra/local/bootstrap fuzz
	@$(LOCAL) fuzz

watch: bootstrap ## Serve the code being edited on port 9000, backed by the local cloud
	@$(LOCAL) watch

bench: bootstrap ## Measure cold starts, first answers, artifact sizes, the cost of tracing and calls between services
	@$(LOCAL) bench

clean-local: bootstrap ## Stop the local cloud and delete its state (ALL=1: the tools too)
	@$(LOCAL) clean $(if $(ALL),--all)

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap:
	@infra/local/bootstrap >&2
