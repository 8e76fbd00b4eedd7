#!/bin/sh
# An emulator of AWS by others (ministack, PyPI, MIT), so that the fake CloudWatch is not judged by our own client alone, and
# a proxy by others (microburst, PyPI, MIT) that fails as AWS does.
#
#   ministack.sh install                  installs both
#   ministack.sh up      [STATE]          installs what is missing and starts it; prints its address
#   ministack.sh address [STATE]          its address; succeeds only when it answers
#   ministack.sh burst   [STATE] RULES    starts the proxy before it, with rules in a file of JSON; prints the proxy's address
#   ministack.sh fired   [STATE]          what the proxy did, as JSON
#   ministack.sh down    [STATE]          ends both
#
# STATE is $BAROGRAPH_MINISTACK_RIG unless said, else /tmp/barograph-ministack. They listen on loopback and on ports that were
# free; nothing is kept on disk.
set -eu
export LC_ALL=C
MINISTACK=1.5.33
MICROBURST=0.10.0

log() { printf 'ministack rig: %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }

S=$(realpath -m "${2:-${BAROGRAPH_MINISTACK_RIG:-/tmp/barograph-ministack}}")
TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/barograph/tools
VENV=$TOOLS/ministack-$MINISTACK-$MICROBURST

ask() { # address path
    "$VENV/bin/python" - "$1" "$2" <<'P' 2>/dev/null
import sys, urllib.request
print(urllib.request.urlopen("http://%s%s" % (sys.argv[1], sys.argv[2]), timeout=2).read().decode())
P
}

address() { printf '127.0.0.1:%s\n' "$(cat "$S/$1.port")"; }

answers() { # name path
    [ -s "$S/$1.port" ] && ask "$(address "$1")" "$2" >/dev/null
}

# start NAME PATH COMMAND...: it listens on the port in $S/NAME.port, and answers PATH when it is ready.
start() {
    name=$1 path=$2
    shift 2
    # It is the leader of its session, so that what it starts can be ended with it.
    setsid "$@" > "$S/$name.log" 2>&1 < /dev/null &
    echo $! > "$S/$name.pid"
    tries=0
    until answers "$name" "$path"; do
        tries=$((tries + 1))
        kill -0 "$(cat "$S/$name.pid")" 2>/dev/null || { tail -n 5 "$S/$name.log" >&2; die "$name ended"; }
        [ $tries -lt 120 ] || die "$name does not answer"
        sleep 0.5
    done
    address "$name"
}

port() {
    "$VENV/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' > "$S/$1.port"
}

install() {
    [ ! -e "$VENV/.complete" ] || return 0
    mkdir -p "$TOOLS"
    # One installs, the others wait for it.
    exec 9> "$VENV.lock"
    flock 9
    if [ ! -e "$VENV/.complete" ]; then
        log "installing ministack $MINISTACK and microburst $MICROBURST"
        rm -rf "$VENV"
        python3 -m venv "$VENV"
        # cbor2 is what ministack needs for CBOR and does not ask for.
        "$VENV/bin/pip" -q install --disable-pip-version-check \
            "ministack==$MINISTACK" cbor2 "microburst==$MICROBURST" >&2 || die "pip failed"
        touch "$VENV/.complete"
    fi
    exec 9>&-
}

up() {
    install
    mkdir -p "$S"
    if answers ministack /_ministack/health; then address ministack; return; fi
    port ministack
    start ministack /_ministack/health env BIND_HOST=127.0.0.1 GATEWAY_PORT="$(cat "$S/ministack.port")" "$VENV/bin/ministack"
}

burst() { # rules
    [ -s "${1:-}" ] || die "burst wants a file of rules"
    answers ministack /_ministack/health || die "ministack does not run"
    port microburst
    "$VENV/bin/python" - "$1" > "$S/microburst.yaml" <<'P'
import json, sys
print(json.dumps({"rules": json.load(open(sys.argv[1]))}))
P
    start microburst /_microburst/health "$VENV/bin/microburst" --port "$(cat "$S/microburst.port")" --no-resign \
        --upstream "http://$(address ministack)" --config "$S/microburst.yaml"
}

down() {
    for name in microburst ministack; do
        [ -s "$S/$name.pid" ] || continue
        pid=$(cat "$S/$name.pid")
        kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || true
        tries=0
        while kill -0 "$pid" 2>/dev/null; do
            tries=$((tries + 1))
            [ $tries -lt 100 ] || { kill -9 -- "-$pid" 2>/dev/null || true; break; }
            sleep 0.1
        done
        rm -f "$S/$name.pid" "$S/$name.port"
    done
}

case ${1:-} in
    install) install ;;
    up) up ;;
    address) answers ministack /_ministack/health || exit 1; address ministack ;;
    burst) burst "${3:-}" ;;
    fired) ask "$(address microburst)" /_microburst/fired ;;
    down) down ;;
    *) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
