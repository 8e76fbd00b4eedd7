#!/bin/sh
# A libvirtd of its own with two guests, one busy and one idle, for tests of the kvm provider.
#
#   kvm.sh up      [STATE]   installs what is missing, starts the daemon, boots both guests
#   kvm.sh bare    [STATE]   as up, without guests: the daemon, a kernel and an initial ram disk in STATE, an empty pool
#   kvm.sh down    [STATE]   ends guests and daemon, removes STATE
#   kvm.sh status  [STATE]   one line per guest; succeeds only when both run
#   kvm.sh uri     [STATE]   the connection URI
#   kvm.sh install           only installs the packages
#   kvm.sh virsh STATE ARG...      runs virsh on the rig
#   kvm.sh freeze|thaw STATE NAME  stops and continues a guest's QEMU process behind libvirt's back
#   kvm.sh daemon STATE stop|start stops and starts libvirtd; the guests live on
#
# STATE (default: $BAROGRAPH_KVM_RIG, else /tmp/barograph-kvm) holds everything: sockets, logs, disks, settings. Daemon,
# guests and bridge live in mount, network and process namespaces of their own, so a libvirt of this machine's user
# never sees them, and ending the namespace ends them all. Guests are emulated (TCG): no /dev/kvm is needed.
# Needs root, and /dev/net/tun. RIG_NO_APT=1 never installs anything.
set -eu
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

MEMORY_MIB=128
NETWORK=rignet
GUESTS="rig-idle rig-busy"
POOL=rigpool

log() { printf 'kvm rig: %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

state() {
    S=${1:-${BAROGRAPH_KVM_RIG:-/tmp/barograph-kvm}}
    S=$(realpath -m "$S")
    SOCKET=$S/run/libvirt-sock
    # A socket's path has room for 107 characters.
    [ ${#SOCKET} -le 100 ] || die "the path $S is too long for a socket; choose a shorter one"
    URI="qemu:///system?socket=$SOCKET"
}

# --- packages ---------------------------------------------------------------------------------------------------------

kernel() { # the newest cloud kernel that has its modules too
    KERNEL=$(ls -1 /boot/vmlinuz-*cloud-* 2>/dev/null | sort -V | tail -n 1)
    [ -n "$KERNEL" ] || return 1
    KVER=${KERNEL#/boot/vmlinuz-}
    [ -d "/lib/modules/$KVER" ]
}

missing() {
    have virsh || echo libvirt-clients
    have libvirtd || echo libvirt-daemon-system libvirt-daemon
    ls /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so >/dev/null 2>&1 || echo libvirt-daemon-driver-qemu
    have qemu-system-x86_64 || echo qemu-system-x86
    have qemu-img || echo qemu-utils
    have nsenter || echo util-linux
    have ip || echo iproute2
    have iptables || echo iptables
    have cpio || echo cpio
    have dnsmasq || echo dnsmasq-base
    [ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || echo busybox-static
    kernel || echo linux-image-cloud-amd64
}

install() {
    need=$(missing | tr '\n' ' ')
    [ -n "$need" ] || return 0
    [ -z "${RIG_NO_APT:-}" ] || die "missing packages: $need"
    have apt-get || die "no apt-get here; install what corresponds to these Debian packages: $need"
    [ "$(id -u)" = 0 ] || die "missing packages; as root: apt-get install --no-install-recommends $need"
    # An image that carries a newer qemu-utils than its release cannot take the release's qemu-system-x86 beside it:
    # if that fails, bring qemu-utils back to the release in the same breath.
    back=""
    release=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
    case $need in
    *qemu-system*)
        if have qemu-img && [ -n "$release" ]; then back="qemu-utils/$release"; fi ;;
    esac
    log "installing $need"
    # Package scripts must not start a libvirt of the system.
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
    { apt-get -qq update && {
        apt-get -qq install -y --no-install-recommends $need ||
        { [ -n "$back" ] && apt-get -qq install -y --no-install-recommends --allow-downgrades $need $back; }
    }; } > "$out" 2>&1 || code=$?
    [ -z "$guard" ] || rm -f /usr/sbin/policy-rc.d
    [ $code = 0 ] || { tail -n 20 "$out" >&2; rm -f "$out"; die "apt-get failed"; }
    rm -f "$out"
    kernel || die "no cloud kernel under /boot"
}

# --- the namespace and the daemon ---------------------------------------------------------------------------------------

holder() { # process id of the namespace's first process, if it lives and is ours
    [ -s "$S/holder.pid" ] || return 1
    HOLDER=$(cat "$S/holder.pid")
    tr '\0' ' ' < "/proc/$HOLDER/cmdline" 2>/dev/null | grep -q "rig-holder $S "
}
inside() { nsenter -t "$HOLDER" -m -n -p "$@"; }
V() { virsh -q -c "$URI" "$@"; }
answers() { timeout 5 virsh -q -c "$URI" uri >/dev/null 2>&1; }

hold() {
    holder && return 0
    [ ! -e "$S" ] || [ -e "$S/held" ] || [ -z "$(ls -A "$S")" ] || die "$S holds something else"
    rm -f "$S/holder.pid" "$S/held"
    mkdir -p "$S/run" "$S/lib" "$S/cache" "$S/log" "$S/etc" "$S/pool"
    cat > "$S/etc/libvirtd.conf" <<'CONF'
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
CONF
    cat > "$S/etc/qemu.conf" <<'CONF'
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
stdio_handler = "file"
CONF
    # The first process of the namespace mounts the rig's folders over libvirt's, and then reaps what ends.
    # shellcheck disable=SC2016
    setsid unshare --mount --net --pid --fork --kill-child --propagation private --mount-proc \
        sh -c '
            set -e
            S=$1
            mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt
            mount --bind "$S/run" /run/libvirt
            mount --bind "$S/lib" /var/lib/libvirt
            mount --bind "$S/cache" /var/cache/libvirt
            mount --bind "$S/log" /var/log/libvirt
            mount --bind "$S/etc" /etc/libvirt
            # Without a message bus libvirtd starts guests itself instead of asking systemd.
            if [ -d /run/dbus ]; then mount -t tmpfs none /run/dbus; fi
            ip link set lo up
            : > "$S/held"
            while :; do sleep 3600 & wait $! || :; done
        ' rig-holder "$S" </dev/null >>"$S/holder.log" 2>&1 &
    outer=$!
    tries=0
    until [ -e "$S/held" ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { cat "$S/holder.log" >&2; die "cannot make namespaces; root with CAP_SYS_ADMIN is needed"; }
        sleep 0.1
    done
    # The process inside is the child of unshare.
    for child in /proc/[0-9]*/status; do
        if grep -qs "^PPid:[[:space:]]*$outer\$" "$child"; then
            child=${child#/proc/}
            echo "${child%/status}" > "$S/holder.pid"
        fi
    done
    holder || die "the namespace did not start; see $S/holder.log"
}

daemon_start() {
    answers && return 0
    rm -f "$S/run/libvirtd.pid"
    inside sh -c 'LIBVIRT_LOG_OUTPUTS="2:file:/var/log/libvirt/libvirtd.log" exec libvirtd -d -p /run/libvirt/libvirtd.pid' \
        </dev/null >>"$S/libvirtd.out" 2>&1 || die "libvirtd did not start; see $S/libvirtd.out"
    tries=0
    until answers; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || die "libvirtd does not answer; see $S/log/libvirtd.log"
        sleep 0.25
    done
}

daemon_stop() {
    # shellcheck disable=SC2016
    inside sh -c '
        pid=$(cat /run/libvirt/libvirtd.pid 2>/dev/null)
        [ -n "$pid" ] || exit 0
        kill "$pid" 2>/dev/null || exit 0
        tries=0
        while kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
        kill -9 "$pid" 2>/dev/null || :
    '
}

# --- guests -------------------------------------------------------------------------------------------------------------

initrd() { # $1: the file to write
    busybox=/bin/busybox
    [ -x $busybox ] || busybox=/usr/bin/busybox
    R=$(mktemp -d)
    mkdir -p "$R/bin" "$R/dev" "$R/proc" "$R/sys" "$R/mod" "$R/etc/acpi/PWRF" "$R/var/run"
    cp $busybox "$R/bin/busybox"
    ln -s busybox "$R/bin/sh"
    : > "$R/mod/order"
    for module in virtio_pci virtio_blk virtio_net virtio_balloon evdev button; do
        line=$(grep -E "(^|/)$module\.ko(\.[a-z]+)?:" "/lib/modules/$KVER/modules.dep") || continue
        # modules.dep names the nearest dependency first; they must be loaded the other way round.
        files=${line%%:*}
        for file in ${line#*:}; do files="$file $files"; done
        for file in $files; do
            name=$(basename "$file")
            name=${name%%.ko*}.ko
            grep -qx "$name" "$R/mod/order" && continue
            case $file in
            *.xz) xz -dc "/lib/modules/$KVER/$file" > "$R/mod/$name" ;;
            *.zst) zstd -qdc "/lib/modules/$KVER/$file" > "$R/mod/$name" ;;
            *) cp "/lib/modules/$KVER/$file" "$R/mod/$name" ;;
            esac
            echo "$name" >> "$R/mod/order"
        done
    done
    cat > "$R/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
while read -r module; do insmod "/mod/$module" 2>/dev/null; done < /mod/order
for word in $(cat /proc/cmdline); do case $word in
    rig.role=*) role=${word#*=} ;;
    rig.ip=*) ip=${word#*=} ;;
    rig.peer=*) peer=${word#*=} ;;
esac; done
ip link set lo up
ip link set eth0 up && ip addr add "$ip/24" dev eth0
echo "RIG READY $role"
now() { read -r uptime _ < /proc/uptime; echo "${uptime%.*}${uptime#*.}"; }
if [ "$role" = busy ]; then
    (while :; do :; done) &
    # At each beat of 250 ms: 256 KiB written and 256 KiB read past the page cache, and one frame of 1,042 bytes each way.
    (beat=$(now)
    while :; do
        ping -c 1 -s 1000 -W 1 "$peer" >/dev/null 2>&1 &
        dd if=/dev/zero of=/dev/vda bs=64k count=4 oflag=direct 2>/dev/null
        dd if=/dev/vda of=/dev/null bs=64k count=4 iflag=direct 2>/dev/null
        beat=$((beat + 25))
        until [ "$(now)" -ge $beat ]; do usleep 10000; done
    done) &
fi
printf '#!/bin/sh\npoweroff -f\n' > /etc/acpi/PWRF/00000080
chmod 755 /etc/acpi/PWRF/00000080
acpid -d -c /etc/acpi -l /dev/null >/dev/null 2>&1 &
while :; do sleep 3600; done
INIT
    chmod 755 "$R/init" "$R/bin/busybox"
    (cd "$R" && find . | cpio -o -H newc --quiet | gzip -1) > "$1"
    rm -rf "$R"
}

guest_xml() { # name role address peer cpus
    cat <<XML
<domain type='qemu'>
  <name>$1</name>
  <memory unit='MiB'>$((MEMORY_MIB * 2))</memory>
  <currentMemory unit='MiB'>$MEMORY_MIB</currentMemory>
  <vcpu current='$5'>4</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>$S/vmlinuz</kernel>
    <initrd>$S/initrd.gz</initrd>
    <cmdline>console=ttyS0 quiet panic=5 rig.role=$2 rig.ip=10.77.0.$3 rig.peer=10.77.0.$4</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>$(command -v qemu-system-x86_64)</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='$S/pool/$1.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:77:00:0$3'/>
      <source network='$NETWORK'/>
      <model type='virtio'/>
    </interface>
    <serial type='file'><source path='$S/$1.console'/></serial>
    <memballoon model='virtio'><stats period='1'/></memballoon>
  </devices>
</domain>
XML
}

guest() { # name role address peer cpus
    [ -s "$S/pool/$1.qcow2" ] || qemu-img create -q -f qcow2 "$S/pool/$1.qcow2" 64M
    if ! V dominfo "$1" >/dev/null 2>&1; then
        guest_xml "$@" > "$S/$1.xml"
        V define "$S/$1.xml" >/dev/null
    fi
    case $(V domstate "$1") in
    running) ;;
    paused) V resume "$1" >/dev/null ;;
    *)
        : > "$S/$1.console"
        V start "$1" >/dev/null
        ;;
    esac
}

network() {
    if ! V net-info $NETWORK >/dev/null 2>&1; then
        cat > "$S/net.xml" <<XML
<network><name>$NETWORK</name><bridge name='rigbr0' stp='off' delay='0'/><dns enable='no'/></network>
XML
        V net-define "$S/net.xml" >/dev/null
    fi
    V net-info $NETWORK | grep -Eq '^Active: +yes' || V net-start $NETWORK >/dev/null
}

bare() {
    [ "$(id -u)" = 0 ] || die "needs root"
    install
    kernel
    hold
    daemon_start
    cmp -s "$KERNEL" "$S/vmlinuz" || cp "$KERNEL" "$S/vmlinuz"
    [ -s "$S/initrd.gz" ] || initrd "$S/initrd.gz"
}

pool() { # a pool over the folder of the disks
    V pool-info $POOL >/dev/null 2>&1 || V pool-create-as $POOL dir --target "$S/pool" >/dev/null
}

up() {
    bare
    network
    guest rig-idle idle 2 1 1
    guest rig-busy busy 1 2 2
    for name in $GUESTS; do
        tries=0
        until grep -q 'RIG READY' "$S/$name.console" 2>/dev/null; do
            tries=$((tries + 1))
            [ $tries -lt 360 ] || die "$name did not boot; see $S/$name.console"
            sleep 0.5
        done
    done
    log "up: $GUESTS on $URI"
}

down() {
    [ -e "$S/held" ] || { log "no rig at $S"; return 0; }
    if holder; then
        # Ending the first process of the namespace ends everything in it, frozen guests too.
        kill -9 "$HOLDER"
        tries=0
        while [ -d "/proc/$HOLDER" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
    fi
    # Guests' control groups outlive them when libvirtd was ended with them, and empty a moment after.
    tries=0
    while groups=$(find /sys/fs/cgroup -depth -type d -path '*/qemu-*-rig-*.libvirt-qemu*' 2>/dev/null) &&
        [ -n "$groups" ] && [ $tries -lt 50 ]; do
        echo "$groups" | while read -r group; do rmdir "$group" 2>/dev/null || :; done
        tries=$((tries + 1))
        sleep 0.1
    done
    rm -rf "$S"
    log "down"
}

status() {
    code=0
    for name in $GUESTS; do
        state=$(timeout 5 virsh -q -c "$URI" domstate "$name" 2>/dev/null || echo absent)
        echo "$name $state"
        [ "$state" = running ] || code=1
    done
    return $code
}

signal() { # signal name
    # shellcheck disable=SC2016
    inside sh -c 'kill -"$1" "$(cat "/run/libvirt/qemu/$2.pid")"' sh "$1" "$2"
}

command=${1:-}
case $command in
install) install ;;
up | bare | down | status | uri)
    state "${2:-}"
    case $command in
    uri) echo "$URI" ;;
    bare) bare && pool ;;
    *) $command ;;
    esac
    ;;
virsh | freeze | thaw | daemon)
    [ $# -ge 3 ] || die "$command needs STATE and an argument"
    state "$2"
    holder || die "no rig is up at $S"
    shift 2
    case $command in
    virsh) V "$@" ;;
    freeze) signal STOP "$1" ;;
    thaw) signal CONT "$1" ;;
    daemon) case $1 in stop) daemon_stop ;; start) daemon_start ;; *) die "daemon stop or start" ;; esac ;;
    esac
    ;;
*)
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
