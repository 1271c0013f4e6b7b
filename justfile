# The only door: CI runs the same recipes. `./just` finds or installs `just` itself.

set shell := ["sh", "-euc"]

# Everything below one folder, so that nothing of the demo or the tests lies anywhere else.
state := env("BINDERY_STATE", justfile_directory() / "state")
target := "target/" + `rustc -vV | sed -n 's/^host: //p'`

_default:
    @{{ just_executable() }} --justfile {{ justfile() }} --list --unsorted

# Build real programs for a profile, sign and publish them, and install them with a real, strict client
demo: host-tools build
    BINDERY_STATE={{ quote(state) }} BINDERY={{ quote(target / "release/bindery") }} tests/demo

# Run all tests, those with namespaces, images and Portage included
test: host-tools test-tools
    cargo test

# Run the probes of tests/battery under other sandboxes too (runc, crun, podman, bwrap, systemd-nspawn) and write docs/battery.md
battery-table: host-tools test-tools
    cargo test --test battery -- --ignored --exact the_table_of_peers

# Run the sandbox's tests on the oldest and on a current kernel, in virtual machines that have control groups v2
test-vm: vm-tools
    tests/machine/tests
    tests/machine/doctor

# Measure whether limits hold and what --yield spares others: asked against used
bench-quotas: host-tools build
    BINDERY_STATE={{ quote(state) }} BINDERY={{ quote(target / "release/bindery") }} tests/bench-quotas

# Kill bindery, enter and init at every system call of a run, at many of a build, and a hundred times at random (as root)
test-kills: host-tools test-tools
    BINDERY_TEST_KILLS=all cargo test --test chain -- --nocapture --test-threads=1 everywhere

# Prove the shipped profiles: five packages for each by every method, as root: `just profiles riscv64:auto` is a quick one
profiles *args: host-tools build
    BINDERY_STATE={{ quote(state) }} BINDERY={{ quote(target / "release/bindery") }} tests/profiles {{ args }}

# Compile bindery as it is installed: optimised and static
build: build-tools
    cargo build --release

# Install bindery below a prefix: one file, with its profiles and images in it
install prefix="/usr/local": build
    install -Dm755 {{ quote(target / "release/bindery") }} {{ quote(prefix / "bin/bindery") }}

# Check formatting, lints, dependencies' licences and sources
lint: deny
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --document-private-items

# Check the dependencies' licences, sources and bans
deny:
    tests/tool cargo-deny 0.20.2
    "${XDG_CACHE_HOME:-$HOME/.cache}/bindery/tools/bin/cargo-deny" check bans licenses sources

# Format the code and apply what the lints suggest
fix:
    cargo fmt
    cargo clippy --all-targets --fix --allow-dirty --allow-staged

# Build the documentation of the code
doc:
    cargo doc --no-deps --document-private-items

# Measure how long a sandbox takes to start and end, beside others: `just bench-sandbox --user NAME --rounds 200`
bench-sandbox *args: build-tools bench-tools
    cargo bench --bench startup -- {{ args }}

# Measure how fast programs are audited: `just bench-audit x86-64-v2 FILE…`
bench-audit *args: build-tools
    cargo bench --bench audit -- {{ args }}

# Measure what clean rooms cost, as root: `just bench-rooms --packages 20 --sample 2 --only graph` is the quick one
bench-rooms *args: host-tools build
    BINDERY_STATE={{ quote(state) }} BINDERY={{ quote(target / "release/bindery") }} tests/bench-rooms {{ args }}

# Measure what native tools spare where a profile is emulated: `just bench-emulation arm64 app-misc/hello`
bench-emulation profile="arm64" *packages: host-tools build
    BINDERY_STATE={{ quote(state) }} BINDERY={{ quote(target / "release/bindery") }} tests/bench-emulation {{ profile }} {{ packages }}

# Find or install what is needed to compile
build-tools:
    tests/host-tools build

# Find or install what the host must have to make images and enter namespaces
host-tools:
    tests/host-tools run

# Find or install what only the tests need
test-tools:
    tests/host-tools test

# Find or install what only the virtual machine of the tests needs
vm-tools:
    tests/host-tools vm

# Find or install what the bench compares with
bench-tools:
    tests/host-tools bench
