# Everything that is built or fetched stays in bin, .cache and .tools.

STATICCHECK_VERSION = v0.7.0
STATICCHECK = .tools/staticcheck-$(STATICCHECK_VERSION)

TRIALS   ?= 300
SEED     ?= 1
FUZZTIME ?= 60s
# What tests must not pass over: what is installed here, and of the system's
# programs those that it has. The others are told as *not run*.
REQUIRE  ?= chroma,s3,gcs,toxiproxy$(if $(shell command -v npm),$(comma)azure)$(if $(wildcard /usr/sbin/sshd),$(comma)sftp)$(if $(shell command -v rclone),$(comma)webdav)
comma    := ,
ALSO     ?=
FLIPS    ?= 10

.DEFAULT_GOAL := help
.PHONY: help build chroma servers minio test test-short lint demo torture flips bench fuzz generate clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/colorfast, one static binary
	CGO_ENABLED=0 go build -trimpath -o bin/colorfast ./cmd/colorfast

chroma: ## install the pinned Chromas that tests run against into .cache
	go run ./internal/chromatest/install

servers: ## install the pinned storage servers that tests run against into .cache
	go run ./internal/servers/install $(REQUIRE)

minio: ## install MinIO too, a second S3; about five minutes of a processor
	go run ./internal/servers/install minio

test: chroma servers lint ## run everything: linters, tests with real Chromas and storage servers
	COLORFAST_REQUIRE=$(REQUIRE),$(ALSO) go test -count=1 -timeout 38m ./...

test-short: ## run what needs no Chroma and no patience
	go test -short ./...

lint: $(STATICCHECK) ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path './.cache/*' -not -path './.tools/*')) && \
	  if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(STATICCHECK) ./...

$(STATICCHECK):
	GOBIN=$(CURDIR)/.tools go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	mv .tools/staticcheck $@

demo: build ## the main job on a real Chroma: back up under load, wreck, restore, compare
	go run ./internal/demo

torture: build ## random trials against real Chromas; TRIALS=300 SEED=1
	go run ./internal/torture/run -trials $(TRIALS) -seed $(SEED)

flips: ## flip bits in every blob of a small vault, FLIPS=10 places in each
	COLORFAST_FLIPS=$(FLIPS) go test -count=1 -timeout 60m -v -run '^TestBitFlips$$' ./vault

bench: ## measure freeze times, and what repeated backups cost beside other tools
	go run ./internal/bench

fuzz: ## run each fuzzer for FUZZTIME=60s
	@found=0; \
	for file in $$(grep -rl --include='*_test.go' --exclude-dir='.*' '^func Fuzz' *); do \
	  for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
	    found=1; echo "$$name in $$(dirname "$$file")"; \
	    go test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "./$$(dirname "$$file")" || exit 1; \
	  done; \
	done; \
	if [ $$found = 0 ]; then echo "no fuzzers found"; exit 1; fi

generate: ## rewrite the documents that are generated from code
	go test -run '^TestFindingsDocument$$' -count=1 . -update

clean: ## remove what was built; installed Chromas stay in .cache
	rm -rf bin .tools
