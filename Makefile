# Carrel. `make up` starts it, `make test` tests everything this machine can run.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
GO ?= go
export CGO_ENABLED ?= 0
export GOFLAGS += -trimpath -buildvcs=false
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.1
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
LDFLAGS := -s -w -X main.version=$(VERSION)
CACHE := .cache
# Tests that are only asked when the quick ones have not noticed a change.
MUTATE_SLOW := Random|Merged|Order|Filter|Printed|ASet|AddingADeny|Complement|TheIndexFinds|LongWild

.PHONY: build assets test check staticcheck bench up down generate unit e2e tls-scan fuzz mutate need clean

build: assets ## bin/carrel, static
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/carrel ./cmd/carrel

assets: ## the portal's viewer, noVNC, from npm; quick when it is there
	@./web/portal/assets

generate: ## the API packages from the models, docs/divergences.md from the handlers
	$(GO) run ./internal/tools/apigen
	$(GO) test -count=1 -run TestDivergencesDocument ./internal/app -update

staticcheck:
	@$(GO) run $(STATICCHECK) ./...

check: ## format, vet, staticcheck, archtest, unit tests
	@test -z "$$(gofmt -l cmd internal test)" || { gofmt -l cmd internal test; echo 'run: gofmt -w cmd internal test'; exit 1; }
	$(GO) vet ./...
	$(MAKE) --no-print-directory staticcheck
	$(GO) test ./internal/archtest
	$(MAKE) --no-print-directory unit

test: ## everything that can run on this machine
	./test/all

unit: ## unit tests of every package
	$(GO) test -timeout 15m ./cmd/... ./internal/...

e2e: build ## the AWS CLI against the binary
	$(GO) test -timeout 20m ./test/e2e/...

bench: build ## figures side by side with their peers, in one run
	./test/bench/run

tls-scan: build ## sslscan and testssl.sh against both doors
	./test/tls/scan

fuzz: ## every fuzz target for FUZZTIME (default 20000x; a time such as 60s works too)
	./test/fuzz

mutate: ## every small change of the policy engine, and whether the tests notice it; takes some minutes
	GOROOT=$$($(GO) env GOROOT) $(GO) run ./internal/tools/mutate -min 95 -slow '$(MUTATE_SLOW)' -skip 'TimeDoesNot|Hostile' ./internal/policy

up: build ## start in simulation in the background and say how to use it
	./test/up

down: ## stop what `make up` started
	./test/down

need: ## what the tests need from the distribution
	./test/need

clean:
	rm -rf bin $(CACHE) internal/webui/static/vendor
