# "make help" lists what can be made; README.md and CONTRIBUTING.md say when.
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
EPOCH    ?= $(shell git show -s --format=%ct HEAD 2>/dev/null || echo 0)
MUST     ?= root,static,userns,erofs,cgroups,busybox,git,tar,skopeo,umoci,podman,docker-registry,htpasswd,openssl,ssh-agent,mkfs.ext4,strace
FUZZTIME ?= 10s
IMAGE    ?= forge:$(VERSION)
KILLS    := Failpoint|FailPoint|Kill
KILLED    = $(shell grep -lrE --include=*_test.go '^func Test[A-Za-z]*($(KILLS))' . | xargs -n1 dirname | sort -u)

export CGO_ENABLED ?= 0

.PHONY: help build image demo test test-short remote crowd clients race lint vuln fuzz bench bench-short numbers release package pictures reproduce check tools

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/\1\t\2/p' Makefile | expand -t 14

build: bin/forge ## bin/forge for this machine, or GOARCH=arm64

# The copy starts 0.4 ms sooner: the linker writes page by page, and what is written in large pieces is mapped in large pieces.
bin/forge: FORCE
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $@.linked ./cmd/forge
	cp $@.linked $@.copied && mv $@.copied $@ && rm $@.linked

FORCE:

image: build ## the image of forge for CI jobs, and one with a shell (-debug), built by forge
	scripts/image.sh bin/forge $(IMAGE) $(EPOCH)

demo: build ## build an image, run it, build it again from the cache
	scripts/deps.sh demo
	scripts/demo.sh bin/forge

test-short: ## what to run before each commit: seconds
	$(GO) test -short -p 4 -ldflags=-w ./... # packages wait for the disk, and so do not take a processor each; no debug data to link

test: ## all tests; as root, it installs what they need
	scripts/deps.sh test
	FORGE_TEST_MUST=$(MUST) $(GO) test -timeout 20m ./...
	FORGE_TEST_MUST=$(MUST) $(GO) test -timeout 20m -tags failpoint -run '$(KILLS)' $(KILLED) # linked a second time

remote: ## real servers of the Remote Execution API, out of Debian's packages, do the test corpus; needs root
	scripts/deps.sh test
	scripts/remote.sh test

crowd: ## containers by the hundred: 50 processes at the same names, 200 rounds, 50 at once
	scripts/deps.sh test
	FORGE_CROWD=50 FORGE_ROUNDS=200 FORGE_TOGETHER=50 FORGE_TEST_MUST=$(MUST) $(GO) test -timeout 20m -run 'TestContainerCrowd|TestContainerRounds' ./cmd/forge

clients: ## docker's clients, unchanged, and forge: compose, buildx, testcontainers, act, dockerode, devcontainers; into the user's cache
	scripts/deps.sh test
	dir=$$(scripts/clients.sh) && FORGE_CLIENTS=$$dir FORGE_CROWD=500 FORGE_ATTACHED=1024 FORGE_TEST_MUST=$(MUST),clients $(GO) test -timeout 20m -run 'TestClient|TestAPI' ./cmd/forge

race: ## the tests of test-short and more, with the race detector
	scripts/deps.sh race
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m ./...

tools: ## the linters, at fixed versions, into bin/tools
	scripts/tools.sh

# The tables of system calls have several rows in a line.
lint: tools ## format, vet for both architectures, golangci-lint
	test -z "$$(bin/tools/gofumpt -l $$(git ls-files '*.go' ':!runtime/syscalls_*') | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) vet -tags failpoint ./...
	GOARCH=arm64 $(GO) vet ./...
	bin/tools/golangci-lint run --timeout 15m

vuln: tools ## known vulnerabilities of what forge calls
	scripts/vuln.sh

fuzz: ## each fuzz target for FUZZTIME
	scripts/fuzz.sh $(FUZZTIME)

HISTORY ?= bench/history.jsonl

bench: build ## forge, floors and peers, in turn, a line into HISTORY, and how times grow, into docs/growth.svg
	$(GO) run ./bench -kept bench/kept.json -history $(HISTORY) bin/forge
	$(GO) run ./bench -growth docs/growth.svg bin/forge

bench-short: build ## the benchmarks that take seconds, once, beside the last kept ratios to their floors
	$(GO) run ./bench -n 1 -kept bench/kept.json bin/forge

numbers: ## sizes, and places that break the rules of the house
	scripts/numbers.sh

release: ## static binaries, archives, checksums into dist/
	scripts/release.sh $(VERSION) $(EPOCH) dist

package: release ## Debian packages into dist/
	scripts/package.sh $(VERSION) $(EPOCH) dist

pictures: build ## the pictures of the tutorial, by tmux
	scripts/pictures.sh bin/forge

reproduce: ## the release of this commit twice: the same bytes?
	scripts/reproduce.sh

check: lint test ## before you send a change
