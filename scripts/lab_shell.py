"""A root's shell somewhere, over a socket: in a Dom0 (xen_lab.py), or in namespaces of this host."""
import os
import socket
import subprocess
import tempfile
import time

# Lines are read from standard input and run; `#done CODE` follows what each said.
LOOP = r"""
echo '#ready'
while read -r line; do
    bash -c "$line" </dev/null 2>&1
    code=$?
    printf '\n#done %s\n' $code
done
"""


class Shell:
    """`socket` is the shell's standard input and output, `said` a file where it is, for what a line says."""

    def __init__(self, shell, process, said):
        self.shell, self.process, self.said = shell, process, said
        self.buffer = b""

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
                raise SystemExit(f"the shell said nothing for {seconds} s: {self.tail()}") from None
            if not data:
                raise SystemExit(f"the shell ended: {self.tail()}")
            self.buffer += data

    def tail(self):
        return self.buffer[-1000:].decode(errors="replace")

    def run(self, line, seconds=300):
        """Runs a line of shell; what it printed, and its exit code."""
        # A port that is open once only is no standard output for programs that open theirs anew.
        self.shell.sendall(
            f"timeout -s KILL {seconds} bash -c {quoted(line)} >{self.said} 2>&1; code=$?; cat {self.said}; exit $code\n".encode())
        said, last = self.wait(b"#done ", seconds + 60)
        return said.strip("\n"), int(last.split()[1])

    def close(self):
        self.process.kill()
        self.process.wait()


class Namespaces(Shell):
    """A shell on this host whose network, processes and mounts are its own: what is left there is all that is seen, and goes with it."""

    def __init__(self, folder):
        ours, theirs = socket.socketpair()
        # Names of network namespaces are mounts too.
        start = f"mkdir -p /run/netns; mount -t tmpfs names /run/netns; ip link set lo up; {LOOP}"
        with theirs:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", start],
                stdin=theirs, stdout=theirs)
        super().__init__(ours, process, f"{folder}/said")
        self.wait(b"#ready", 30)


def quoted(text):
    return "'" + text.replace("'", "'\\''").replace("\n", "'$'\\n''") + "'"
