"""The raw machine beside which Hull is measured: Debian's kernel, QEMU, and nothing of ours."""
import glob
import gzip
import json
import lzma
import os
import select
import shutil
import socket
import struct
import subprocess
import time

MEMORY = 256
# The quickest machine found that can hold devices with this kernel, and the firmware that leaves first.
MACHINE = "microvm,acpi=on,pit=off,pic=off,rtc=on,x-option-roms=off"
FIRMWARE = ["-bios", "qboot.rom"]


def seconds_of(command, limit=300, **options):
    """Seconds until a command has ended, and its exit code. Python's own wait with a time limit sleeps up to 50 ms between two looks."""
    began = time.monotonic()
    process = subprocess.Popen(command, **options)
    end = os.pidfd_open(process.pid)
    try:
        if not select.select([end], [], [], limit)[0]:
            process.kill()
            raise SystemExit(f"bench: {' '.join(command)} did not end within {limit} s")
        return time.monotonic() - began, process.wait()
    finally:
        os.close(end)


def newest(pattern):
    found = sorted(glob.glob(pattern))
    if not found:
        raise SystemExit(f"bench: {pattern} is missing: run scripts/setup.sh")
    return found[-1]


def extract_kernel(out, pattern="/boot/vmlinuz-*-cloud-amd64"):
    """The ELF kernel inside Debian's bzImage: it starts sooner than the bzImage does."""
    data = open(newest(pattern), "rb").read()
    commands = {b"\x02\x21\x4c\x18": ["lz4", "-dc"], b"\x28\xb5\x2f\xfd": ["zstd", "-dc"]}
    for magic in (b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\x1f\x8b\x08"):
        at = data.find(magic)
        while at >= 0:
            try:
                if magic in commands:
                    kernel = subprocess.run(commands[magic], input=data[at:], stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, check=False).stdout
                elif magic[0] == 0xFD:
                    kernel = lzma.LZMADecompressor().decompress(data[at:])
                else:
                    kernel = gzip.zlib.decompressobj(31).decompress(data[at:])
            except (lzma.LZMAError, gzip.zlib.error):
                kernel = b""  # the magic was a coincidence
            if kernel[:4] == b"\x7fELF":
                with open(out, "wb") as file:
                    file.write(kernel)
                return out
            at = data.find(magic, at + 1)
    raise SystemExit("bench: no kernel inside the bzImage")


def cpio(entries, out):
    """An initramfs (newc). entries: path → bytes (a program), or None (a folder)."""
    with open(out, "wb") as file:
        for number, (name, data) in enumerate([*sorted(entries.items()), ("TRAILER!!!", b"")], 1):
            mode = 0o040755 if data is None else 0o100755
            body, path = data or b"", name.encode() + b"\0"
            fields = (number, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(path), 0)
            head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
            file.write(head + b"\0" * (-len(head) % 4) + body + b"\0" * (-len(body) % 4))
    return out


def rebooting_init():
    """A whole static program: reboot(RB_AUTOBOOT)."""
    code = (b"\xb8" + struct.pack("<I", 169) + b"\xbf" + struct.pack("<I", 0xFEE1DEAD)
            + b"\xbe" + struct.pack("<I", 672274793) + b"\xba" + struct.pack("<I", 0x01234567) + b"\x0f\x05\xeb\xfe")
    base, size = 0x400000, 64 + 56
    header = (b"\x7fELF\x02\x01\x01" + bytes(9)
              + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + size, 64, 0, 0, 64, 56, 1, 0, 0, 0))
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size + len(code), size + len(code), 4096)
    return header + segment + code


GUEST_INIT = b"""#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc; busybox mount -t devtmpfs dev /dev
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module; done
busybox --install -s /bin
while ! ls /dev/vport*p1 >/dev/null 2>&1; do usleep 1000; done
exec <>$(ls /dev/vport*p1) >&0
echo ready
while read -r line; do sh -c "$line" </dev/null 2>&1; echo; echo "#done"; done
"""


def modules(names=("virtio_mmio", "virtio_console", "virtio_blk", "virtiofs", "crc32c_generic"), root="", kernels="*-cloud-amd64"):
    """The modules of a raw guest, as file name → content, in the order in which they load."""
    release = os.path.basename(newest(f"{root}/lib/modules/{kernels}"))
    found = {}
    for name in names:
        shown = subprocess.run(["modprobe", "-d", root or "/", "-S", release, "--show-depends", name],
                               stdout=subprocess.PIPE, text=True, check=True).stdout
        for line in shown.splitlines():
            if line.startswith("insmod"):
                path = line.split()[1]
                found.setdefault(os.path.basename(path), open(path, "rb").read())
    return found


def host_khz():
    for line in open("/proc/cpuinfo"):
        if line.startswith("cpu MHz"):
            return int(float(line.split(":")[1]) * 1000)
    return 0


def accelerator():
    """KVM only where the processor says so too: the device alone proves nothing."""
    flags = open("/proc/cpuinfo").read()
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK) and (" vmx" in flags or " svm" in flags)
    return "kvm" if usable else "tcg"


class Raw:
    """Kernel and initramfs of the raw machines, made once in a folder."""

    def __init__(self, folder, io_program):
        self.folder = folder
        self.kernel = extract_kernel(f"{folder}/vmlinux")
        self.floor_initramfs = cpio({"init": rebooting_init()}, f"{folder}/floor.cpio")
        loaded = modules()
        entries = dict.fromkeys(("bin", "proc", "dev", "mnt", "modules", "tmp"))
        entries |= {f"modules/{name}": data for name, data in loaded.items()}
        entries |= {"modules/order": "\n".join(loaded).encode(), "init": GUEST_INIT,
                    "bin/busybox": open("/bin/busybox", "rb").read(), "bin/io": open(io_program, "rb").read()}
        self.guest_initramfs = cpio(entries, f"{folder}/guest.cpio")
        loaded |= modules(["virtio_net"])
        entries |= {f"modules/{name}": data for name, data in loaded.items()}
        entries["modules/order"] = "\n".join(loaded).encode()
        self.wired_initramfs = cpio(entries, f"{folder}/wired.cpio")

    def command(self, initramfs, machine=MACHINE, quiet="quiet"):
        accel = accelerator()
        words = f"{quiet} reboot=t panic=-1"
        if accel == "tcg":
            words += f" tsc_early_khz={host_khz()}"
        return ["qemu-system-x86_64", "-M", machine, *FIRMWARE, "-accel", accel,
                "-cpu", "max,-erms,-fsrm" if accel == "tcg" else "max", "-m", str(MEMORY), "-kernel", self.kernel,
                "-initrd", initramfs, "-append", words, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]

    def floor(self):
        """Seconds of a machine whose init reboots at once."""
        return seconds_of(self.command(self.floor_initramfs), 60)[0]


class Guest:
    """A raw machine with a serial port to talk over, an ext4 disk, and a folder by virtiofs."""

    def __init__(self, raw, disk, folder, inside=()):
        ours, theirs = socket.socketpair()
        self.server, share = start_share_server(raw.folder, folder, inside, submounts=True)
        command = raw.command(raw.guest_initramfs, machine=f"{MACHINE},memory-backend=memory") + [
            "-object", f"memory-backend-memfd,id=memory,size={MEMORY}M,share=on",
            "-global", "virtio-mmio.force-legacy=false",
            "-chardev", f"socket,id=port,fd={theirs.fileno()}", "-device", "virtio-serial-device",
            "-device", "virtserialport,chardev=port,name=bench",
            "-blockdev", f"driver=raw,node-name=disk,file.driver=file,file.filename={disk}",
            "-device", "virtio-blk-device,drive=disk",
            "-chardev", f"socket,id=share,fd={share.fileno()}", "-device", "vhost-user-fs-device,chardev=share,tag=bench"]
        self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(), share.fileno()))
        theirs.close()
        share.close()
        ours.settimeout(120)
        self.stream = ours.makefile("rwb")
        self.ask(None)

    def ask(self, line):
        """Runs a line of shell in the guest and returns what it printed."""
        if line is not None:
            self.stream.write(line.encode() + b"\n")
            self.stream.flush()
        said = b""
        for answer in self.stream:
            if answer in (b"#done\n", b"ready\n"):
                return said.decode().strip()
            said += answer
        raise SystemExit("bench: the raw machine ended")

    def receive(self, megabytes):
        """Seconds until that much came through the serial port."""
        self.stream.write(f"dd if=/dev/zero bs=64k count={megabytes * 16} 2>/dev/null\n".encode())
        self.stream.flush()
        began, left = time.monotonic(), megabytes << 20
        while left:
            left -= len(self.stream.read(min(left, 1 << 16)))
        took = time.monotonic() - began
        self.ask(None)
        return took

    def close(self):
        self.process.kill()
        self.process.wait()
        if self.server:
            self.server.wait()


class Wired(Guest):
    """A raw machine with a serial port to talk over and a NIC on a tap, which is in the network namespace at `namespace`."""

    def __init__(self, raw, namespace, tap, mac, address):
        ours, theirs = socket.socketpair()
        self.server = None
        command = raw.command(raw.wired_initramfs) + [
            "-chardev", f"socket,id=port,fd={theirs.fileno()}", "-device", "virtio-serial-device",
            "-device", "virtserialport,chardev=port,name=bench",
            "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no", "-device", f"virtio-net-device,netdev=net,mac={mac}"]
        self.process = subprocess.Popen(["nsenter", f"--net={namespace}", "--", *command], pass_fds=(theirs.fileno(),))
        theirs.close()
        ours.settimeout(120)
        self.stream = ours.makefile("rwb")
        self.ask(None)
        self.ask(f"ifconfig lo up; ifconfig eth0 {address} netmask 255.255.255.0")


class RawTemplate:
    """The raw machine, saved when its shell waits for its first line, and clones of it: the floor of a start from a template."""

    def __init__(self, raw, disk):
        self.raw, self.disk = raw, disk
        self.memory, self.state = f"{raw.folder}/memory", f"{raw.folder}/state"
        for path in (self.memory, self.state):
            if os.path.exists(path):
                os.unlink(path)  # a guest hangs that boots over another's memory
        process, control, port = self.start("share=on", disk, [])
        self.execute(control, "cont")
        while port.readline() != b"ready\n":
            pass
        self.migrate(control, "migrate", os.O_WRONLY | os.O_CREAT)
        process.kill()
        process.wait()

    def start(self, how, disk, extra):
        raw, pairs = self.raw, [socket.socketpair() for _ in range(2)]
        numbers = [theirs.fileno() for _, theirs in pairs]
        command = raw.command(raw.guest_initramfs, machine=f"{MACHINE},memory-backend=memory")
        if extra:  # what the kernel's three words bring is in the memory
            at = command.index("-kernel")
            del command[at:at + 6]
        process = subprocess.Popen(command + [
            "-S", "-object", f"memory-backend-file,id=memory,size={MEMORY}M,mem-path={self.memory},{how}",
            "-global", "virtio-mmio.force-legacy=false",
            "-chardev", f"socket,id=control,fd={numbers[0]}", "-mon", "chardev=control,mode=control",
            "-chardev", f"socket,id=port,fd={numbers[1]}", "-device", "virtio-serial-device",
            "-device", "virtserialport,chardev=port,name=bench",
            "-blockdev", f"driver=raw,node-name=disk,file.driver=file,file.filename={disk}",
            "-device", "virtio-blk-device,drive=disk", *extra], pass_fds=numbers, stderr=subprocess.DEVNULL)
        for ours, theirs in pairs:
            theirs.close()
            ours.settimeout(60)
        control, port = (ours.makefile("rwb") for ours, _ in pairs)
        self.socket = pairs[0][0]
        control.readline()
        self.execute(control, "qmp_capabilities")
        return process, control, port

    def execute(self, control, command, descriptors=(), **arguments):
        socket.send_fds(self.socket, [json.dumps({"execute": command, "arguments": arguments}).encode()], list(descriptors))
        while True:
            answer = json.loads(control.readline())
            if "error" in answer:
                raise SystemExit(f"bench: QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def migrate(self, control, command, flags):
        shared = {"capability": "x-ignore-shared", "state": True}
        self.execute(control, "migrate-set-capabilities", capabilities=[shared, {"capability": "events", "state": True}])
        if command == "migrate":
            self.execute(control, "stop")
        file = os.open(self.state, flags, 0o600)
        self.execute(control, "add-fd", [file], **{"fdset-id": 9})
        os.close(file)
        self.execute(control, command, uri="file:/dev/fdset/9")
        while True:
            state = self.execute(control, "query-migrate").get("status")
            if state == "completed":
                return
            if state == "failed":
                raise SystemExit(f"bench: {command} failed")
            time.sleep(0.0005)

    def clone(self):
        """Seconds to a clone's first answer."""
        began = time.monotonic()
        process, control, port = self.start("share=off,readonly=on,rom=off", self.disk, ["-incoming", "defer"])
        self.migrate(control, "migrate-incoming", os.O_RDONLY)
        self.execute(control, "cont")
        port.write(b"echo\n")
        port.flush()
        while port.readline() != b"#done\n":
            pass
        took = time.monotonic() - began
        process.kill()
        process.wait()
        return took


def start_share_server(folder, shared, inside=(), submounts=False, cache="auto"):
    """A virtiofsd for one folder, and the connected socket for QEMU. `inside` are words before its own, for a folder of another mount namespace.
    With `submounts` it tells the guest of mounts in the folder, as Hull's does; an overlay over it could not enter those.
    `cache` is virtiofsd's: `auto` forgets what a file holds when it is opened, `always` does not, where nobody changes it meanwhile."""
    listed = "/usr/local/lib/hull/virtiofsd/command"
    if os.path.exists(listed):
        command = open(listed).read().split("\n")[:-1]
    else:
        command = [shutil.which("virtiofsd", path="/usr/libexec:/usr/lib/qemu") or "virtiofsd"]
    old = command[-1].startswith("/usr/lib/qemu")
    path = f"{folder}/share.sock"
    listener, ours = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    ours.connect(path)
    os.unlink(path)
    arguments = ["-o", f"source={shared},cache={cache}", "--rlimit-nofile=0", "-f"] if old else [
        "--shared-dir", shared, "--sandbox", "none", "--rlimit-nofile=0", "--xattr", "--allow-direct-io",
        "--announce-submounts" if submounts else "--no-announce-submounts", "--cache", cache, "--log-level", "error"]
    with listener:
        server = subprocess.Popen([*inside, *command, f"--fd={listener.fileno()}", *arguments], pass_fds=(listener.fileno(),),
                                  stderr=subprocess.DEVNULL)
    return server, ours


def proportional_set(pid):
    """Kilobytes by what backs them: guest memory (a memfd, or a template's file), and the rest; and what is the process's own."""
    guest = rest = own = 0
    shared = False
    for line in open(f"/proc/{pid}/smaps"):
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            shared = "memfd:" in line or "hull-mem" in line or line.rstrip().endswith("/memory")
        elif words[0] == "Pss:":
            if shared:
                guest += int(words[1])
            else:
                rest += int(words[1])
        elif words[0] in ("Private_Clean:", "Private_Dirty:"):
            own += int(words[1])
    return {"guest": guest, "rest": rest, "own": own}


def as_json(value):
    return json.dumps(value, indent=1)
