#!/usr/bin/env python3
"""test-xen.py [--list] [WORD…]: Hull in a Dom0 of Xen, where every container is a domain.

The host is a machine of QEMU's software emulation (scripts/xen_lab.py), whose files are this machine's with Xen's tools laid over them; what
is written there goes to its memory. Some minutes.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../bench")
sys.path.insert(0, HERE)
from machine import modules, newest  # noqa: E402
from xen_lab import Dom0  # noqa: E402

HULL = os.path.realpath(os.environ.get("HULL_BIN", f"{HERE}/../bin/hull"))
# What a guest loads at all: the whole tree would be read and packed by an emulated processor.
GUEST_MODULES = ("xen_evtchn", "xen_gntalloc", "xen_blkfront", "xen_netfront", "erofs", "overlay", "ext4", "fuse", "virtiofs", "crc32c_generic")

# What every check begins with.
PREAMBLE = """
is() { local wanted=$(printf '%b' "$2"); [ "$1" = "$wanted" ] || { echo "expected “$wanted”, got “$1”"; exit 1; }; }
has() { grep -e "$1" >/dev/null; }
near() { for try in $(seq 100); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.3; done; "$@"; }
run() { hull run --memory 64m --network none "$@"; }
domains() { xl list | awk 'NR > 2' | wc -l; }
domain() { xl list | awk '$1 ~ /^hull-/ { print $2 }'; }
nothing_left() {
    near test "$(domains)" = 0
    is "$(xenstore-list /local/domain)" 0
    is "$(losetup -a)" ""
    ! ip -o link | has 'hull0\\|vif'
    ! nft list tables | has hull
    is "$(ls $HULL_EXEC_ROOT | grep -E '^[0-9a-f]{64}$' || true)" ""
}
"""

# Name, and a script that must succeed. They run in this order in one Dom0; what a check leaves the later ones find.
CHECKS = [
    ("doctor sees a Dom0", r"""
        hull doctor | tee /run/doctor | has '^\[ok\] *xen: machines can run'
        has 'Xen 4.*pv hvm hap' </run/doctor
        has 'MiB of memory are free' </run/doctor
    """),
    ("a PV container: output and exit code", r"""
        is "$(run --rm --machine pv $image sh -c 'echo out; echo err >&2; cat /sys/hypervisor/type /sys/hypervisor/guest_type; exit 42' 2>/run/err || echo $?)" "out\nxen\nPV\n42"
        is "$(cat /run/err)" err
        nothing_left
    """),
    ("a PVH container is what auto means here", r"""
        is "$(run --rm $image sh -c 'cat /sys/hypervisor/guest_type; exit 7' || echo $?)" "PVH\n7"
        nothing_left
    """),
    ("memory and processors as asked", r"""
        hull run -d --name big --network none --memory 200m --cpus 2 --machine pv $image sleep 1000
        is "$(hull exec big cat /sys/fs/cgroup/memory.max)" $((200 << 20))
        is "$(hull exec big nproc)" 2
        is "$(xl list | awk '/^hull-/ { print $3, $4 }')" "296 2"
        hull rm -f big
        nothing_left
    """),
    ("exec, signals, stop, ps", r"""
        hull run -d --name one --memory 64m --network none --machine pv $image sh -c 'trap "echo got; exit 5" TERM; while :; do sleep 0.1; done'
        hull ps | has one
        is "$(hull exec one sh -c 'echo in; exit 9' || echo $?)" "in\n9"
        is "$(echo through | hull exec -i one cat)" through
        is "$(hull exec one readlink /proc/1/ns/pid | cut -c1-4)" "pid:"
        hull stop -t 30 one
        hull ps -a | has 'Exited (5)'
        is "$(hull logs one)" got
        hull start one
        hull kill one
        is "$(hull wait one)" 137
        hull rm one
        nothing_left
    """),
    ("standard input, a terminal", r"""
        is "$(printf 'one two' | run -i --rm --machine pv $image wc -w)" 2
        timeout 300 python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' hull run -it --rm --memory 64m --network none --machine pv $image \
            sh -c 'tty; stty size' </dev/null | tr -d '\r' >/run/terminal
        is "$(head -1 /run/terminal)" /dev/pts/0
        nothing_left
    """),
    ("64 MiB each way, whole", r"""
        head -c 67108864 /dev/urandom >/run/64m
        sum=$(sha256sum </run/64m)
        hull run -d --name pipe --memory 64m --network none --machine pv $image sleep 1000
        time is "$(hull exec -i pipe sha256sum </run/64m)" "$sum"
        time is "$(hull exec -i pipe cat </run/64m | sha256sum)" "$sum"
        rm /run/64m
        hull rm -f pipe
    """),
    ("a network, and a published port", r"""
        # What nft would load on demand, within the time that Hull gives it.
        modprobe -a tun bridge br_netfilter nf_tables nft_chain_nat nft_ct nft_nat nft_masq nft_fib_inet nf_conntrack_bridge nft_meta_bridge || true
        nft list ruleset
        hull run -d --name web --memory 64m --machine pv -p 8080:80 $image sh -c 'mkdir -p /www; echo served >/www/index.html; exec busybox httpd -f -p 80 -h /www'
        near sh -c 'wget -qO- http://127.0.0.1:8080/ | grep served'
        address=$(hull inspect web | grep -o '10\.[0-9.]*\|172\.30\.[0-9.]*' | head -1)
        near ping -c 1 -W 2 $address
        hull exec web ping -c 1 $(ip -4 -o addr show hull0 | awk '{ sub("/.*", "", $4); print $4 }')
        hull rm -f web
        nothing_left
    """),
    ("pause and unpause", r"""
        hull run -d --name still --memory 64m --network none --machine pv $image sh -c 'while :; do echo tick; sleep 0.2; done'
        hull pause still
        xl list | awk '/^hull-/ { print $5 }' | has '^..p'
        hull unpause still
        hull exec still true
        hull rm -f still
        nothing_left
    """),
    ("a domain that crashes, one that is destroyed behind Hull's back", r"""
        hull run -d --name bad --memory 64m --network none --machine pv --privileged $image sleep 1000
        hull exec bad sh -c 'echo c >/proc/sysrq-trigger' || true
        is "$(hull wait bad)" 125
        hull inspect bad | has 'panicked'
        hull rm bad
        hull run -d --name gone --memory 64m --network none --machine pv $image sleep 1000
        xl destroy $(domain)
        is "$(hull wait gone)" 137
        hull inspect gone | has 'destroyed'
        hull rm gone
        nothing_left
    """),
    ("SIGKILL of the monitor", r"""
        hull run -d --name lost --memory 64m --machine pv -p 8081:80 $image sleep 1000
        pkill -9 -f '^hull-monitor'
        hull ps -a | has 'Exited (137)'
        hull rm lost
        nothing_left
    """),
    ("what Xen has not is refused with the reason", r"""
        (! run --rm -v /etc:/x $image true) 2>&1 | has 'shares no folders'
        (! run --rm --machine q35 $image true) 2>&1 | has 'Xen has no board q35'
        (! run --rm --accel kvm $image true) 2>&1 | has 'leave --accel out'
        nothing_left
    """),
]


def prepare(folder):
    """What the Dom0 is told and does first: its guests' kernel gets a small tree of modules."""
    image = subprocess.run([f"{HERE}/make-image.sh", "busybox"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    release = os.path.basename(newest("/lib/modules/*-cloud-amd64"))
    tree = f"{folder}/guest/lib/modules/{release}"
    os.makedirs(f"{tree}/kernel")
    for name, data in modules(GUEST_MODULES).items():
        with open(f"{tree}/kernel/{name}", "wb") as file:
            file.write(data)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(f"/lib/modules/{release}/{name}", tree)
    subprocess.run(["depmod", "-b", f"{folder}/guest", release], check=True, stderr=subprocess.DEVNULL)
    return f"""
        export HULL_ROOT=/var/tmp/hull HULL_EXEC_ROOT=/run/hull HULL_BOOT_TIMEOUT=300 PATH={os.path.dirname(HULL)}:$PATH image=oci-archive:{image}
        """, f"mount --bind {tree} /usr/lib/modules/{release} && {HULL} --root /var/tmp/hull --exec-root /run/hull pull -q oci-archive:{image}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what the checks are, and end")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only checks in whose name it is")
    chosen = parser.parse_args()
    if chosen.list:
        print("\n".join(name for name, _ in CHECKS))
        return
    checks = [(name, script) for name, script in CHECKS if not chosen.words or any(word in name for word in chosen.words)]
    lab = subprocess.run([f"{HERE}/make-xen-lab.sh"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="run-", dir=lab) as folder:
        environment, first = prepare(folder)
        began = time.monotonic()
        dom0 = Dom0(folder, lab, hardware=any("PVH" in name for name, _ in checks))
        failed = done = 0
        try:
            print(f"the Dom0 is up after {time.monotonic() - began:.0f} s", flush=True)
            said, code = dom0.run(first)
            if code:
                raise SystemExit(f"the Dom0 could not be prepared: {said}")
            for name, script in checks:
                failed += not check(dom0, name, environment, script)
                done += 1
        finally:
            dom0.close()
    print(f"{done - failed} passed, {failed} failed")
    sys.exit(failed > 0)


def check(dom0, name, environment, script):
    began = time.monotonic()
    said, code = dom0.run(f"set -euo pipefail\n{environment}\n{PREAMBLE}\n{script}", 900)
    took = time.monotonic() - began
    print(f"{'passed' if code == 0 else 'FAILED'}  {took:5.0f} s  {name}", flush=True)
    if code or os.environ.get("HULL_XEN_VERBOSE"):
        print("    " + f"it ended with {code}: {said[-3000:]}".replace("\n", "\n    "), flush=True)
    return code == 0


if __name__ == "__main__":
    main()
