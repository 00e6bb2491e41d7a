#!/usr/bin/env python3
"""bench.py [--runs N] [--json FILE] [SECTION…]: speed and memory of Hull beside their floors, in one run.

Sections: start clone kernel fork crowd verbs exec memory output disk runtime docker (all of them without a name). Runs as root, after `make build`.
What is compared is measured alternately, and medians are shown: the machine's noise falls on both sides.
"""
import argparse
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import engines
from machine import MEMORY, Guest, Raw, RawTemplate, accelerator, as_json, proportional_set

HERE = os.path.dirname(os.path.abspath(__file__))
HULL = os.environ.get("HULL_BIN", f"{HERE}/../bin/hull")
rows = []


def row(what, value, unit, floor=None, limit=None):
    """Prints and keeps one figure, with its floor and the limit that it must keep."""
    ratio = value / floor if floor else None
    rows.append({"what": what, "value": round(value, 3), "unit": unit, "floor": floor and round(floor, 3),
                 "ratio": ratio and round(ratio, 3), "limit": limit})
    text = f"{what:<44}{value:>10.2f} {unit:<5}"
    if floor:
        text += f"  floor {floor:>9.2f}  ratio {ratio:>5.2f}"
    if limit:
        held = (ratio if floor else value) <= limit
        text += f"  limit {limit:g} {'held' if held else 'MISSED'}"
    print(text, flush=True)


def hull(*arguments, **options):
    """Runs hull and returns what it printed."""
    done = subprocess.run([HULL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, **options)
    if done.returncode != 0:
        raise SystemExit(f"bench: hull {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def seconds(*arguments):
    began = time.monotonic()
    hull(*arguments)
    return time.monotonic() - began


def run_flags(network="none"):
    return ["--rm", "--network", network, "--memory", f"{MEMORY}m"]


def bench_start(raw, image, runs):
    hull("run", *run_flags(), "--no-template", image, "true")  # pulls, and fills the caches
    raw.floor()
    ours, floor = [], []
    for _ in range(runs):
        floor.append(raw.floor())
        ours.append(seconds("run", *run_flags(), "--no-template", image, "true"))
    row("hull run --no-template IMAGE true", statistics.median(ours), "s", statistics.median(floor), 1.25)


def bench_clone(raw, image, runs):
    """A start from a template, built in this very bench, beside a raw clone's first answer."""
    with tempfile.TemporaryDirectory() as folder:
        bound = f"{folder}/bound"
        os.mkdir(bound)
        kinds = {
            "hull run --rm --network none IMAGE true": run_flags(),
            "the same with a bind mount": [*run_flags(), "-v", f"{bound}:/mnt"],
            "the same on the bridge": run_flags("bridge"),
            "the same on the bridge with a bind mount": [*run_flags("bridge"), "-v", f"{bound}:/mnt"],
        }
        for network in ("none", "bridge"):
            for share in ([], ["--share"]):
                hull("template", "build", "--network", network, "--memory", f"{MEMORY}m", *share)
        saved = RawTemplate(raw, blank_disk(folder, 1024))
        saved.clone()
        times, floor = {kind: [] for kind in kinds}, []
        for _ in range(runs):
            floor.append(saved.clone())
            for kind, flags in kinds.items():
                times[kind].append(seconds("run", *flags, image, "true"))
        limits = dict(zip(kinds, (1.3, 1.56, 1.56, 1.56)))
        for kind, limit in limits.items():
            row(kind, statistics.median(times[kind]), "s", statistics.median(floor), limit)
        # Filled before each run: what comes of a machine that waits, without another that boots beside it.
        pooled = []
        for _ in range(runs):
            hull("pool", "set", "-n", "1", "--network", "none", "--memory", f"{MEMORY}m", image)
            pooled.append(seconds("run", *run_flags(), image, "true"))
        hull("pool", "rm", "--all")
        row("the first of these, from a pool", statistics.median(pooled), "s", statistics.median(floor))


def bench_verbs(_, image, runs):
    row("hull version", 1000 * statistics.median(seconds("version") for _ in range(10 * runs)), "ms", limit=10)
    names = [hull("create", "--network", "none", image, "true") for _ in range(50)]
    row("hull ps with 50 containers", 1000 * statistics.median(seconds("ps", "-a") for _ in range(5 * runs)), "ms", limit=30)
    hull("rm", *names)


class Container:
    """A container that sleeps until the block ends."""

    def __init__(self, *arguments):
        self.id = hull("run", "-d", "--network", "none", "--memory", f"{MEMORY}m", *arguments, "sleep", "1000000")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        hull("rm", "--force", self.id)


def every_process():
    """The monitors of this bench and what they started, as pid → the program's name."""
    parents, found, ids, machines = {}, {}, set(), {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\0")
            status = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            ours = f"HULL_ROOT={os.environ['HULL_ROOT']}\0" in open(f"/proc/{pid}/environ").read()
        except OSError:
            continue  # it ended meanwhile
        parents[int(pid)] = int(status[1])
        if ours and "monitor" in words[:3]:
            found[int(pid)] = "monitor"
            ids.add(f"hull-{words[words.index('monitor') + 1]}")
        # A copy of a machine that stands by is that machine's child.
        if "-name" in words and "qemu" in words[0]:
            machines[int(pid)] = words[words.index("-name") + 1]
    found |= {pid: "qemu" for pid, name in machines.items() if name in ids}
    grown = True
    while grown:
        grown = False
        for pid, parent in parents.items():
            if parent in found and pid not in found:
                words = open(f"/proc/{pid}/cmdline").read().replace("\0", " ")
                found[pid] = next((name for name in ("qemu", "virtiofsd") if name in words), "other")
                grown = True
    return found


def bench_exec(_, image, runs):
    with Container(image) as container:
        hull("exec", container.id, "true")
        times = [seconds("exec", container.id, "true") for _ in range(10 * runs)]
        row("hull exec C true", 1000 * statistics.median(times), "ms", limit=30)
        row("hull exec C true, the slowest of them", 1000 * max(times), "ms")


def bench_memory(_, image, __):
    with tempfile.TemporaryDirectory() as folder, Container("-v", f"{folder}:/mnt", image) as container:
        time.sleep(5)  # idle means that start-up is over
        guest = 0
        for pid, name in sorted(every_process().items(), key=lambda item: item[1]):
            size = proportional_set(pid)
            guest += size["guest"]
            row(f"PSS of an idle container: {name}", size["rest"] / 1024, "MB", limit=6 if name == "monitor" else None)
        row("PSS of an idle container: guest memory", guest / 1024, "MB")


class Ticker:
    """An attached container that has dirtied half of its memory and prints a line every 2 ms; notes when lines came."""

    def __init__(self, image):
        self.name = "ticker"
        self.times = []
        self.run = subprocess.Popen(
            [HULL, "run", "--name", self.name, "--network", "none", "--memory", f"{MEMORY}m", image, "io", "tick", "-",
             f"{MEMORY // 2}"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        deadline = time.monotonic() + 120
        while len(self.times) < 200:
            if time.monotonic() > deadline:
                raise SystemExit("bench: the container that ticks says nothing")
            time.sleep(0.05)

    def read(self):
        while os.read(self.run.stdout.fileno(), 65536):
            self.times.append(time.monotonic())

    def longest_gap(self, since):
        times = [moment for moment in list(self.times) if moment >= since]
        return max((later - earlier for earlier, later in zip(times, times[1:])), default=0)

    def close(self):
        hull("rm", "--force", self.name)
        self.run.wait()


def bench_fork(_, image, runs):
    """A running container with half of its memory dirtied is copied: how long it stands still, and when the copy answers."""
    ticker = Ticker(image)
    try:
        still, usual, verb, answer = [], [], [], []
        for _ in range(runs):
            began = time.monotonic()
            time.sleep(1)
            usual.append(ticker.longest_gap(began))
            began = time.monotonic()
            copy = hull("fork", ticker.name)
            verb.append(time.monotonic() - began)
            hull("exec", copy, "true")
            answer.append(time.monotonic() - began)
            still.append(ticker.longest_gap(began))
            hull("rm", "--force", copy)
        row("fork, half of the memory dirtied: it is silent for", 1000 * statistics.median(still), "ms", limit=60)
        row("  without a fork, within a second", 1000 * statistics.median(usual), "ms")
        row("  hull fork C: the copy's agent has answered, and it runs", statistics.median(verb), "s", limit=0.35)
        row("  the same, and a first exec in the copy is done", statistics.median(answer), "s")
    finally:
        ticker.close()


def bench_crowd(_, image, runs):
    """A hundred clones at once: how fast they come, and what they take."""
    count = 100
    flags = ["--network", "none", "--memory", "64m"]
    hull("template", "build", *flags)
    names, times = [], []
    try:
        before = available()
        prices = [page_price()]
        for _ in range(count):
            began = time.monotonic()
            names.append(hull("run", "-d", *flags, image, "sleep", "1000000"))
            times.append(time.monotonic() - began)
        time.sleep(5)  # idle means that start-up is over
        taken = before - available()
        row("100 clones: starts a second", count / sum(times), "/s")
        row("  the last ten, beside the first ten", statistics.median(times[-10:]), "s", statistics.median(times[:10]), 1.2)
        # A host that is a machine itself may have to ask for memory that it has not had lately: that is in the last starts, and not in the first.
        prices.append(page_price())
        row("  a page of the host's memory, after the last, before the first", prices[1], "us", prices[0])
        row("  memory that the host lost for each", taken / count, "MB")
        sizes = {"monitor": [], "qemu": []}
        for pid, name in every_process().items():
            if name in sizes:
                sizes[name].append(proportional_set(pid))
        for name, all_sizes in sizes.items():
            row(f"  PSS of each {name}", statistics.median(one["guest"] + one["rest"] for one in all_sizes) / 1024, "MB")
        row("  each QEMU's own memory", statistics.median(one["own"] for one in sizes["qemu"]) / 1024, "MB", limit=30)
    finally:
        for name in names:
            hull("rm", "--force", name)


def page_price():
    """Microseconds of a processor for a page of memory that this process has not had yet."""
    size = 64 << 20
    with mmap.mmap(-1, size) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        began = time.process_time()
        for place in range(0, size, mmap.PAGESIZE):
            memory[place] = 1
        first = time.process_time()
        for place in range(0, size, mmap.PAGESIZE):
            memory[place] = 2
        return (first - began - (time.process_time() - first)) * 1e6 / (size / mmap.PAGESIZE)


def available():
    """Megabytes of the host's memory that somebody could have."""
    for line in open("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return 0


def bench_kernel(raw, image, runs):
    """A boot of Hull's own kernel beside one of the host's. HULL_KERNEL_IMAGE names it: hull kernel build takes its time."""
    own = os.environ.get("HULL_KERNEL_IMAGE", f"{HERE}/../.build/kernel/kernels/default/vmlinux")
    if not os.path.exists(own):
        print("kernel: left out, there is none: make kernel builds one")
        return
    ours, stock = [], []
    for flags in (["--kernel", own], []):
        hull("run", *run_flags(), "--no-template", *flags, image, "true")
    for _ in range(runs):
        stock.append(seconds("run", *run_flags(), "--no-template", image, "true"))
        ours.append(seconds("run", *run_flags(), "--no-template", "--kernel", own, image, "true"))
    row("cold start with our kernel, beside the host's", statistics.median(ours), "s", statistics.median(stock), 0.6)


def bench_output(raw, image, _):
    megabytes = 64
    with tempfile.TemporaryDirectory() as folder:
        disk = blank_disk(folder, 16)
        guest = Guest(raw, disk, folder)
        try:
            floor = megabytes / guest.receive(megabytes)
        finally:
            guest.close()
    with Container(image) as container:
        began = time.monotonic()
        subprocess.run([HULL, "exec", container.id, "dd", "if=/dev/zero", "bs=64k", f"count={megabytes * 16}"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=300)
        rate = megabytes / (time.monotonic() - began)
    row("bytes through stdout, beside a raw serial port", rate, "MB/s", floor)


def blank_disk(folder, megabytes):
    path = f"{folder}/disk"
    with open(path, "wb") as file:
        file.truncate(megabytes << 20)
    return path


def bench_disk(raw, image, _):
    megabytes = 64
    modes = (("write", "MB/s"), ("read", "MB/s"), ("randread", "/s"), ("randwrite", "/s"))
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/shared")
        disk = blank_disk(folder, 1024)
        subprocess.run(["mkfs.ext4", "-q", disk], check=True)
        raw_rates = {}
        guest = Guest(raw, disk, f"{folder}/shared")
        try:
            for place, mount in (("root", "mount -t ext4 /dev/vda /mnt"), ("bind", "mount -t virtiofs bench /mnt")):
                guest.ask(mount)
                for mode, _ in modes:
                    raw_rates[place, mode] = float(guest.ask(forgetting(f"io {mode} /mnt/file {megabytes}")).split()[-1])
                guest.ask("umount /mnt")
        finally:
            guest.close()
        os.mkdir(f"{folder}/bound")
        with Container("--privileged", "-v", f"{folder}/bound:/mnt", image) as container:
            for place, path in (("root", "/file"), ("bind", "/mnt/file")):
                for mode, unit in modes:
                    said = hull("exec", "--privileged", container.id, "sh", "-c", forgetting(f"io {mode} {path} {megabytes}"))
                    row(f"{mode} on the {place}, beside raw {'virtio-blk' if place == 'root' else 'virtiofs'}",
                        float(said.split()[-1]), unit, raw_rates[place, mode])


def forgetting(command):
    """The command after the guest forgot what it had read. A guest that may not forget says nothing and goes on."""
    return f"sync; echo 3 2>/dev/null >/proc/sys/vm/drop_caches; {command}"


def make_image(folder, io_program):
    """busybox and the program that reads and writes, as an image."""
    root = f"{folder}/root"
    os.makedirs(f"{root}/bin")
    for name in ("etc", "tmp", "mnt", "proc", "sys", "dev", "root"):
        os.mkdir(f"{root}/{name}")
    shutil.copy("/bin/busybox", f"{root}/bin/busybox")
    shutil.copy(io_program, f"{root}/bin/io")
    for applet in subprocess.run(["busybox", "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split():
        if applet != "busybox":
            os.symlink("busybox", f"{root}/bin/{applet}")
    open(f"{root}/etc/passwd", "w").write("root:x:0:0:root:/root:/bin/sh\n")
    subprocess.run([f"{HERE}/../scripts/oci-archive.py", root, f"{folder}/image.tar",
                    '{"Env":["PATH=/bin"],"Cmd":["sh"]}'], check=True)
    return f"oci-archive:{folder}/image.tar"


def bench_runtime(_, __, runs):
    engines.bench_runtime(row, runs)


def bench_docker(raw, image, runs):
    engines.bench_docker(row, raw, runs, os.path.join(os.path.dirname(image.removeprefix("oci-archive:")), "root"))


SECTIONS = {"start": bench_start, "clone": bench_clone, "kernel": bench_kernel, "fork": bench_fork, "crowd": bench_crowd,
            "verbs": bench_verbs, "exec": bench_exec, "memory": bench_memory,
            "output": bench_output, "disk": bench_disk, "runtime": bench_runtime, "docker": bench_docker}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=int(os.environ.get("RUNS", "7")), help="alternated runs of a start")
    parser.add_argument("--json", help="write the figures to this file too")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    chosen = parser.parse_args()
    unknown = [name for name in chosen.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section is called {unknown[0]}")
    if not os.access(HULL, os.X_OK):
        raise SystemExit(f"bench: {HULL} is missing: run make build first")
    with tempfile.TemporaryDirectory(prefix="hull-bench-") as folder:
        os.environ |= {"HULL_ROOT": f"{folder}/data", "HULL_EXEC_ROOT": f"{folder}/run"}
        io_program = f"{folder}/io"
        subprocess.run([os.environ.get("CC", "clang"), "-O1", "-static", "-o", io_program, f"{HERE}/io.c"], check=True)
        raw = Raw(folder, io_program)
        image = make_image(folder, io_program)
        print(f"accelerator {accelerator()}, {os.cpu_count()} processors, {MEMORY} MB of guest memory, medians")
        failed = False
        try:
            for name in chosen.sections or SECTIONS:
                try:
                    SECTIONS[name](raw, image, chosen.runs)
                except (SystemExit, subprocess.SubprocessError) as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    failed = True
        finally:
            for verb in (["gc"], ["template", "rm", "--all"]):
                subprocess.run([HULL, *verb], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            # Who keeps a template awake ends when it is gone, and takes its folder with it.
            awake, deadline = f"{folder}/data/cache/awake", time.monotonic() + 20
            while os.path.isdir(awake) and set(os.listdir(awake)) - {".lock"} and time.monotonic() < deadline:
                time.sleep(0.1)
    if chosen.json:
        with open(chosen.json, "w") as file:
            file.write(as_json(rows))
    sys.exit(failed)


if __name__ == "__main__":
    main()
