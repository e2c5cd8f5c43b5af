# make run    set everything up and start a node          make check  the fast inner loop
# make test   set everything up and run every test        make build  leave the program at bin/madang
SHELL := /bin/bash
.DEFAULT_GOAL := build
export CGO_ENABLED ?= 0
# No path of this machine is in what is built, so that builds, checks and tests, in whatever folder, compile each package once for all of them.
export GOFLAGS := $(strip $(shell go env GOFLAGS 2>/dev/null) -trimpath)

# Where the machine's Node.js is too old for the build, scripts/setup puts one here.
export PATH := $(CURDIR)/.node/node_modules/.bin:$(PATH)

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: run build web check check-static test test-units test-web fuzz bench setup clean

run: build
	bin/madang serve

build: web
	go build -ldflags "-s -w -X github.com/madang-rtc/madang/internal/server.version=$(VERSION)" -o bin/madang ./cmd/madang

# The pages, the SDK and its reference, built into internal/web/dist, from where the program embeds them.
WEB_SOURCES := $(shell find sdk ui docs scripts/docs.* -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path 'sdk/api/*' 2>/dev/null)
web: internal/web/dist/.built
internal/web/dist/.built: node_modules/.package-lock.json $(WEB_SOURCES)
	npm run build
	npm run reference -w sdk
	find internal/web/dist -mindepth 1 -not -name .gitkeep -delete
	cp -r ui/dist/. internal/web/dist/
	mkdir -p internal/web/dist/sdk internal/web/dist/docs/sdk
	cp -r sdk/dist/. internal/web/dist/sdk/
	node scripts/docs.mjs internal/web/dist/docs
	cp -r sdk/api/. internal/web/dist/docs/sdk/
	touch $@

node_modules/.package-lock.json: package-lock.json package.json sdk/package.json ui/package.json
	@./scripts/setup build
	# Not npm ci: it refuses a lock file without the optional packages of other platforms, which some registries lack.
	npm install --no-save --no-audit --no-fund
	touch $@

check: check-static
	go test -short ./cmd/... ./internal/...
	npm test

check-static: node_modules/.package-lock.json
	@test -z "$$(gofmt -l cmd internal test)" || { gofmt -l cmd internal test; echo "error: gofmt the files above" >&2; exit 1; }
	go vet ./...
	$(STATICCHECK) ./...
	npm run check

setup:
	./scripts/setup

test: setup
	./scripts/test

# More at a time than there are processors: most of what is parallel waits for a foreign program or a clock.
test-units:
	./scripts/go-test -parallel 8 ./cmd/... ./internal/...

test-web: node_modules/.package-lock.json
	npm test

# make fuzz FUZZTIME=10m
fuzz:
	./scripts/fuzz

bench: build
	go test -run '^$$' -bench . -benchmem ./internal/...
	bin/madang bench signal
	bin/madang bench relay

clean:
	rm -rf bin ui/dist sdk/dist sdk/api test/output
	find internal/web/dist -mindepth 1 -not -name .gitkeep -delete
