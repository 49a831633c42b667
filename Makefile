# build test lint fuzz bench demo check: see README.md.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
MUST    ?= root,userns,erofs,cgroups,busybox,git,tar,skopeo,umoci,podman,docker-registry,htpasswd,openssl,ssh-agent,mkfs.ext4
FUZZTIME ?= 20s

export CGO_ENABLED ?= 0

.PHONY: build demo test race lint fuzz bench check

build: bin/forge

bin/forge: FORCE
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $@ ./cmd/forge

FORCE:

demo: build
	scripts/deps.sh demo
	scripts/demo.sh bin/forge

test:
	scripts/deps.sh test
	FORGE_TEST_MUST=$(MUST) $(GO) test -timeout 20m ./...
	FORGE_TEST_MUST=$(MUST) $(GO) test -timeout 20m -tags failpoint -run 'Failpoint|FailPoint|Kill' ./...

race:
	CGO_ENABLED=1 FORGE_TEST_MUST=$(MUST) $(GO) test -race -timeout 40m ./...

lint:
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	$(GO) vet ./...
	golangci-lint run

fuzz:
	scripts/fuzz.sh $(FUZZTIME)

bench: build
	$(GO) run ./bench bin/forge

check: lint test
