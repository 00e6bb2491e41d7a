#!/usr/bin/env python3
"""test-host.py [--keep] [CHECK…]: Hull on a Debian 12 host as users have one: systemd, cgroup v2, AppArmor, default Docker and Podman.

The host is a machine of QEMU's software emulation, which has AMD's SVM, so that Hull runs its own machines under KVM there. Its disk is
made by make-host.sh and stays as it is: what is written goes to a temporary file. Hull comes from `make install`. Some minutes.
"""
import argparse
import io
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../bench")
from machine import host_khz  # noqa: E402


class Host:
    """The machine, and a root's shell in it."""

    def __init__(self, folder, disk):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", f"{folder}/disk"], check=True)
        ports = [socket.socketpair() for _ in range(2)]
        command = [
            "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "6144",
            "-kernel", disk.replace(".ext4", ".vmlinuz"), "-initrd", disk.replace(".ext4", ".initrd"),
            "-append", f"root=/dev/vda console=ttyS0 quiet panic=-1 reboot=t mitigations=off tsc_early_khz={host_khz()} systemd.show_status=0",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{folder}/console", "-no-reboot",
            "-drive", f"file={folder}/disk,if=virtio,cache=unsafe", "-device", "virtio-serial-pci",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
        for name, (_, theirs) in zip(("shell", "files"), ports):
            command += ["-chardev", f"socket,id={name},fd={theirs.fileno()}", "-device", f"virtserialport,chardev={name},name={name}"]
        self.console = f"{folder}/console"
        # It ends with us, however we end.
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL,
                                        pass_fds=[theirs.fileno() for _, theirs in ports])
        for _, theirs in ports:
            theirs.close()
        (self.shell, _), (self.files, _) = ports
        self.buffer = b""
        self.wait(b"ready\n", 600)

    def wait(self, word, seconds):
        """What is said before `word` stands at the beginning of a line."""
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
                raise SystemExit(f"the host said nothing for {seconds} s: {self.buffer[-2000:].decode(errors='replace')}") from None
            if not data:
                raise SystemExit(f"the host ended: {open(self.console, errors='replace').read()[-2000:]}")
            self.buffer += data

    def run(self, line, seconds=300):
        """Runs a line of shell; what it printed, and its exit code."""
        self.shell.sendall(f"timeout -s KILL {seconds} bash -c {quoted(line)}\n".encode())
        said, last = self.wait(b"#done ", seconds + 60)
        return said.strip("\n"), int(last.split()[1])

    def put(self, tree):
        """Unpacks files there: path on the host → path here."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, source in tree.items():
                tar.add(source, name.lstrip("/"))
        data = archive.getvalue()
        self.shell.sendall(f"head -c {len(data)} /dev/virtio-ports/files | tar -x -C / --keep-directory-symlink\n".encode())
        self.files.sendall(data)
        said, last = self.wait(b"#done ", 300)
        if last != "#done 0":
            raise SystemExit(f"copying files to the host failed: {said}")

    def close(self):
        self.process.kill()
        self.process.wait()


def quoted(text):
    return "'" + text.replace("'", "'\\''").replace("\n", "'$'\\n''") + "'"
