#!/usr/bin/env python3
"""test-kvm.py: Hull with --accel kvm, on a host that has none.

QEMU's software emulation has AMD's SVM with nested paging. A machine of it boots Debian's kernel, sees this host's files (they
stay as they are: what is written goes to its memory), loads kvm-amd, and there `hull run --accel kvm` really runs, by a boot and from a template. Some minutes.
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../bench")
from machine import cpio, extract_kernel, host_khz, modules, start_share_server  # noqa: E402

HULL = os.path.realpath(os.environ.get("HULL_BIN", f"{HERE}/../bin/hull"))
DEADLINE = 600

INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc; busybox mount -t sysfs sys /sys; busybox mount -t devtmpfs dev /dev
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module; done
busybox mount -t virtiofs root /lower && busybox mount -t tmpfs rw /rw || busybox poweroff -f
busybox mkdir /rw/upper /rw/work
busybox mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /new
for folder in proc sys dev; do busybox mount --move /$folder /new/$folder; done
busybox mount -t tmpfs run /new/run; busybox mount -t tmpfs tmp /new/tmp
busybox mount -t cgroup2 cgroup /new/sys/fs/cgroup
busybox cp /job /new/run/job
exec busybox switch_root /new /bin/bash /run/job
"""

JOB = """set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HULL_ROOT=/run/data HULL_EXEC_ROOT=/run/exec HULL_BOOT_TIMEOUT=300
ip link set lo up
echo "host: $(grep -o -w -m1 svm /proc/cpuinfo), $(ls /dev/kvm), kernel $(uname -r)"
said=$({hull} run --rm --network none --accel kvm --memory 192m oci-archive:{image} \
    sh -c 'echo "guest: $(uname -r)"; exit 42' 2>&1)
code=$?
echo "$said"
[ $code = 42 ] || { echo "kvm-test-failed: hull ended with $code"; /bin/busybox poweroff -f; }
# And from a template, which must be the same to whoever runs it, whatever it is made of.
{hull} template build --network none --accel kvm --memory 192m
{hull} template ls
said=$({hull} run --rm --network none --accel kvm --memory 192m oci-archive:{image} sh -c 'echo "second guest: $(uname -r)"; exit 43' 2>&1)
code=$?
echo "$said"
[ $code = 43 ] && echo kvm-test-passed || echo "kvm-test-failed: hull ended with $code from a template"
/bin/busybox poweroff -f
"""


def main():
    image = subprocess.run([f"{HERE}/make-image.sh", "busybox"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="hull-kvm-") as folder:
        loaded = modules(("virtio_pci", "virtiofs", "overlay", "virtio_blk", "erofs", "kvm-amd", "loop", "tun"))
        entries = dict.fromkeys(("bin", "proc", "sys", "dev", "lower", "rw", "new", "modules"))
        entries |= {f"modules/{name}": data for name, data in loaded.items()}
        entries |= {"modules/order": "\n".join(loaded).encode(), "bin/busybox": open("/bin/busybox", "rb").read(),
                    "init": INIT.encode(), "job": JOB.replace("{hull}", HULL).replace("{image}", image).encode()}
        server, share = start_share_server(folder, "/")
        command = [
            "qemu-system-x86_64", "-M", "q35,memory-backend=memory", "-accel", "tcg", "-cpu", "max", "-m", "2048",
            "-object", "memory-backend-memfd,id=memory,size=2048M,share=on",
            "-kernel", extract_kernel(f"{folder}/vmlinux"), "-initrd", cpio(entries, f"{folder}/initramfs"),
            "-append", f"console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz={host_khz()}", "-nodefaults", "-no-user-config",
            "-display", "none", "-serial", "stdio", "-no-reboot",
            "-chardev", f"socket,id=share,fd={share.fileno()}", "-device", "vhost-user-fs-pci,chardev=share,tag=root"]
        passed = False
        machine = subprocess.Popen(command, pass_fds=(share.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                   errors="replace")
        share.close()
        watchdog = subprocess.Popen(["sh", "-c", f"sleep {DEADLINE}; kill {machine.pid}"], start_new_session=True)
        try:
            for line in machine.stdout:
                print(line, end="", flush=True)
                passed = passed or line.strip() == "kvm-test-passed"
        finally:
            machine.kill()
            machine.wait()
            os.killpg(watchdog.pid, 15)
            server.wait()
    print("1 passed, 0 failed" if passed else "0 passed, 1 failed")
    sys.exit(not passed)


main()
