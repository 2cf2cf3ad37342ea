# Sourced by contrib/demo, contrib/test and contrib/bench/run: makes this machine and .venv ready, again and again.
#
#   setup EXTRA PACKAGE...   install the Debian PACKAGEs that are missing, then .venv with up42fs[EXTRA]
#
# A second run finds everything in place and needs no network. Python is run isolated (-I): without it, `-m` and
# `-c` would take modules from the directory you are in.

root=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
while [ ! -e "$root/pyproject.toml" ]; do root=$(dirname "$root"); done
venv="$root/.venv"

# Modules of other programs, or of wherever you are, are none of ours.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP

say() { printf '%s\n' "$*" >&2; }

missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            printf '%s ' "$package"
    done
}

ensure_packages() {
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: make sure these are installed in some form: $*"
        return
    fi
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        sudo=
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo=sudo
    else
        say "these Debian packages are missing; run:"
        say "  sudo apt-get update && sudo apt-get install --no-install-recommends -y $missing"
        exit 1
    fi
    say "installing Debian packages: $missing"
    log=$(mktemp)
    # $sudo and $missing are lists of words on purpose.
    # shellcheck disable=SC2086
    if ! { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        say "installing failed; the whole log is $log"
        exit 1
    fi
    rm -f "$log"
}

find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null && "$python" -I -c \
            'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$python"
            return
        fi
    done
    say "Python 3.11 or later is needed; on Debian 12 or Ubuntu 24.04: sudo apt-get install python3"
    exit 1
}

ensure_venv() {
    extra=$1
    python=$(find_python)
    if ! "$venv/bin/python" -I -m pip --version >/dev/null 2>&1; then
        say "making $venv"
        rm -rf "$venv"
        "$python" -I -m venv "$venv"
    fi
    wanted="$extra $(cksum <"$root/pyproject.toml") $root"
    stamp="$venv/.up42fs-$extra"
    if [ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
        say "installing up42fs[$extra] into $venv"
        "$venv/bin/python" -I -m pip install -qq --disable-pip-version-check -e "$root[$extra]" >&2 &&
            printf '%s' "$wanted" >"$stamp"
    fi
}

# Tests compare the order of names with that of glibc's locales, and read names under others.
ensure_locales() {
    command -v localedef >/dev/null || return 0
    for wanted in "$@"; do
        locale -a 2>/dev/null | grep -qix "$(printf '%s' "$wanted" | sed 's/UTF-8/utf8/; s/ISO-/iso/; s/iso8859-/iso8859/')" && continue
        say "making the locale $wanted"
        if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
        # localedef warns of fields that a locale lacks, and says so by its status.
        $sudo localedef -i "${wanted%%.*}" -f "${wanted#*.}" "$wanted" >/dev/null 2>&1 </dev/null || true
    done
}

setup() {
    extra=$1
    shift
    ensure_packages "$@"
    ensure_venv "$extra"
    # Pip compiles what it installs, but not what it only links to; where Python is told to write no
    # bytecode, every command would compile a hundred modules again.
    "$venv/bin/python" -I -m compileall -q "$root/up42fs"
    PATH="$venv/bin:$PATH"
    export PATH
}

# All that the suite needs, wherever a part of it runs.
setup_suite() {
    setup test fuse3 libfuse3-dev pkg-config gcc libc6-dev python3-dev python3-venv gdal-bin attr rsync zip unzip \
        nginx python3-gdal curl openssl util-linux locales systemd groff-base libarchive-tools xz-utils zstd zsh fish \
        tumbler dbus libglib2.0-bin # thumbnails: 40 MB with what they depend on
    # Ubuntu has no such package, and not every Python all of these: the tests that need them say so and are skipped.
    if apt-cache show chromium >/dev/null 2>&1; then ensure_packages chromium; fi
    if apt-cache show default-jre-headless >/dev/null 2>&1; then ensure_packages default-jre-headless; fi
    ensure_venv engines || say "cannot install up42fs[engines]: tests that need Spark or Ray are skipped"
    ensure_venv recipes,pages || say "cannot install up42fs[recipes,pages]: tests that need them are skipped"
    ensure_locales en_US.UTF-8 de_DE.UTF-8 fr_FR.UTF-8 de_DE.ISO-8859-1
}
