#!/usr/bin/env python3
"""test-host.py [--list] [--selinux] [WORD…]: Hull on a Debian 12 host as users have one: systemd, cgroup v2, AppArmor, default Docker and Podman.

The host is a machine of QEMU's software emulation, which has AMD's SVM, so that Hull runs its own machines under KVM there. Its disk is
made by make-host.sh and stays as it is: what is written goes to a temporary file. Hull comes from `make install`. Some minutes.
With --selinux it is a host with SELinux (permissive) instead of AppArmor, and the list of checks is another, shorter one.
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
sys.path.insert(0, HERE)
from lab_shell import Shell  # noqa: E402
from machine import host_khz  # noqa: E402


class Host(Shell):
    """The machine, and a root's shell in it."""

    def __init__(self, folder, disk, words=""):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", f"{folder}/disk"], check=True)
        ports = [socket.socketpair() for _ in range(2)]
        command = [
            "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "6144",
            "-kernel", disk.replace(".ext4", ".vmlinuz"), "-initrd", disk.replace(".ext4", ".initrd"),
            "-append", f"root=/dev/vda console=ttyS0 quiet panic=-1 reboot=t mitigations=off tsc_early_khz={host_khz()} systemd.show_status=0{words}",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{folder}/console", "-no-reboot",
            "-drive", f"file={folder}/disk,if=virtio,cache=unsafe", "-device", "virtio-serial-pci",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
        for name, (_, theirs) in zip(("shell", "files"), ports):
            command += ["-chardev", f"socket,id={name},fd={theirs.fileno()}", "-device", f"virtserialport,chardev={name},name={name}"]
        self.console = f"{folder}/console"
        # It ends with us, however we end.
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL,
                                   pass_fds=[theirs.fileno() for _, theirs in ports])
        for _, theirs in ports:
            theirs.close()
        (shell, _), (self.files, _) = ports
        super().__init__(shell, process, "/run/said")
        self.wait(b"ready\n", 600)

    def tail(self):
        # What the kernel said last is not in the shell's words.
        return super().tail() + open(self.console, errors="replace").read()[-2000:]

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


# What every check begins with.
PREAMBLE = """
is() { local wanted=$(printf '%b' "$2"); [ "$1" = "$wanted" ] || { echo "expected “$wanted”, got “$1”"; exit 1; }; }
near() { for try in $(seq 60); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.5; done; "$@"; }
has() { local said=$(cat); grep -e "$1" <<<"$said" >/dev/null || { echo "expected “$1” in “$said”"; return 1; }; }
cgroup() { echo /sys/fs/cgroup$(cut -d: -f3 /proc/$1/cgroup); }
vmm() { pgrep -n -x qemu-system-x86; }
label() { tr -d '\\0' </proc/$1/attr/current; }
none() { ! for exe in /proc/[0-9]*/exe; do readlink $exe; done 2>/dev/null | grep -E '/(hull|hull-runtime|qemu-system-x86_64|virtiofsd)$'; }
pid() { docker inspect -f '{{.State.Pid}}' $1; }
user() { runuser -l user -c "export XDG_RUNTIME_DIR=/run/user/1000; set -eu; $1"; }
answers() { [[ $(exec 3<>/dev/tcp/$2/$3; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; timeout 5 cat <&3) == *"$1"* ]]; }
image=localhost/box
"""

# Name, and a script that must succeed. They run in this order in one host; what a check leaves the later ones find.
CHECKS = [
    ("the host is one as users have it", r"""
        is "$(stat -fc %T /sys/fs/cgroup)" cgroup2fs
        is "$(aa-enabled)" Yes
        is "$(ps -o comm= 1)" systemd
        near systemctl is-active --quiet docker
        is "$(docker info -f '{{.CgroupDriver}} {{.CgroupVersion}}')" "systemd 2"
        docker info -f '{{.SecurityOptions}}' | has apparmor
        is "$(podman info -f '{{.Host.CgroupManager}}')" systemd
        hull doctor | has 'machines can run'
    """),
    ("hull install tells the engines", r"""
        hull install docker --dry-run; ! grep -q hull /etc/docker/daemon.json
        for engine in docker podman containerd kubernetes; do hull install $engine; done
        for engine in docker podman containerd kubernetes; do hull install $engine | has 'nothing to change'; done
        systemctl reload docker
        systemctl restart containerd
        near sh -c "docker info -f '{{.Runtimes}}' | grep hull"
        docker load -q -i /root/engines.docker.tar
        podman load -q -i /root/engines.docker.tar
        install -m 644 /root/engines.docker.tar /var/tmp/engines.docker.tar
        user 'podman load -q -i /var/tmp/engines.docker.tar'
    """),
    ("hull run, exec, limits", r"""
        is "$(hull run -i --rm oci-archive:/root/busybox.tar sh -c 'cat; exit 7' <<<'through' || echo $?)" "through\n7"
        hull run -d --name one --memory 64m --cpus 0.5 oci-archive:/root/busybox.tar sleep 1000
        is "$(hull exec one cat /sys/fs/cgroup/memory.max)" 67108864
        is "$(cat /sys/fs/cgroup/hull/[0-9a-f]*/memory.max)" $(((64 + 96 + 192) << 20))
        is "$(hull exec one sh -c 'exit 9' || echo $?)" 9
        hull rm -f one
        ! ls -d /sys/fs/cgroup/hull/[0-9a-f]*/ 2>/dev/null
    """),
    ("docker run under AppArmor's profile", r"""
        is "$(docker run --rm --runtime=hull $image sh -c 'echo out; echo err >&2; exit 42' 2>/dev/null || echo $?)" "out\n42"
        docker run -d --name one --runtime=hull --memory 64m --cpus 0.5 --pids-limit 50 $image sleep 10000
        docker inspect -f '{{.AppArmorProfile}}' one | has docker-default
        # The profile is the VMM's.
        is "$(cat /proc/$(vmm)/attr/current)" "docker-default (enforce)"
        hull-runtime features | has '"apparmor":{"enabled":true}'
        ! docker run --rm --runtime=hull --security-opt apparmor=nobodys $image true 2>/run/words; has 'nobodys' </run/words
        is "$(docker exec one cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max)" "67108864\n50"
        is "$(docker exec one sh -c 'exit 9' || echo $?)" 9
        docker top one | has 'sleep 10000'
    """),
    ("its cgroup is a scope of systemd's, with its limits", r"""
        group=$(cgroup $(pid one)); scope=$(basename $group)
        is "$scope" docker-$(docker inspect -f '{{.Id}}' one).scope
        is "$(cat $group/memory.max $group/cpu.max)" "$(((64 + 96 + 256) << 20))\n50000 100000"
        is "$(systemctl show -p Delegate --value $scope)" yes
        is "$(systemctl show -p MemoryMax --value $scope)" $(((64 + 96 + 256) << 20))
        [ $(wc -l <$group/cgroup.procs) -ge 3 ]
        # In it is all that the machine is made of, and nothing of it is elsewhere.
        for process in $(vmm) $(pgrep -x virtiofsd); do is $(cgroup $process) $group; done
        systemctl daemon-reload
        is "$(cat $group/memory.max $group/cpu.max)" "$(((64 + 96 + 256) << 20))\n50000 100000"
    """),
    ("docker stats", r"""
        set -- $(docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' one); echo "$@"
        [[ $1 == *MiB && ${1%%[.M]*} -gt 10 && $4 -ge 3 ]]
    """),
    ("docker update, in the guest, on the host and to systemd", r"""
        group=$(cgroup $(pid one))
        docker update --cpus 1.5 --pids-limit 60 one
        is "$(docker exec one cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max)" "150000 100000\n60"
        is "$(cat $group/cpu.max)" "150000 100000"
        docker update --memory 128m --memory-swap 128m one
        is "$(docker exec one cat /sys/fs/cgroup/memory.max)" $((128 << 20))
        systemctl daemon-reload
        is "$(cat $group/cpu.max $group/memory.max)" "150000 100000\n$(((128 + 96 + 256) << 20))"
    """),
    ("docker pause, restart with the same scope, rm", r"""
        docker pause one; is "$(docker inspect -f '{{.State.Status}}' one)" paused; docker unpause one
        docker restart -t 0 one; is "$(docker exec one echo again)" again
        docker rm -f one
        near sh -c '! ls -d /sys/fs/cgroup/system.slice/docker-*.scope'
    """),
    ("out of memory is shown", r"""
        docker run --name oom --runtime=hull -m 64m $image perl -e '$x .= "x" x 1000000 while 1' || is $? 137
        is "$(docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' oom)" "true 137"
        docker rm oom
    """),
    ("a user network, its names, a published port", r"""
        docker network create net
        docker run -d --name web --net net --runtime=hull -p 127.0.0.1:8080:80 $image sh -c 'echo hello >/index.html; exec httpd -f -h /'
        near answers hello 127.0.0.1 8080
        is "$(docker run --rm --net net --runtime=hull $image wget -qO- http://web/)" hello
        docker rm -f web; docker network rm net
    """),
    ("binds, volumes, cp, tmpfs under AppArmor", r"""
        mkdir -p /srv/bound; echo host >/srv/bound/file
        docker run --name files --runtime=hull -v /srv/bound:/b -v vol:/v --tmpfs /t $image sh -c 'cat /b/file; echo guest >/b/new; echo v >/v/x; echo t >/t/x; echo c >/c'
        is "$(cat /srv/bound/new)" guest
        is "$(docker cp files:/c - | tar -xO)" c
        is "$(docker run --rm --runtime=hull -v vol:/v $image cat /v/x)" v
        docker rm files; docker volume rm vol
    """),
    ("--privileged, --cpuset-cpus, --security-opt apparmor=unconfined", r"""
        is "$(docker run --rm --privileged --runtime=hull $image sh -c 'mount -t tmpfs t /tmp && echo mounted')" mounted
        is "$(docker run --rm --cpuset-cpus 1 --security-opt apparmor=unconfined --runtime=hull $image nproc)" 1
        docker run -d --name free --security-opt apparmor=unconfined --runtime=hull $image sleep 1000
        is "$(cat /proc/$(vmm)/attr/current)" unconfined
        docker rm -f free
    """),
    ("podman, whose cgroup is in machine.slice", r"""
        is "$(podman --runtime hull run --rm $image sh -c 'echo out; exit 42' || echo $?)" "out\n42"
        podman --runtime hull run -d --name one -m 64m --cpus 0.5 $image sleep 10000
        group=$(cgroup $(podman inspect -f '{{.State.Pid}}' one))
        is "$(dirname $group)" /sys/fs/cgroup/machine.slice
        is "$(cat $group/memory.max $group/cpu.max)" "$(((64 + 96 + 256) << 20))\n50000 100000"
        is "$(podman exec one cat /sys/fs/cgroup/memory.max)" 67108864
        has '^containers-default-.* (enforce)' </proc/$(vmm)/attr/current
        podman stats --no-stream one
        podman rm -f -t 0 one
        is "$(podman --runtime hull run --rm --systemd always $image sh -c 'mkdir /sys/fs/cgroup/made && echo made')" made
        near sh -c '! ls -d /sys/fs/cgroup/machine.slice/libpod-*.scope'
    """),
    ("a pod of podman's", r"""
        podman --runtime hull pod create --name pod
        podman --runtime hull run -d --pod pod --name a $image sh -c 'echo in the pod >/index.html; exec httpd -f -h /'
        is "$(podman --runtime hull run --rm --pod pod $image wget -qO- http://127.0.0.1/)" "in the pod"
        podman pod rm -f -t 0 pod
    """),
    ("podman by a plain user who may use KVM", r"""
        usermod -aG kvm user
        is "$(user "podman --runtime hull run --rm $image sh -c 'id -u; exit 42'" || echo $?)" "0\n42"
        user "podman --runtime hull run -d --name one -m 64m --cpus 0.5 -p 8081:80 $image sh -c 'echo hello >/index.html; exec httpd -f -h /'"
        process=$(user "podman inspect -f {{.State.Pid}} one"); group=$(cgroup $process)
        is "$(dirname $group)" /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice
        is "$(cat $group/memory.max)" $(((64 + 96 + 256) << 20))
        is "$(user "podman exec one cat /sys/fs/cgroup/memory.max")" 67108864
        # QEMU is neither root nor the user, and none of its ids is the host's.
        is "$(ps -o user= -p $(vmm))" $(($(awk -F: '/^user/ { print $2 + $3 - 1 }' /etc/subuid)))
        near answers hello 127.0.0.1 8081
        user "podman stats --no-stream one"
        user "podman rm -f -t 0 one"
    """),
    ("a plain user's files, and the way out by slirp4netns", r"""
        ip link add out type dummy; ip addr add 10.55.0.1/24 dev out; ip link set out up
        perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalAddr => "10.55.0.1", LocalPort => 9000, Listen => 1, ReuseAddr => 1);
            $c = $s->accept; print $c "from outside\n"' &
        is "$(user "podman --runtime hull run --rm $image nc 10.55.0.1 9000")" "from outside"
        ip link del out
        user "mkdir -p b; echo mine >b/file"
        is "$(user "podman --runtime hull run --rm -v ./b:/b $image sh -c 'cat /b/file; echo new >/b/new; stat -c %u /b/file'")" "mine\n0"
        is "$(stat -c %U /home/user/b/new)" user
    """),
    ("nothing is left", r"""
        hull uninstall docker; hull uninstall podman; hull uninstall containerd; hull uninstall kubernetes
        systemctl reload docker
        hull gc
        near none
        is "$(find /run/hull /run/user/1000/hull -name monitor.sock)" ""
        is "$(systemctl list-units --all --no-legend 'docker-*.scope' 'libpod-*.scope')" ""
        is "$(systemctl --failed --no-legend)" ""
    """),
]


# Debian's policy has none of the types that its own `lxc_contexts` gives containers. What these may do is not asked here, but for one, which
# may do all that the engines may: their labels are.
CONTAINER_POLICY = """
(type container_t) (type container_kvm_t) (type container_file_t)
(roletype system_r container_t) (roletype system_r container_kvm_t) (roletype object_r container_file_t)
(typeattributeset domain (container_t container_kvm_t))
(typeattributeset file_type (container_file_t))
(typeattributeset filesystem_type (container_file_t))
(typepermissive container_t) (typepermissive container_kvm_t)
(typeattributeset mcssetcats (initrc_t))
(allow initrc_t domain (process (transition siginh rlimitinh noatsecure)))
(allow initrc_t domain (process2 (nnp_transition nosuid_transition)))
(allow initrc_t container_file_t (filesystem (mount unmount remount getattr relabelto relabelfrom)))
"""

# Of the same host with SELinux: Debian's policy and the types above.
SELINUX_CHECKS = [
    ("the host has SELinux", r"""
        is "$(getenforce)" Permissive
        is "$(cat /proc/1/attr/current | tr -d '\0')" system_u:system_r:init_t:s0
        is "$(podman info -f '{{.Host.Security.SELinuxEnabled}}')" true
        cat >/run/containers.cil <<<'""" + CONTAINER_POLICY + r"""'
        semodule -i /run/containers.cil
        hull-runtime features | has '"selinux":{"enabled":true}'
        hull-runtime features | has '"apparmor":{"enabled":false}'
        for engine in docker podman; do hull install $engine; done
        sed -i '1s/{/{"selinux-enabled": true,/' /etc/docker/daemon.json; cat /etc/docker/daemon.json
        near systemctl is-active --quiet docker
        systemctl restart docker
        near sh -c "docker info -f '{{.SecurityOptions}}' | grep selinux"
        docker load -q -i /root/engines.docker.tar
        podman load -q -i /root/engines.docker.tar
    """),
    ("podman's label is that of all of the machine", r"""
        podman rm -f -i -t 0 one
        podman --runtime hull run -d --name one $image sleep 10000
        wanted=$(podman inspect -f '{{.ProcessLabel}}' one); echo "$wanted" | has ':container_t:s0:c[0-9]*,c[0-9]*$'
        is "$(label $(vmm))" "$wanted"
        is "$(label $(pgrep -n -x virtiofsd))" "$wanted"
        # What is mounted for it alone has the label of the container's files. (Debian's virtiofsd has a folder of such a mount as its root.)
        files=$(podman inspect -f '{{.MountLabel}}' one)
        awk '$5 == "/"' /proc/$(vmm)/mountinfo | has "context=\"$files\""
        is "$(podman exec one echo inside)" inside
        podman rm -f -t 0 one
    """),
    ("docker's label too", r"""
        docker run -d --name one --runtime=hull $image sleep 10000
        wanted=$(docker inspect -f '{{.ProcessLabel}}' one); echo "$wanted" | has ':container_t:s0:c[0-9]*,c[0-9]*$'
        is "$(label $(vmm))" "$wanted"
        docker rm -f one
    """),
    ("a label of one's own, none, and one that the policy does not know", r"""
        podman rm -f -i -t 0 one
        podman --runtime hull run -d --name one --security-opt label=type:container_kvm_t --security-opt label=level:s0:c5 $image sleep 10000
        is "$(label $(vmm))" system_u:system_r:container_kvm_t:s0:c5
        podman rm -f -t 0 one
        podman --runtime hull run -d --name one --security-opt label=disable $image sleep 10000
        ! label $(vmm) | has container_
        podman rm -f -t 0 one
        ! podman --runtime hull run --rm --security-opt label=type:nobodys_t $image true 2>/run/words; has 'nobodys_t.*does not know it' </run/words
    """),
    ("a policy with a type of VMMs", r"""
        cp /etc/selinux/default/contexts/lxc_contexts /run/contexts
        trap 'cp /run/contexts /etc/selinux/default/contexts/lxc_contexts' EXIT
        echo 'kvm_process = "system_u:system_r:container_kvm_t:s0"' >>/etc/selinux/default/contexts/lxc_contexts
        docker run -d --name one --runtime=hull $image sleep 10000
        level=$(docker inspect -f '{{.ProcessLabel}}' one | cut -d: -f4-)
        is "$(label $(vmm))" "system_u:system_r:container_kvm_t:$level"
        docker rm -f one
        podman rm -f -i -t 0 one
        # Podman asks for it by itself, because hull install has said that this runtime has machines.
        podman --runtime hull run -d --name one $image sleep 10000
        grep -o '"selinuxLabel":"[^"]*"' $(podman inspect -f '{{.OCIConfigPath}}' one) | has ':container_kvm_t:'
        is "$(label $(vmm))" "$(podman inspect -f '{{.ProcessLabel}}' one | sed s/container_t/container_kvm_t/)"
        podman rm -f -t 0 one
    """),
    ("with the policy enforced", r"""
        podman rm -f -i -t 0 one
        setenforce 1
        podman --runtime hull run -d --name one $image sleep 10000 || { dmesg | grep avc | tail -30; exit 1; }
        label $(vmm) | has ':container_t:'
        is "$(podman exec one echo inside)" inside
        podman rm -f -t 0 one
        setenforce 0
    """),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what the checks are, and end")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only checks in whose name it is, beside the first two")
    parser.add_argument("--selinux", action="store_true", help="a host with SELinux, and what is to be seen there")
    chosen = parser.parse_args()
    checks, begins = (SELINUX_CHECKS, 1) if chosen.selinux else (CHECKS, 2)
    if chosen.list:
        print("\n".join(name for name, _ in checks))
        return
    disk = subprocess.run([f"{HERE}/make-host.sh"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    images = os.path.dirname(disk)
    with tempfile.TemporaryDirectory(prefix="hull-host-") as folder:
        subprocess.run(["make", "-s", "-C", f"{HERE}/..", "install", f"DESTDIR={folder}/installed"], check=True)
        began = time.monotonic()
        host = Host(folder, disk, " security=selinux" if chosen.selinux else "")
        print(f"the host is up after {time.monotonic() - began:.0f} s", flush=True)
        failed = 0
        done = 0
        try:
            host.put({"/usr/local": f"{folder}/installed/usr/local", "/root/busybox.tar": f"{images}/busybox.tar",
                      "/root/engines.docker.tar": f"{images}/engines.docker.tar"})
            for number, (name, script) in enumerate(checks):
                if chosen.words and number >= begins and not any(word in name for word in chosen.words):
                    continue
                failed += not check(host, name, script)
                done += 1
        finally:
            host.close()
    print(f"{done - failed} passed, {failed} failed")
    sys.exit(failed > 0)


def check(host, name, script):
    began = time.monotonic()
    said, code = host.run(f"set -euo pipefail\n{PREAMBLE}\n{script}", 900)
    took = time.monotonic() - began
    print(f"{'passed' if code == 0 else 'FAILED'}  {took:5.0f} s  {name}", flush=True)
    if code:
        print("    " + f"it ended with {code}: {said[-3000:]}".replace("\n", "\n    "), flush=True)
    return code == 0


if __name__ == "__main__":
    main()
