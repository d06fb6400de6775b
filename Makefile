# make run    a server with its web client, on http://127.0.0.1:8080/
# make cluster  three servers as one, on ports 8081 to 8083, beside a database of their own
# make test   every test but the longest
# make test-long  those that take minutes: a database of three nodes
# make check  formatting, lints, documentation, licences
# make bench  the measurements
# make clean  back to the sources
#
# Each installs what it needs from Debian's archive when it may (root or sudo without a password), and otherwise names
# it. Rust comes from rustup and is never installed here.

SHELL := /bin/sh
NODE_LEAST := 18
DATA ?= data

.PHONY: run cluster test test-long check bench clean rust node chromium cassandra web

run: rust web
	cargo build --release --locked
	ROOKERY__STORE__FOLDER="$(DATA)" target/release/rookery serve

cluster: rust web cassandra
	cargo build --release --locked --package rookery --package rookery-test-cassandra
	target/release/rookery-test-cassandra scripts/cluster target/release/rookery "$(DATA)/cluster"

test: rust web chromium cassandra
	cargo build --locked --package rookery --package rookery-test-cassandra
	cargo test --workspace --locked
	cd client-web && npm test && npm run test:integration && npm run test:browser
	cd client-web && ../target/debug/rookery-test-cassandra npm run test:browser

test-long: rust web cassandra
	cargo test --locked --package rookery-store --test scylla_cluster -- --ignored --test-threads 1

check: rust web
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --locked
	scripts/deny
	cd client-web && npm run check

bench: rust cassandra
	cargo bench --workspace --locked --features rookery-actors/bench --bench '*'
	cargo bench --locked --package rookery-store --bench cql -- --nodes 3
	cargo build --release --locked --package rookery --package rookery-bench
	for what in idle fanout saturate stopped; do \
		target/release/rookery-bench --rookery target/release/rookery $$what || exit 1; done

clean:
	cargo clean
	rm -rf client-web/dist client-web/node_modules

# What the targets above need.

rust:
	@scripts/need cargo "the Rust toolchain: https://rustup.rs"
	@scripts/need cc build-essential
	@scripts/need pkg-config pkg-config

node:
	@scripts/need node nodejs
	@scripts/need npm npm
	@node -e 'process.exit(parseInt(process.versions.node) >= $(NODE_LEAST) ? 0 : 1)' \
		|| { echo "$$(node --version) is too old: the web client needs Node.js $(NODE_LEAST) or later" >&2; exit 1; }

chromium:
	@scripts/need chromium chromium

cassandra:
	@scripts/need java openjdk-17-jre-headless
	@scripts/need mvn maven
	@scripts/cassandra >/dev/null

web: node client-web/dist/index.html

client-web/node_modules/.package-lock.json: client-web/package-lock.json
	cd client-web && npm ci --no-audit --no-fund

client-web/dist/index.html: client-web/node_modules/.package-lock.json $(shell find client-web/app client-web/sdk/src client-web/*.ts client-web/package.json -type f 2>/dev/null)
	cd client-web && npm run build
