#!/bin/sh
# An emulator of AWS by others (ministack, PyPI, MIT), so that the fake CloudWatch is not judged by our own client alone.
#
#   ministack.sh up      [STATE]   installs it into STATE/venv if need be and starts it; prints its address
#   ministack.sh address [STATE]   its address; succeeds only when it answers
#   ministack.sh down    [STATE]   ends it; STATE/venv stays
#
# STATE is $BAROGRAPH_MINISTACK_RIG unless said, else /tmp/barograph-ministack. MINISTACK_VENV is an environment that has
# it already. It listens on loopback and on a port that was free; nothing is kept on disk.
set -eu
export LC_ALL=C
VERSION=1.5.33

log() { printf 'ministack rig: %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }

S=$(realpath -m "${2:-${BAROGRAPH_MINISTACK_RIG:-/tmp/barograph-ministack}}")
VENV=${MINISTACK_VENV:-$S/venv}

answers() {
    [ -s "$S/port" ] && "$VENV/bin/python" - "$(cat "$S/port")" <<'P' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen("http://127.0.0.1:%s/_ministack/health" % sys.argv[1], timeout=2).read()
P
}

address() { printf '127.0.0.1:%s\n' "$(cat "$S/port")"; }

up() {
    mkdir -p "$S"
    if [ ! -x "$VENV/bin/ministack" ]; then
        log "installing ministack $VERSION"
        python3 -m venv "$VENV"
        # cbor2 is what it needs for CBOR and does not ask for.
        "$VENV/bin/pip" install -q "ministack==$VERSION" cbor2 >&2
    fi
    if answers; then address; return; fi
    "$VENV/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' > "$S/port"
    # It is the leader of its session, so that what it starts can be ended with it.
    BIND_HOST=127.0.0.1 GATEWAY_PORT=$(cat "$S/port") setsid "$VENV/bin/ministack" > "$S/log" 2>&1 < /dev/null &
    echo $! > "$S/pid"
    tries=0
    until answers; do
        tries=$((tries + 1))
        kill -0 "$(cat "$S/pid")" 2>/dev/null || { tail -n 5 "$S/log" >&2; die "it ended"; }
        [ $tries -lt 120 ] || die "it does not answer"
        sleep 0.5
    done
    address
}

down() {
    [ -s "$S/pid" ] || return 0
    pid=$(cat "$S/pid")
    kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || true
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { kill -9 -- "-$pid" 2>/dev/null || true; break; }
        sleep 0.1
    done
    rm -f "$S/pid" "$S/port"
}

case ${1:-} in
    up) up ;;
    address) answers || exit 1; address ;;
    down) down ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
