"""A Xen host: Xen under QEMU's software emulation, with a Dom0 that sees this machine's files (they stay as they are: what is written goes
to the Dom0's memory), Xen's tools laid over them, and a root's shell in it. make-xen-lab.sh makes what it is booted from."""
import os
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../bench")
sys.path.insert(0, HERE)
from lab_shell import LOOP, Shell  # noqa: E402
from machine import cpio, modules, start_share_server  # noqa: E402

INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc; busybox mount -t sysfs sys /sys; busybox mount -t devtmpfs dev /dev
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module; done
busybox mount -t virtiofs root /lower && busybox mount -t virtiofs tools /tools && busybox mount -t tmpfs -o size=75% rw /rw || busybox poweroff -f
busybox mkdir /rw/upper /rw/work
busybox mount -t overlay -o lowerdir=/tools:/lower,upperdir=/rw/upper,workdir=/rw/work root /new || busybox poweroff -f
for folder in proc sys dev; do busybox mount --move /$folder /new/$folder; done
busybox mount -t tmpfs run /new/run
busybox mount -t cgroup2 cgroup /new/sys/fs/cgroup
busybox cp /start /new/run/start
exec busybox switch_root /new /bin/bash /run/start
"""

# A Dom0 as Debian's /etc/init.d/xen makes one, and then a shell: what is asked over the port is done, and `#done CODE` follows.
START = r"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mkdir -p /dev/pts /dev/shm /run/lock /run/xen /run/xenstored /run/xen-hotplug /var/lib/xen /var/log/xen
mount -t devpts -o ptmxmode=0666 devpts /dev/pts; mount -t tmpfs shm /dev/shm
for link in fd: stdin:/0 stdout:/1 stderr:/2; do ln -sfn /proc/self/fd${link#*:} /dev/${link%%:*}; done
ln -sfn /run /var/run 2>/dev/null; ln -sfn /run/lock /var/lock 2>/dev/null
modprobe -a xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs xen-blkback xen-netback loop virtio_console
mount -t xenfs xenfs /proc/xen
ip link set lo up
# Debian has a wrapper for each of them, which looks for the running version first.
PATH=$(echo /usr/lib/xen-[0-9]*/bin):$PATH
xenstored --pid-file /run/xenstored.pid
xen-init-dom0 >/dev/null
xenconsoled --pid-file=/run/xenconsoled.pid
cd /root
port=$(grep -lx shell /sys/class/virtio-ports/*/name); port=${port%/name}
[[ -n $port ]] || { echo 'no port'; /bin/busybox poweroff -f; }
exec <>/dev/${port##*/} >&0
""" + LOOP


# Debian 12's, as fetch-qemu-7.2.sh unpacks it. Under QEMU 10.0's emulation of SVM a PVH domain halts before its first word (docs/adr/017).
OLDER = os.path.realpath(f"{HERE}/../.build/qemu-7.2/usr")


class Dom0(Shell):
    """The machine. `memory` and `own` are MiB: all of it, and the Dom0's. Without `hardware` its domains are PV, and any QEMU will do."""

    def __init__(self, folder, lab, memory=2816, own=1536, hardware=False):
        program = ["qemu-system-x86_64"]
        if hardware and os.path.exists(OLDER):
            program = [f"{OLDER}/bin/qemu-system-x86_64", "-L", f"{OLDER}/share/qemu", "-L", "/usr/share/seabios"]
        loaded = modules(("crc32c_generic", "virtio_pci", "virtiofs", "overlay"), root=f"{lab}/root/usr", kernels="*")
        entries = dict.fromkeys(("bin", "proc", "sys", "dev", "lower", "tools", "rw", "new", "modules"))
        entries |= {f"modules/{name}": data for name, data in loaded.items()}
        entries |= {"modules/order": "\n".join(loaded).encode(), "bin/busybox": open("/bin/busybox", "rb").read(),
                    "init": INIT.encode(), "start": START.encode()}
        # As a disk's, files are read once: else each start of a program would read it anew.
        shares = [start_share_server(folder, shared, cache="always") for shared in ("/", f"{lab}/root")]
        self.servers = [server for server, _ in shares]
        shell, theirs = socket.socketpair()
        passed = [theirs, *(share for _, share in shares)]
        # One processor and no newer instructions: with more, TCG's emulation of Xen has been seen to go wrong (docs/adr/017).
        command = [
            *program, "-M", "pc,memory-backend=memory", "-accel", "tcg,thread=multi", "-cpu", "qemu64,+svm,+npt", "-smp", "1",
            "-m", str(memory), "-object", f"memory-backend-memfd,id=memory,size={memory}M,share=on",
            "-kernel", f"{lab}/xen", "-append", f"console=com1 com1=115200,8n1 dom0_mem={own}M,max:{own}M",
            "-initrd", f"{lab}/vmlinux console=hvc0 quiet,{cpio(entries, f'{folder}/initramfs')}",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{folder}/console", "-no-reboot",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,fd={theirs.fileno()}",
            "-device", "virtserialport,chardev=shell,name=shell"]
        for (_, share), tag in zip(shares, ("root", "tools")):
            command += ["-chardev", f"socket,id={tag},fd={share.fileno()}", "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
        self.console = f"{folder}/console"
        # It ends with us, however we end.
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL,
                                   pass_fds=[end.fileno() for end in passed])
        for end in passed:
            end.close()
        super().__init__(shell, process, "/run/said")
        self.wait(b"#ready", 300)

    def tail(self):
        return super().tail() + open(self.console, errors="replace").read()[-3000:]

    def close(self):
        super().close()
        for server in self.servers:
            server.wait()
