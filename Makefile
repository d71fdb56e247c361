.DEFAULT_GOAL := help
.PHONY: build up down demo token trace logs dead-letters redrive order-retry contract check test fuzz watch bench clean-local help

LOCAL := .local/venv/bin/python -m infra.local
# As it was written: make would carry out what stands in $(…).
unexport ID
export WANTED := $(value ID)
# Of these, what stands on the command line: people have an EMAIL and a NAME of other meaning in their environment.
GIVEN := ADMIN DELETE EMAIL F FOLLOW NAME Q RAW SINCE
unexport $(GIVEN)
given = $(if $(filter command,$(origin $(1))),$(value $(1)))
$(foreach name,$(GIVEN),$(eval export WANTED_$(name) := $$(call given,$(name))))

build: bootstrap ## Build every function for AWS (arm64)
	@.local/venv/bin/python -m pip install -q --disable-pip-version-check -r infra/local/requirements/build.txt
	PATH="$(CURDIR)/.local/venv/bin:$$PATH" cargo lambda build --release --arm64 --output-format zip --workspace --exclude system-tests

up: bootstrap ## Build, start the local AWS and deploy what has changed
	@$(LOCAL) up

down: bootstrap ## Stop the local AWS; its state is kept
	@$(LOCAL) down

demo: bootstrap ## Play the story through the API; brings the system up if it is down
	@$(LOCAL) demo

token: bootstrap ## Print an access token of a person who is signed up if need be: EMAIL=, NAME=, ADMIN=1
	@$(LOCAL) token --email="$$WANTED_EMAIL" --name="$$WANTED_NAME" --admin="$$WANTED_ADMIN"

trace: bootstrap ## Print the traces of ID=<order, post, trace or request id>; without it, the latest (ALL=1: idle runs too)
	@$(LOCAL) trace $(if $(ALL),--all) -- "$$WANTED"

logs: bootstrap ## Print log lines: of a function F=, with an id ID=, SINCE=10m, FOLLOW=1, RAW=1
	@$(LOCAL) logs --function="$$WANTED_F" --id="$$WANTED" --since="$$WANTED_SINCE" \
		--follow="$$WANTED_FOLLOW" --raw="$$WANTED_RAW"

dead-letters: bootstrap ## List the messages that were given up; those of the consumer Q= with their reasons (DELETE=1)
	@$(LOCAL) dead-letters --queue="$$WANTED_Q" --id="$$WANTED" --delete="$$WANTED_DELETE"

redrive: bootstrap ## Put the messages back that the consumer Q= has given up; ID= only one
	@$(LOCAL) redrive --queue="$$WANTED_Q" --id="$$WANTED"

order-retry: bootstrap ## Make the saga of the order ID=<order id> go on where it stopped
	@$(LOCAL) order-retry -- "$$WANTED"

contract: ## Write every file that is made of the code: the API's description, schemas, inputs, routes
	@cargo build --quiet --workspace --example contract
	@$${CARGO_TARGET_DIR:-target}/debug/examples/contract

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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap:
	@infra/local/bootstrap >&2
