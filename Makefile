# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Every target works as an ordinary user in this checkout. Run by root, a target installs what is missing and then runs
# as an ordinary user (STOCKYARD_USER, default stockyard) in a copy under that user's home.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

TARGETS := setup demo endpoint teardown report test test-full endpoint-suite endpoint-clients lint bench bench-full bench-kvm docs

.PHONY: help generate generate-diff $(TARGETS)

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24
	@echo 'Variables: ARGS (passed on to the tool), PYTHON (default /usr/bin/python3), STOCKYARD_USER (for root).'

# The copy of root's runs has no git.
endpoint-suite: export STOCKYARD_COMMIT ?= $(shell git describe --always --dirty 2>/dev/null)

ifeq ($(shell id -u),0)

$(TARGETS):
	@hack/as-user.sh $@

generate:
	@hack/as-user.sh generate-diff | git apply --allow-empty

else

setup: ## install Debian packages and .venv; instant when nothing changed
	@hack/packages.sh
	@hack/setup.sh

# The yard of the demo has an owner of its own. ARGS="-e yard=FILE" names another declaration.
DEMO := -e yard=$(CURDIR)/examples/yard.yml

demo: setup ## build a template, fork three hosts, print how to reach them
	@hack/playbook.sh --demo site $(DEMO) $(ARGS)
	@hack/where.sh

endpoint: setup ## serve a Docker API, and run a container in a virtual machine; ARGS goes to docker run
	@hack/endpoint.sh $(ARGS)

teardown: setup ## remove all hosts of the demo, but not the template
	@hack/endpoint.sh --end
	@hack/playbook.sh teardown $(DEMO) $(ARGS)

report: setup ## write a page of the demo's yard to build/yard.html
	@hack/playbook.sh report $(DEMO) -e report_dest="$(CURDIR)/build/yard.html" $(ARGS)

test: setup ## all tests but the long ones
	@.venv/bin/pytest -m "not full" --numprocesses=2 --junitxml=build/junit.xml $(ARGS)

test-full: setup ## all tests, the long ones too
	@.venv/bin/pytest $(ARGS)

endpoint-suite: setup ## docker-py's tests on a bare dockerd in a host and on the endpoint; ARGS="1/8" runs a part
	@hack/endpoint_suite.sh $(ARGS)

CLIENT_TESTS := $(patsubst %,tests/e2e/test_endpoint_%.py,clients programs buildbot gitlab jenkins)

endpoint-clients: setup ## real Docker clients on the endpoint; ARGS="-k compose" runs some of them
	@.venv/bin/pytest --numprocesses=0 $(CLIENT_TESTS) $(ARGS)

lint: setup ## all checks; ARGS="ruff mypy" runs only those
	@hack/lint.sh $(ARGS)

bench: setup ## measure how fast it is, in a few minutes; ARGS="start memory" measures some of it
	@hack/bench.sh $(ARGS)

bench-full: setup ## measure all of it, which takes most of an hour
	@hack/bench.sh --full $(ARGS)

bench-kvm: setup ## time to the first command on a machine with KVM, alone and in bursts of 10, 30 and 100
	@hack/bench.sh --kvm --full $(or $(ARGS),compute)

generate: setup ## update the documentation of options that follows from the code
	@.venv/bin/python -m hack.generate

generate-diff: setup
	@.venv/bin/python -m hack.generate --diff

docs: setup ## make the site of documentation, build/docs/html
	@hack/docs.sh $(ARGS)

endif
