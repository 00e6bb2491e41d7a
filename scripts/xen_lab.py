"""A Xen host: Xen under QEMU's software emulation, with a Dom0 that sees this machine's files (they stay as they are: what is written goes
to the Dom0's memory), Xen's tools laid over them, and a root's shell in it. make-xen-lab.sh makes what it is booted from."""
import os
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../bench")
from machine import cpio, modules, start_share_server  # noqa: E402

# What of the Dom0 waits for this: nothing else may be read from the console.
READY = b"#ready\n"

INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc; busybox mount -t sysfs sys /sys; busybox mount -t devtmpfs dev /dev
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module; done
busybox mount -t virtiofs root /lower && busybox mount -t virtiofs tools /tools && busybox mount -t tmpfs rw /rw || busybox poweroff -f
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
echo '#ready'
while read -r line; do
    bash -c "$line" </dev/null 2>&1
    code=$?
    printf '\n#done %s\n' $code
done
"""


# Debian 12's, as fetch-qemu-7.2.sh unpacks it. Under QEMU 10.0's emulation of SVM a PVH domain halts before its first word (docs/adr/017).
OLDER = os.path.realpath(f"{HERE}/../.build/qemu-7.2/usr")


class Dom0:
    """The machine. `memory` and `own` are MiB: all of it, and the Dom0's. Without `hardware` its domains are PV, and any QEMU will do."""

    def __init__(self, folder, lab, memory=2560, own=1280, hardware=False):
        program = ["qemu-system-x86_64"]
        if hardware and os.path.exists(OLDER):
            program = [f"{OLDER}/bin/qemu-system-x86_64", "-L", f"{OLDER}/share/qemu", "-L", "/usr/share/seabios"]
        loaded = modules(("crc32c_generic", "virtio_pci", "virtiofs", "overlay"), root=f"{lab}/root/usr", kernels="*")
        entries = dict.fromkeys(("bin", "proc", "sys", "dev", "lower", "tools", "rw", "new", "modules"))
        entries |= {f"modules/{name}": data for name, data in loaded.items()}
        entries |= {"modules/order": "\n".join(loaded).encode(), "bin/busybox": open("/bin/busybox", "rb").read(),
                    "init": INIT.encode(), "start": START.encode()}
        shares = [start_share_server(folder, shared) for shared in ("/", f"{lab}/root")]
        self.servers = [server for server, _ in shares]
        self.shell, theirs = socket.socketpair()
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
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL,
                                        pass_fds=[end.fileno() for end in passed])
        for end in passed:
            end.close()
        self.buffer = b""
        self.wait(READY, 300)

    def wait(self, word, seconds):
        """What is said before `word` stands at the beginning of a line, and that line."""
        end = time.monotonic() + seconds
        while True:
            at = 0 if self.buffer.startswith(word) else self.buffer.find(b"\n" + word) + 1
            if (at or self.buffer.startswith(word)) and b"\n" in self.buffer[at:]:
                line = self.buffer.index(b"\n", at)
                said, last, self.buffer = self.buffer[:at], self.buffer[at:line], self.buffer[line + 1:]
                return said.decode(errors="replace"), last.decode()
            self.shell.settimeout(max(0.1, end - time.monotonic()))
            try:
                data = self.shell.recv(65536)
            except TimeoutError:
                raise SystemExit(f"the Dom0 said nothing for {seconds} s: {self.tail()}") from None
            if not data:
                raise SystemExit(f"the Dom0 ended: {self.tail()}")
            self.buffer += data

    def tail(self):
        return self.buffer[-1000:].decode(errors="replace") + open(self.console, errors="replace").read()[-3000:]

    def run(self, line, seconds=300):
        """Runs a line of shell; what it printed, and its exit code."""
        # A port that is open once only is no standard output for programs that open theirs anew.
        self.shell.sendall(f"timeout -s KILL {seconds} bash -c {quoted(line)} >/run/said 2>&1; code=$?; cat /run/said; exit $code\n".encode())
        said, last = self.wait(b"#done ", seconds + 60)
        return said.strip("\n"), int(last.split()[1])

    def close(self):
        self.process.kill()
        self.process.wait()
        for server in self.servers:
            server.wait()


def quoted(text):
    return "'" + text.replace("'", "'\\''").replace("\n", "'$'\\n''") + "'"
