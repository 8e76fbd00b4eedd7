#!/bin/sh
# A moto server of its own, for tests of the AWS provider: EC2, EBS, VPC and STS in memory, on loopback.
#
#   aws.sh up     [STATE]   installs what is missing, starts the server, prints its address
#   aws.sh down   [STATE]   ends the server, removes STATE
#   aws.sh reset  [STATE]   as it was after the start
#   aws.sh url    [STATE]   prints the address
#   aws.sh log    [STATE]   prints what the server was asked
#   aws.sh install          only installs it
#   aws.sh call STATE REGION OPERATION JSON   what somebody else does, in boto3's words: modify_instance_attribute '{...}'
#
# STATE (default: $BAROGRAPH_AWS_RIG, else /tmp/barograph-aws) holds address, process id and log; several rigs can run.
# Images and instance types are checked as AWS does. What moto lacks: client tokens, prices, a CloudWatch that speaks as the
# Rust SDK does, and time: what is asked for is done at once. RIG_NO_PIP=1 never installs anything.
set -eu
export LC_ALL=C

MOTO='moto[server,ec2]==5.2.5'
TOOLS=${XDG_CACHE_HOME:-$HOME/.cache}/barograph/tools
VENV=$TOOLS/moto-5.2.5

log() { printf 'aws rig: %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }

state() { S=$(realpath -m "${1:-${BAROGRAPH_AWS_RIG:-/tmp/barograph-aws}}"); }

install() {
    [ ! -e "$VENV/.complete" ] || return 0
    [ -z "${RIG_NO_PIP:-}" ] || die "moto is missing; run $0 install"
    python3 -c 'import venv, ensurepip' 2>/dev/null || die "python3 with venv is missing; as root: apt-get install --no-install-recommends python3-venv"
    mkdir -p "$TOOLS"
    # One installs, the others wait for it.
    exec 9> "$VENV.lock"
    flock 9
    if [ ! -e "$VENV/.complete" ]; then
        log "installing $MOTO"
        rm -rf "$VENV"
        python3 -m venv "$VENV"
        "$VENV/bin/pip" -q install --disable-pip-version-check "$MOTO" >&2 || die "pip failed"
        touch "$VENV/.complete"
    fi
    exec 9>&-
}

server() { # process id of the server, if it lives and is ours
    [ -s "$S/pid" ] || return 1
    SERVER=$(cat "$S/pid")
    [ -r "/proc/$SERVER/cmdline" ] && tr '\0' ' ' < "/proc/$SERVER/cmdline" | grep -q moto_server
}

ask() { # method path: through Python, which is there in any case
    "$VENV/bin/python" -c 'import sys, urllib.request as u
u.urlopen(u.Request(sys.argv[2], method=sys.argv[1]), timeout=5).read()' "$1" "$(cat "$S/url")$2" 2>/dev/null
}

up() {
    install
    if server && ask GET /moto-api/; then
        cat "$S/url"
        return 0
    fi
    [ ! -e "$S" ] || [ -e "$S/pid" ] || [ -z "$(ls -A "$S")" ] || die "$S holds something else"
    mkdir -p "$S"
    rm -f "$S/url"
    # The kernel chooses the port, and the server's log says which. Nothing of this machine's own sign-in is for it.
    env -u AWS_PROFILE -u HTTP_PROXY -u HTTPS_PROXY -u http_proxy -u https_proxy \
        MOTO_ENABLE_AMI_VALIDATION=true MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION=true PYTHONUNBUFFERED=1 \
        setsid "$VENV/bin/python" "$VENV/bin/moto_server" -H 127.0.0.1 -p 0 \
        > "$S/log" 2>&1 < /dev/null &
    echo $! > "$S/pid"
    tries=0
    until [ -s "$S/url" ] && ask GET /moto-api/; do
        tries=$((tries + 1))
        [ $tries -lt 240 ] && kill -0 "$(cat "$S/pid")" 2>/dev/null ||
            { tail -n 20 "$S/log" >&2; die "moto does not answer"; }
        sleep 0.25
        sed -n 's#^.*Running on \(http://127\.0\.0\.1:[0-9]*\).*$#\1#p' "$S/log" | head -n 1 > "$S/url"
    done
    cat "$S/url"
}

down() {
    if server; then
        kill "$SERVER" 2>/dev/null || :
        tries=0
        while kill -0 "$SERVER" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
        kill -9 "$SERVER" 2>/dev/null || :
    fi
    [ ! -e "$S/pid" ] || rm -rf "$S"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
install) install ;;
up) state "${1:-}"; up ;;
down) state "${1:-}"; down ;;
reset) state "${1:-}"; ask POST /moto-api/reset ;;
url) state "${1:-}"; cat "$S/url" ;;
log) state "${1:-}"; cat "$S/log" ;;
call)
    state "$1"
    "$VENV/bin/python" -c 'import boto3, json, sys
client = boto3.client("ec2", sys.argv[2], endpoint_url=sys.argv[1], aws_access_key_id="rig", aws_secret_access_key="rig")
print(json.dumps(getattr(client, sys.argv[3])(**json.loads(sys.argv[4])), default=str))' \
        "$(cat "$S/url")" "$2" "$3" "$4"
    ;;
*) sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
