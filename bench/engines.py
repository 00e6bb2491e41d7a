"""hull-runtime beside runc and crun, in the same run: its verbs on a bundle, and a real dockerd in namespaces of its own."""
import contextlib
import glob
import json
import os
import shutil
import statistics
import subprocess
import time

from machine import Guest, Wired, seconds_of

HERE = os.path.dirname(os.path.abspath(__file__))
RUNTIME = os.environ.get("HULL_RUNTIME_BIN", f"{HERE}/../bin/hull-runtime")
NAMES = ("runc", "crun", "hull")


def program(name):
    return os.path.realpath(RUNTIME) if name == "hull" else shutil.which(name, path="/usr/sbin:/usr/bin")


def timed(command, **options):
    """Seconds of a command that must succeed."""
    # No pipe: who stays would hold it.
    taken, code = seconds_of(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    if code:
        raise SystemExit(f"bench: {' '.join(command)} ended with {code}")
    return taken


class Bundle:
    """A bundle of busybox, and its containers under each runtime."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(f"{folder}/rootfs/bin")
        shutil.copy("/bin/busybox", f"{folder}/rootfs/bin/busybox")
        for name in ("sleep", "true"):
            os.symlink("busybox", f"{folder}/rootfs/bin/{name}")
        subprocess.run(["runc", "spec"], cwd=folder, check=True)
        spec = json.load(open(f"{folder}/config.json"))
        spec["process"] |= {"terminal": False, "args": ["sleep", "100000"]}
        spec["root"]["path"] = f"{folder}/rootfs"
        for name in NAMES:
            # One cgroup each: two containers in one would end each other.
            spec["linux"]["cgroupsPath"] = f"/{self.id(name)}"
            os.mkdir(f"{folder}/{name}")
            json.dump(spec, open(f"{folder}/{name}/config.json", "w"))

    def id(self, name):
        return f"hull-bench-{os.getpid()}-{name}"

    def ask(self, name, verb, *arguments):
        os.makedirs(f"{self.folder}/state-{name}", exist_ok=True)
        return timed([program(name), "--root", f"{self.folder}/state-{name}", *verb, self.id(name), *arguments],
                     cwd=f"{self.folder}/{name}")


def bench_runtime(row, runs):
    with contextlib.ExitStack() as stack:
        folder = f"/tmp/hull-bench-{os.getpid()}-bundle"
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        bundle = Bundle(folder)
        names = list(NAMES)
        for name in NAMES:
            try:
                bundle.ask(name, ["run", "-d", "--pid-file", "pid"])
            except SystemExit:
                if name != "crun":
                    raise
                # Without an engine around it, it refuses hosts that have hierarchies of both kinds.
                names.remove(name)
                continue
            stack.callback(bundle.ask, name, ["delete", "--force"])
        for verb, words, rest in (("state", ["state"], ()), ("ps", ["ps", "--format", "json"], ()), ("kill", ["kill"], ("18",))):
            times = {name: [] for name in names}
            for _ in range(10 * runs):
                for name in names:
                    times[name].append(bundle.ask(name, words, *rest))
            show(row, verb, times, 1.5)
        times = {name: [] for name in names}
        for _ in range(runs):
            for name in names:
                bundle.ask(name, ["kill"], "9")
                # The end itself is somebody else's affair; engines wait for it before they delete.
                while os.path.exists(f"/proc/{open(f'{bundle.folder}/{name}/pid').read()}"):
                    time.sleep(0.05)
                times[name].append(bundle.ask(name, ["delete"]))
                bundle.ask(name, ["create", "--pid-file", "pid"])
        show(row, "delete", times, 1.5)


def show(row, verb, times, limit):
    middle = {name: 1000 * statistics.median(values) for name, values in times.items()}
    row(f"runc {verb}", middle["runc"], "ms")
    if "crun" in middle:
        row(f"crun {verb}", middle["crun"], "ms")
    row(f"hull-runtime {verb}, beside runc's", middle["hull"], "ms", middle["runc"], limit)


class Docker:
    """dockerd with the three runtimes, in process, mount and network namespaces of its own."""

    def __init__(self, folder, root):
        self.cgroup = f"hull-bench-{os.getpid()}"
        os.makedirs(f"{folder}/lib")
        script = """mount --make-rprivate /; mount -t proc proc /proc; mount -t tmpfs -o mode=755 tmpfs /run
            mount --bind "$1/lib" /var/lib; ip link set lo up; echo ready; exec docker-init -s -- sleep infinity"""
        self.first = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-euc", script, "site", folder],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if self.first.stdout.readline() != b"ready\n":
            raise SystemExit("bench: namespaces for dockerd cannot be made")
        self.pid = open(f"/proc/{self.first.pid}/task/{self.first.pid}/children").read().split()[0]
        runtimes = {name: {"path": program(name)} for name in ("crun", "hull")}
        json.dump({"runtimes": runtimes, "cgroup-parent": f"/{self.cgroup}", "hosts": ["unix:///run/docker.sock"],
                   "bip": "10.111.0.1/24", "storage-driver": "overlay2"}, open(f"{folder}/daemon.json", "w"))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HULL_")} | {
            "DOCKER_CONFIG": "/run/client"}
        self.server = subprocess.Popen(self.inside("dockerd", "--config-file", f"{folder}/daemon.json"), env=self.environment,
                                       stdout=open(f"{folder}/dockerd.log", "w"), stderr=subprocess.STDOUT)
        for _ in range(300):
            if subprocess.run(self.client("version"), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False).returncode == 0:
                break
            time.sleep(0.1)
        self.ask("import", self.packed(folder, root), "bench")

    def packed(self, folder, root):
        # As old as an image's files are.
        subprocess.run(["tar", "-C", root, "--mtime=2020-01-01", "-c", "-f", f"{folder}/image.tar", "."], check=True)
        return f"{folder}/image.tar"

    def inside(self, *words):
        return ["nsenter", "--target", self.pid, "--pid", "--mount", "--net", "--wdns=/", "--", *words]

    def client(self, *words):
        return self.inside("/usr/bin/docker", *words)

    def ask(self, *words):
        done = subprocess.run(self.client(*words), env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=300, check=False)
        if done.returncode:
            raise SystemExit(f"bench: docker {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def runs(self, runtime):
        """Whether it runs anything here: crun refuses some hosts' cgroups."""
        words = self.client("run", "--rm", "--network", "none", "--runtime", runtime, "bench", "true")
        if subprocess.run(words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=300, check=False).returncode == 0:
            return True
        if runtime != "crun":
            raise SystemExit(f"bench: docker runs nothing with {runtime}")
        print("crun runs nothing here and is left out")
        return False

    def seconds(self, *words):
        return timed(self.client(*words), env=self.environment)

    def close(self):
        with contextlib.suppress(SystemExit):
            for container in self.ask("ps", "-aq").split():
                self.ask("rm", "-f", container)
        self.first.kill()
        self.first.wait()
        self.server.wait()
        for folder in [f"/sys/fs/cgroup/{self.cgroup}", *glob.glob(f"/sys/fs/cgroup/*/{self.cgroup}")]:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def bench_docker(row, raw, runs, root):
    with contextlib.ExitStack() as stack:
        folder = f"/tmp/hull-bench-{os.getpid()}-docker"
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        docker = Docker(folder, root)
        stack.callback(docker.close)
        run = ("run", "--rm", "--network", "none")
        names = [name for name in NAMES if docker.runs(name)]
        times = {name: [] for name in names}
        floor = []
        docker.seconds(*run, "--runtime", "hull", "bench", "true")  # fills the caches
        for _ in range(runs):
            floor.append(raw.floor())
            for name in names:
                times[name].append(docker.seconds(*run, "--runtime", name, "bench", "true"))
        middle = {name: statistics.median(values) for name, values in times.items()}
        for name in names:
            row(f"docker run --rm --runtime={name} IMAGE true", middle[name], "s")
        row("the same, Hull's minus runc's, beside a bare start", middle["hull"] - middle["runc"], "s", statistics.median(floor), 1.15)

        for name in names:
            docker.ask("run", "-d", "--name", name, "--runtime", name, "bench", "sleep", "100000")
        kernels = os.environ.get("HULL_KERNELS", f"{HERE}/../.build/kernel/kernels")
        inside = list(names)
        if os.path.exists(f"{kernels}/default"):
            shutil.copytree(kernels, f"{folder}/lib/hull/kernels", symlinks=True, dirs_exist_ok=True)
            inside.append("hull, a kernel of our making")
            docker.ask("run", "-d", "--name", "own", "--runtime", "hull", "bench", "sleep", "100000")
        times = {name: [] for name in inside}
        for _ in range(3 * runs):
            for name in inside:
                times[name].append(docker.seconds("exec", name if name in names else "own", "true"))
        middle = {name: 1000 * statistics.median(values) for name, values in times.items()}
        for name in inside:
            row(f"docker exec C true, {name}", middle[name], "ms")
        for name in inside[names.index("hull"):]:
            row(f"the same, minus runc's: {name}", middle[name] - middle["runc"], "ms", limit=30)
        if len(inside) > len(names):
            # What follows is measured with the distribution's.
            docker.ask("rm", "-f", "own")
            shutil.rmtree(f"{folder}/lib/hull/kernels")
        bench_network(row, docker, raw)
        bench_root(row, docker, raw)


def bench_network(row, docker, raw):
    """From a container to the host's side of Docker's bridge and to another container, beside raw machines on taps of another bridge in the
    same namespace, and beside runc's veth."""
    modes = (("send", 64, "MB/s"), ("receive", 64, "MB/s"), ("turn", 300, "µs"))
    found = {}

    def measure(kind, ask, servers):
        for where, address in servers:
            for mode, amount, _ in modes:
                found[kind, where, mode] = float(ask(f"io {mode} {address} {amount}").split()[-1])

    with contextlib.ExitStack() as stack:
        def serving(words):
            server = subprocess.Popen(words, env=docker.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            stack.callback(server.wait)
            stack.callback(server.kill)

        net = f"/proc/{docker.pid}/ns/net"
        subprocess.run(["nsenter", f"--net={net}", "--", "sh", "-ec", "ip link add raw type bridge; ip addr add 10.113.0.1/24 dev raw"
                        + "".join(f"; ip tuntap add raw{n} mode tap vnet_hdr; ip link set raw{n} master raw up" for n in (2, 3))
                        + "; ip link set raw up"], check=True)
        serving(["nsenter", f"--net={net}", "--", f"{raw.folder}/io", "serve", "0.0.0.0", "0"])
        machines = []
        for n in (2, 3):
            machines.append(Wired(raw, net, f"raw{n}", f"02:00:00:00:00:0{n}", f"10.113.0.{n}"))
            stack.callback(machines[-1].close)
        machines[1].ask("io serve 0.0.0.0 0 &")
        time.sleep(1)
        measure("raw", machines[0].ask, (("the host", "10.113.0.1"), ("another", "10.113.0.3")))
        for machine in machines:
            machine.process.kill()
        for name in ("runc", "hull"):
            docker.ask("run", "-d", "--name", f"{name}-served", "--runtime", name, "bench", "io", "serve", "0.0.0.0", "0")
            other = docker.ask("inspect", "-f", "{{.NetworkSettings.IPAddress}}", f"{name}-served")
            time.sleep(1)
            measure(name, lambda line, name=name: docker.ask("exec", name, *line.split()),
                    (("the host", "10.111.0.1"), ("another", other)))
            docker.ask("rm", "-f", f"{name}-served")
    for where in ("the host", "another"):
        for mode, _, unit in modes:
            row(f"TCP {mode} from a container to {where}, raw tap", found["hull", where, mode], unit, found["raw", where, mode])
            row("… beside runc's veth", found["hull", where, mode], unit, found["runc", where, mode])


def bench_root(row, docker, raw):
    """The root of an engine's container: beside the same tree on the host, which is what runc's container has, and beside a bare share of the
    very tree, without an engine and without Hull."""
    asked = {"randread": ("/file 64", "/s"), "stat": ("/many 2000", "/s")}
    found = {name: {} for name in ("runc", "hull", "raw")}
    for name in ("runc", "hull"):
        docker.ask("exec", name, "io", "write", "/file", "64")
        for mode, (words, _) in asked.items():
            found[name][mode] = float(docker.ask("exec", name, "sh", "-c", f"io {mode} {words}").split()[-1])
    empty = f"{raw.folder}/empty"
    with open(empty, "w") as file:
        file.truncate(1 << 20)
    tree = docker.ask("inspect", "-f", "{{.GraphDriver.Data.MergedDir}}", "hull")
    with contextlib.closing(Guest(raw, empty, tree, docker.inside())) as guest:
        guest.ask("mount -t virtiofs bench /mnt")
        for mode, (words, _) in asked.items():
            found["raw"][mode] = float(guest.ask(f"io {mode} /mnt{words}").split()[-1])
    for mode, (_, unit) in asked.items():
        row(f"{mode} on the root, beside the same tree under runc", found["hull"][mode], unit, found["runc"][mode])
        row("… beside a bare share of it", found["hull"][mode], unit, found["raw"][mode])
