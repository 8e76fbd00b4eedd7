#!/bin/sh
# A containerd of its own with three containers, for tests of the containerd provider.
#
#   containerd.sh up      [STATE]   installs what is missing, starts the daemon, runs the containers
#   containerd.sh down    [STATE]   ends containers and daemon, removes STATE
#   containerd.sh start   [STATE]   only the daemon, without containers, with the image archive STATE/image.tar
#   containerd.sh status  [STATE]   one line per container; succeeds only when all run
#   containerd.sh socket  [STATE]   the path of the socket
#   containerd.sh install           only installs the packages
#   containerd.sh image FILE        only writes the image archive
#   containerd.sh ctr STATE ARG...          runs ctr on the rig, in its namespace unless -n says another
#   containerd.sh freeze|thaw STATE NAME    stops and continues a container's shim behind containerd's back
#   containerd.sh daemon STATE stop|start   stops and starts containerd; the containers live on
#
# STATE (default: $BAROGRAPH_CONTAINERD_RIG, else /tmp/barograph-containerd) holds everything: socket, root, logs,
# settings. $RIG_NAMESPACE (default: rig) is their namespace: runc keeps containers of all daemons together, so that rigs
# at the same time need different ones. rig-busy uses a processor and writes to its disk, rig-idle does nothing, rig-mem holds some 32 MiB. They are
# in that namespace; their control groups are under /rig-<hash of STATE>, so that several rigs can run.
# Needs root and a writable /sys/fs/cgroup; no network, no registry, no systemd. RIG_NO_APT=1 never installs anything.
set -eu
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

NS=${RIG_NAMESPACE:-rig}
IMAGE=rig.local/busybox:1
CONTAINERS="rig-busy rig-idle rig-mem"

log() { printf 'containerd rig: %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

state() {
    S=${1:-${BAROGRAPH_CONTAINERD_RIG:-/tmp/barograph-containerd}}
    S=$(realpath -m "$S")
    SOCKET=$S/containerd.sock
    # A socket's path has room for 107 characters, and containerd adds an ending.
    [ ${#SOCKET} -le 100 ] || die "the path $S is too long for a socket; choose a shorter one"
    GROUP=rig-$(printf %s "$S" | sha256sum | cut -c1-8)
}

# --- packages ---------------------------------------------------------------------------------------------------------

missing() {
    { have containerd && have ctr; } || echo containerd
    have runc || echo runc
    have unshare || echo util-linux
    [ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || echo busybox-static
}

install() {
    need=$(missing | tr '\n' ' ')
    [ -n "$need" ] || return 0
    [ -z "${RIG_NO_APT:-}" ] || die "missing packages: $need"
    have apt-get || die "no apt-get here; install what corresponds to these Debian packages: $need"
    [ "$(id -u)" = 0 ] || die "missing packages; as root: apt-get install --no-install-recommends $need"
    log "installing $need"
    # Package scripts must not start a containerd of the system.
    guard=""
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        guard=1
    fi
    out=$(mktemp)
    code=0
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends $need; } > "$out" 2>&1 || code=$?
    [ -z "$guard" ] || rm -f /usr/sbin/policy-rc.d
    [ $code = 0 ] || { tail -n 20 "$out" >&2; rm -f "$out"; die "apt-get failed"; }
    rm -f "$out"
}

# --- the image ----------------------------------------------------------------------------------------------------------

digest() { sha256sum "$1" | cut -d' ' -f1; }
bytes() { wc -c < "$1" | tr -d ' '; }
blob() { # $1: a file, moved to where its digest says; sets DIGEST and BYTES
    DIGEST=$(digest "$1")
    BYTES=$(bytes "$1")
    mv "$1" "$W/oci/blobs/sha256/$DIGEST"
}
packed() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" .; }

image() { # $1: the archive to write, an OCI layout of two layers: busybox, and a file and the users above it
    busybox=/bin/busybox
    [ -x $busybox ] || busybox=/usr/bin/busybox
    case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
    W=$(mktemp -d)
    mkdir -p "$W/one/bin" "$W/one/tmp" "$W/one/proc" "$W/one/sys" "$W/one/dev" "$W/two/etc" "$W/oci/blobs/sha256"
    cp $busybox "$W/one/bin/busybox"
    chmod 755 "$W/one/bin/busybox"
    chmod 1777 "$W/one/tmp"
    for applet in $($busybox --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$W/one/bin/$applet"
    done
    printf 'root:x:0:0:root:/:/bin/sh\nweb:x:1000:1001::/:/bin/sh\n' > "$W/two/etc/passwd"
    printf 'root:x:0:\nweb:x:1001:\n' > "$W/two/etc/group"
    packed "$W/one" "$W/one.tar"
    packed "$W/two" "$W/two.tar"
    one=$(digest "$W/one.tar")
    two=$(digest "$W/two.tar")
    gzip -n -1 "$W/two.tar"
    blob "$W/one.tar"
    layers="{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:$DIGEST\",\"size\":$BYTES}"
    blob "$W/two.tar.gz"
    layers="$layers,{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$DIGEST\",\"size\":$BYTES}"
    printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["/bin/sh"],"Labels":{"rig":"1"}},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' \
        "$arch" "$one" "$two" > "$W/config"
    blob "$W/config"
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[%s]}' \
        "$DIGEST" "$BYTES" "$layers" > "$W/manifest"
    blob "$W/manifest"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"1"}}]}' \
        "$DIGEST" "$BYTES" "$arch" "$IMAGE" > "$W/oci/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' > "$W/oci/oci-layout"
    tar -C "$W/oci" -cf "$1" oci-layout index.json blobs
    rm -rf "$W"
}

# --- the daemon ---------------------------------------------------------------------------------------------------------

C() { ctr -a "$SOCKET" -n "$NS" "$@"; }
answers() { ctr -a "$SOCKET" --connect-timeout 2s version >/dev/null 2>&1; }

daemon() { # process id of the daemon, if it lives and is ours
    [ -s "$S/containerd.pid" ] || return 1
    DAEMON=$(cat "$S/containerd.pid")
    tr '\0' ' ' < "/proc/$DAEMON/cmdline" 2>/dev/null | grep -q "containerd --config $S/config.toml"
}

daemon_start() {
    answers && return 0
    [ ! -e "$S" ] || [ -e "$S/config.toml" ] || [ -z "$(ls -A "$S")" ] || die "$S holds something else"
    mkdir -p "$S"
    cat > "$S/config.toml" <<TOML
version = 2
root = "$S/root"
state = "$S/run"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.internal.v1.opt"]
  path = "$S/opt"
TOML
    rm -f "$SOCKET" "$SOCKET.ttrpc"
    # runc keeps the names of containers under /run/containerd, whichever daemon they are of: this one sees its own there.
    mkdir -p "$S/private" /run/containerd
    # shellcheck disable=SC2016
    setsid unshare --mount --propagation private \
        sh -c 'mount --bind "$1" /run/containerd && exec containerd --config "$2"' sh "$S/private" "$S/config.toml" \
        >> "$S/containerd.log" 2>&1 < /dev/null &
    echo $! > "$S/containerd.pid"
    tries=0
    until answers; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] && kill -0 "$(cat "$S/containerd.pid")" 2>/dev/null ||
            { tail -n 20 "$S/containerd.log" >&2; die "containerd does not answer"; }
        sleep 0.25
    done
}

daemon_stop() {
    daemon || return 0
    kill "$DAEMON"
    tries=0
    while kill -0 "$DAEMON" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -9 "$DAEMON" 2>/dev/null || :
}

# --- containers ---------------------------------------------------------------------------------------------------------

snapshotter() {
    SNAPSHOTTER=overlayfs
    if ! ctr -a "$SOCKET" plugins ls | grep -E '\.snapshotter\.v1 +overlayfs ' | grep -q ' ok'; then
        SNAPSHOTTER=native
    fi
}

task() { C tasks ls 2>/dev/null | awk -v name="$1" '$1 == name { print $3 }'; }

gone() { # name: without its task and itself
    if [ -n "$(task "$1")" ]; then
        C tasks kill --signal SIGKILL "$1" >/dev/null 2>&1 || :
        tries=0
        while [ "$(task "$1")" = RUNNING ] && [ $tries -lt 40 ]; do tries=$((tries + 1)); sleep 0.1; done
        C tasks delete --force "$1" >/dev/null 2>&1 || :
    fi
    C containers delete "$1" >/dev/null 2>&1 || :
}

run() { # name memory command
    case $(task "$1") in
    RUNNING) return 0 ;;
    PAUSED) C tasks resume "$1"; return 0 ;;
    esac
    gone "$1"
    C run --detach --null-io --snapshotter $SNAPSHOTTER --memory-limit "$2" --cgroup "/$GROUP/$1" \
        --label rig=1 --label "io.kubernetes.pod.name=$1-pod" --label io.kubernetes.pod.namespace=rig-pods \
        --label "io.kubernetes.container.name=$1" "$IMAGE" "$1" /bin/sh -c "$3"
}

start() {
    [ "$(id -u)" = 0 ] || die "needs root"
    install
    daemon_start
    [ -s "$S/image.tar" ] || image "$S/image.tar"
}

up() {
    start
    ctr -a "$SOCKET" namespaces ls -q | grep -qx $NS || ctr -a "$SOCKET" namespaces create $NS
    C images ls -q | grep -qx $IMAGE || C images import "$S/image.tar" >/dev/null
    snapshotter
    run rig-busy 67108864 'while :; do dd if=/dev/zero of=/tmp/f bs=64k count=64 conv=fsync 2>/dev/null; rm -f /tmp/f; sleep 1; done & while :; do :; done'
    run rig-idle 33554432 'while :; do sleep 3600; done'
    # 16 MiB of files and 16 MiB of its own.
    run rig-mem 134217728 'dd if=/dev/zero of=/tmp/f bs=1M count=16 2>/dev/null; x=$(dd if=/dev/zero bs=1M count=16 2>/dev/null | tr "\0" a); while :; do sleep 3600; done'
    for name in $CONTAINERS; do
        tries=0
        until [ "$(task "$name")" = RUNNING ]; do
            tries=$((tries + 1))
            [ $tries -lt 40 ] || die "$name does not run"
            sleep 0.25
        done
    done
    log "up: $CONTAINERS on $SOCKET"
}

shims() { # process ids of the rig's shims
    for process in /proc/[0-9]*; do
        if { tr '\0' ' ' < "$process/cmdline"; } 2>/dev/null | grep -q "^[^ ]*containerd-shim[^ ]* .*-address $SOCKET "; then
            echo "${process#/proc/}"
        fi
    done
}

shim() { # process id of a container's shim; namespaces may have containers of the same name
    for process in $(shims); do
        if tr '\0' ' ' < "/proc/$process/cmdline" | grep -q -- "-namespace $NS -id $1 "; then echo "$process"; return 0; fi
    done
    die "no shim of $1"
}

down() {
    [ -e "$S/config.toml" ] || { log "no rig at $S"; return 0; }
    for process in $(shims); do kill -CONT "$process" 2>/dev/null || :; done
    if answers; then
        for namespace in $(ctr -a "$SOCKET" namespaces ls -q); do
            NS=$namespace
            for name in $({ C containers ls -q; C tasks ls -q; } 2>/dev/null | sort -u); do gone "$name"; done
        done
    fi
    daemon_stop
    # Whatever a test left behind ends with its shim.
    for process in $(shims); do
        for child in $(cat /proc/"$process"/task/*/children 2>/dev/null); do kill -9 "$child" 2>/dev/null || :; done
        kill -9 "$process" 2>/dev/null || :
    done
    awk -v under="$S/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r |
        while read -r mount; do umount -l "$mount" || :; done
    for group in /sys/fs/cgroup/*/"$GROUP" /sys/fs/cgroup/"$GROUP"; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || :
    done
    rm -rf "$S"
    log "down"
}

status() {
    code=0
    for name in $CONTAINERS; do
        state=$(task "$name")
        echo "$name ${state:-absent}"
        [ "$state" = RUNNING ] || code=1
    done
    return $code
}

command=${1:-}
case $command in
install) install ;;
image)
    [ -n "${2:-}" ] || die "image needs the FILE to write"
    image "$2"
    ;;
up | down | start | status | socket)
    state "${2:-}"
    case $command in socket) echo "$SOCKET" ;; *) $command ;; esac
    ;;
ctr | freeze | thaw | daemon)
    [ $# -ge 3 ] || die "$command needs STATE and an argument"
    state "$2"
    [ -e "$S/config.toml" ] || die "no rig at $S"
    shift 2
    case $command in
    ctr) C "$@" ;;
    freeze) kill -STOP "$(shim "$1")" ;;
    thaw) kill -CONT "$(shim "$1")" ;;
    daemon) case $1 in stop) daemon_stop ;; start) daemon_start ;; *) die "daemon stop or start" ;; esac ;;
    esac
    ;;
*)
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
