#!/usr/bin/env python3
"""conformance.py [--list] [WORD…]: what every driver must do, here with QEMU, in a network, processes and mounts of its own.

scripts/test-xen.py runs the same checks in a Dom0. A driver adds the words by which it is asked for, and a few hooks in shell:

    machines   says something of each machine that runs, a line each
    destroy    ends the only machine behind Hull's back
    others     what is left that only this driver could leave; nothing where all is well
    settle     waits for what starts leave behind on purpose
"""
import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from lab_shell import Namespaces  # noqa: E402

HULL = os.path.realpath(os.environ.get("HULL_BIN", f"{HERE}/../bin/hull"))


@dataclasses.dataclass
class Driver:
    """How a machine is asked for (flags of `hull run`, of `hull pool`, annotations of a bundle), what `destroy` is taken for (exit code, words of
    `hull inspect`), the hooks, and which checks are not for it: a check's name, and why."""

    flags: str
    pool: str
    annotations: dict
    destroyed: tuple
    hooks: str
    skipped: dict = dataclasses.field(default_factory=dict)

    def given(self):
        """What a check's script finds of it."""
        code, words = self.destroyed
        return f"machine={self.flags!r} pool={self.pool!r} annotations={json.dumps(self.annotations)!r} destroyed_code={code} destroyed_words={words!r}\n{self.hooks}"


QEMU = Driver(
    # Templates have tests of their own.
    flags="--hypervisor qemu --no-template",
    pool="--hypervisor qemu",
    annotations={},
    destroyed=("125", "the VMM ended (signal 9)"),
    hooks="""
machines() { pgrep -l qemu-system || true; }
destroy() { kill -9 $(pgrep qemu-system); }
others() { :; }
settle() { while ps -e -o args= | grep -q '^hull-template-builder'; do sleep 0.3; done; }
""",
    skipped={"hot-plug of a disk": "QEMU's microvm plugs nothing in (docs/adr/008)"})

# What every check begins with.
PREAMBLE = r"""
trap 'echo "failed: $BASH_COMMAND"' ERR
is() { local wanted=$(printf '%b' "$2"); [ "$1" = "$wanted" ] || { echo "expected “$wanted”, got “$1”"; exit 1; }; }
has() { grep -e "$1" >/dev/null; }
near() { local end=$((SECONDS + 120)); while [ $SECONDS -lt $end ]; do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.3; done; "$@"; }
# Not with -T: busybox of Debian 12 (1.35.0, static) falls over its own alarm then.
get() { timeout 20 busybox wget -qO- "$1"; }
# The ids of all containers are noted: their cgroups bear them.
hull() {
    local code=0
    case $1 in
        run) shift; command hull run --cidfile "$(mktemp -u -p $ids)" "$@" || code=$? ;;
        *) command hull "$@" || code=$?; ls $HULL_EXEC_ROOT | grep -E '^[0-9a-f]{64}$' >"$(mktemp -p $ids)" || true ;;
    esac
    return $code
}
run() { hull run --memory 64m --network none $machine "$@"; }
begin() { local name=$1; shift; run -d --name $name "$@" >/dev/null; }
count() { machines | wc -l; }
left() (
    set +e
    machines
    others
    ps -e -o pid=,args= | awk '$2 ~ /hull|qemu-system|virtiofsd/'
    ls $HULL_ROOT/containers
    find $HULL_EXEC_ROOT -mindepth 1 | grep -vE "^$HULL_EXEC_ROOT/(ids|ids/lock|residents|residents/.keeper|network|network/lock|network/endpoints)$"
    grep -e "$HULL_ROOT" -e "$HULL_EXEC_ROOT" /proc/mounts
    losetup -n -O BACK-FILE | grep -e "$HULL_ROOT" -e "$HULL_EXEC_ROOT"
    ip -o link | grep -E 'hull|vif'
    nft list tables | grep hull
    find /sys/fs/cgroup -type d | grep -F -f <(cat $ids/* | sort -u | grep .)
)
is_clean() { [ -z "$(left 2>/dev/null)" ]; }
nothing_left() {
    settle
    near is_clean || { echo "left:"; left; exit 1; }
    rm -f $ids/*
}
"""

# What follows one that failed.
CLEARING = """
hull pool rm --all; hull rm -f $(hull ps -aq); hull resident rm $(hull resident ls -q); hull snapshot rm $(hull snapshot ls -q)
for name in one two web; do hull-runtime delete --force $name; done
for name in engine outside; do ip netns del $name; done
"""

# A bundle whose container runs `ARGUMENTS…`, in the network namespace NAMESPACE where that is not empty: bundle NAMESPACE ARGUMENTS…
BUNDLE = r"""
bundle=$work/bundle
bundle() {
    mkdir -p $bundle/rootfs/bin $bundle/rootfs/www; cp /bin/busybox $bundle/rootfs/bin/; echo served >$bundle/rootfs/www/index.html
    for name in sh cat sleep ls id ip; do ln -sf busybox $bundle/rootfs/bin/$name; done
    (cd $bundle; rm -f config.json; hull-runtime spec)
    python3 - $bundle/config.json "$annotations" "$@" <<'END'
import json, sys
path, annotations, namespace, *arguments = sys.argv[1:]
spec = json.load(open(path))
spec["process"].update(terminal=False, args=arguments)
spec["root"] = {"path": "rootfs"}
spec["annotations"] = json.loads(annotations)
for kind in spec["linux"]["namespaces"]:
    if namespace and kind["type"] == "network": kind["path"] = f"/run/netns/{namespace}"
json.dump(spec, open(path, "w"))
END
}
"""

# Name, and a script that must succeed. They run in this order on one host.
CHECKS = [
    ("boot, output and exit code", r"""
        is "$(run --rm $image sh -c 'echo out; echo err >&2; exit 42' 2>$work/err || echo $?)" "out\n42"
        is "$(cat $work/err)" err
        is "$(run --rm $image no-such-program 2>$work/err || echo $?)" 127
        nothing_left
    """),
    ("exec, signals, stop, start, ps", r"""
        begin one $image sh -c 'trap "echo got; exit 5" TERM; while :; do sleep 0.1; done'
        hull ps | has one
        is "$(count)" 1
        is "$(hull exec one sh -c 'echo in; exit 9' || echo $?)" "in\n9"
        is "$(echo through | hull exec -i one cat)" through
        is "$(hull exec one sh -c 'kill -TERM $$' || echo $?)" 143
        hull stop -t 60 one
        hull ps -a | has 'Exited (5)'
        is "$(hull logs one)" got
        is "$(count)" 0
        hull start one
        hull kill one
        is "$(hull wait one)" 137
        hull rm one
        nothing_left
    """),
    ("standard input, a terminal", r"""
        is "$(printf 'one two' | run -i --rm $image wc -w)" 2
        timeout 300 python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' hull run -it --rm --memory 64m --network none $machine $image \
            sh -c 'tty; stty size' </dev/null | tr -d '\r' >$work/terminal
        is "$(head -1 $work/terminal)" /dev/pts/0
        nothing_left
    """),
    ("64 MiB each way, whole", r"""
        head -c 67108864 /dev/urandom >$work/64m
        sum=$(sha256sum <$work/64m)
        begin pipe $image sleep 1000
        time is "$(hull exec -i pipe sha256sum <$work/64m)" "$sum"
        time is "$(hull exec -i pipe cat <$work/64m | sha256sum)" "$sum"
        hull rm -f pipe
        nothing_left
    """),
    ("memory and processors as asked", r"""
        hull run -d --name big --network none --memory 200m --cpus 2 $machine $image sleep 1000
        is "$(hull exec big cat /sys/fs/cgroup/memory.max)" $((200 << 20))
        is "$(hull exec big nproc)" 2
        # The machine has as much, and what its kernel needs.
        total=$(hull exec big awk '/^MemTotal/ { print $2 }' /proc/meminfo)
        [ $total -gt $((200 << 10)) ] && [ $total -lt $((296 << 10)) ]
        # It can all be had, and no more.
        is "$(hull exec big sh -c 'dd if=/dev/zero of=/dev/null bs=160M count=1 2>/dev/null; echo $?')" 0
        hull exec big dd if=/dev/zero of=/dev/null bs=400M count=1 2>/dev/null && exit 1
        hull rm -f big
        nothing_left
    """),
    ("disks", r"""
        begin disks $image sh -c 'exec sleep 1000'
        is "$(hull exec disks sh -c 'head -c 20000000 /dev/urandom >/big; sync; echo kept >/mark; rm /etc/group; sha256sum </big >/sum; cat /mark')" kept
        sum=$(hull exec disks cat /sum)
        hull stop -t 1 disks
        hull start disks
        is "$(hull exec disks sh -c 'sha256sum </big; cat /mark; test -e /etc/group || echo gone')" "$sum\nkept\ngone"
        hull rm -f disks
        # The image is as it was.
        is "$(run --rm $image sh -c 'test -e /mark || echo clean; test -e /etc/group && echo there')" "clean\nthere"
        is "$(run --rm --read-only $image sh -c '(echo x >/mark) 2>/dev/null || echo refused')" refused
        nothing_left
    """),
    ("bind mounts, volumes, a folder as root", r"""
        mkdir -p $work/shown/deep $work/closed
        echo of shown >$work/shown/file; chown 1000:1001 $work/shown/file; echo of closed >$work/closed/file; echo one >$work/single
        head -c 5000000 /dev/urandom >$work/shown/big
        is "$(run --rm --read-only -v $work/shown:/a -v $work/closed:/b:ro -v $work/single:/c -v named:/d $image sh -c '
            cat /a/file /b/file /c; stat -c "%u %g" /a/file; sha256sum </a/big
            (echo x >/b/file) 2>/dev/null || echo refused; (rm /c) 2>/dev/null || echo refused; (echo x >/etc/y) 2>/dev/null || echo refused
            echo made >/a/deep/new; chown 5:6 /a/deep/new; echo two >>/c; cp /a/big /d/copy; echo here >/d/file
            for i in $(seq 50); do echo $i >/a/deep/$i; done; ls /a/deep | wc -l; ln -s new /a/deep/link; mv /a/deep/new /a/deep/renamed')" \
            "of shown\nof closed\none\n1000 1001\n$(sha256sum <$work/shown/big)\nrefused\nrefused\nrefused\n51"
        is "$(cat $work/single)" "one\ntwo"
        is "$(cat $work/shown/deep/renamed; stat -c '%u %g' $work/shown/deep/renamed; readlink $work/shown/deep/link)" "made\n5 6\nnew"
        is "$(cat $work/closed/file)" "of closed"
        # The volume outlives its container; both ways while one runs.
        begin files -v named:/d -v $work/shown:/a --tmpfs /t $image sh -c 'until [ -e /a/go ]; do sleep 0.1; done; cat /a/go /d/file; exec sleep 1000'
        # Whole, when it is seen.
        echo go >$work/shown/going; mv $work/shown/going $work/shown/go
        near sh -c 'hull logs files | grep here'
        is "$(hull logs files)" "go\nhere"
        is "$(hull exec files sha256sum /d/copy)" "$(sha256sum <$work/shown/big | cut -d ' ' -f 1)  /d/copy"
        # Without its server a machine cannot go on.
        kill -9 $(pgrep -f 'shared-di[r] /share')
        is "$(hull wait files)" 125
        hull inspect files | has virtiofsd
        hull rm files
        hull volume rm named
        mkdir -p $work/tree/bin $work/tree/proc; cp /bin/busybox $work/tree/bin/; for name in sh cat; do ln -s busybox $work/tree/bin/$name; done
        is "$(run --rm rootfs:$work/tree sh -c 'echo kept >/mark; cat /mark; exit 4' || echo $?)" "kept\n4"
        is "$(cat $work/tree/mark)" kept
        nothing_left
    """),
    ("a network, and a published port", r"""
        # Somebody who knows no way to a container.
        ip netns add outside; ip link add out0 type veth peer name eth0 netns outside
        ip addr add 10.97.0.1/24 dev out0; ip link set out0 up; ip -n outside addr add 10.97.0.2/24 dev eth0; ip -n outside link set eth0 up
        mkdir -p $work/www; echo outside >$work/www/index.html
        ip netns exec outside busybox httpd -f -p 80 -h $work/www & server=$!
        hull run -d --name web --memory 64m $machine -p 8080:80 $image sh -c 'mkdir -p /www; echo served >/www/index.html; exec busybox httpd -f -p 80 -h /www'
        near get http://127.0.0.1:8080/
        is "$(get http://127.0.0.1:8080/)" served
        is "$(ip netns exec outside timeout 20 busybox wget -qO- http://10.97.0.1:8080/)" served
        near ping -c 1 -W 2 $(hull exec web ip -4 -o addr show scope global | awk '{ sub("/.*", "", $4); print $4 }')
        hull exec web ping -c 1 $(ip -4 -o addr show hull0 | awk '{ sub("/.*", "", $4); print $4 }')
        near get http://10.97.0.2/
        is "$(timeout 60 hull exec web wget -qO- http://10.97.0.2/)" outside
        hull rm -f web
        kill $server; ip netns del outside
        nothing_left
    """),
    ("an engine's bundle", BUNDLE + r"""
        bundle '' sh -c 'id -u; cat; echo made >/made; ls /sys/class/net; exit 7'
        is "$(echo given | hull-runtime run --bundle $bundle one || echo $?)" "0\ngiven\nlo\n7"
        is "$(cat $bundle/rootfs/made)" made
        bundle '' sleep 1000
        hull-runtime create --bundle $bundle --pid-file $work/pid two </dev/null >$work/two.log 2>&1
        hull-runtime start two
        hull-runtime state two | has '"running"'
        is "$(hull-runtime exec two cat /made)" made
        hull-runtime kill two KILL
        near sh -c 'hull-runtime state two | grep stopped'
        hull-runtime delete two
        nothing_left
    """),
    ("hot-plug of a NIC: an engine's network, and another one while it runs", BUNDLE + r"""
        bundle engine busybox httpd -f -p 80 -h /www
        # As an engine leaves it.
        ip netns add engine; ip link add outer0 type veth peer name eth0 netns engine
        ip addr add 10.99.0.1/24 dev outer0; ip link set outer0 up
        ip -n engine addr add 10.99.0.2/24 dev eth0; ip -n engine link set eth0 up; ip -n engine route add default via 10.99.0.1
        hull-runtime create --bundle $bundle web </dev/null >$work/web.log 2>&1 || { cat $work/web.log; exit 1; }
        hull-runtime start web
        near get http://10.99.0.2/
        is "$(get http://10.99.0.2/)" served
        # Out of it: to the host, and past it.
        mkdir -p $work/www; echo outside >$work/www/index.html
        busybox httpd -f -p 10.99.0.1:8099 -h $work/www & server=$!
        near get http://10.99.0.1:8099/
        is "$(timeout 60 hull-runtime exec web busybox wget -qO- http://10.99.0.1:8099/)" outside
        echo 1 >/proc/sys/net/ipv4/ip_forward
        ip netns add outside; ip link add out0 type veth peer name eth0 netns outside
        ip addr add 10.97.0.1/24 dev out0; ip link set out0 up; ip -n outside addr add 10.97.0.2/24 dev eth0; ip -n outside link set eth0 up
        ip -n outside route add default via 10.97.0.1
        ip netns exec outside busybox httpd -f -p 80 -h $work/www & farther=$!
        near get http://10.97.0.2/
        is "$(timeout 60 hull-runtime exec web busybox wget -qO- http://10.97.0.2/)" outside
        # Another one comes, as with docker network connect.
        ip link add outer1 type veth peer name eth1 netns engine; ip addr add 10.98.0.1/24 dev outer1; ip link set outer1 up
        ip -n engine addr add 10.98.0.2/24 dev eth1; ip -n engine link set eth1 up
        near get http://10.98.0.2/
        is "$(get http://10.98.0.2/)" served
        kill $server $farther; ip netns del outside
        hull-runtime kill web KILL
        near sh -c 'hull-runtime state web | grep stopped'
        hull-runtime delete web
        ip netns del engine
        nothing_left
    """),
    ("hot-plug of a disk: the next container's are plugged into a machine that stays", r"""
        stays() { hull run --rm --memory 64m --resident acme --resident-idle 3600 $machine "$@"; }
        stays $image sh -c 'echo kept >/mark'
        was=$(machines)
        is "$(count)" 1
        is "$(stays --hostname second $image sh -c 'test -e /mark || echo clean; head -c 5000000 /dev/zero >/big; sync; hostname')" "clean\nsecond"
        is "$(machines | awk '{ print $1 }')" "$(echo "$was" | awk '{ print $1 }')"
        hull resident rm acme
        nothing_left
    """),
    ("pause and unpause", r"""
        begin still $image sh -c 'while :; do echo tick; sleep 0.2; done'
        near sh -c 'hull logs still | grep tick'
        hull pause still
        hull ps | has Paused
        # What was on its way has come at some time, and then there is no more.
        silent() { local before=$(hull logs still | wc -l); sleep 1; [ $(hull logs still | wc -l) = $before ]; }
        near silent
        before=$(hull logs still | wc -l)
        hull unpause still
        more() { [ $(hull logs still | wc -l) -gt $before ]; }
        near more
        hull exec still true
        hull rm -f still
        nothing_left
    """),
    ("snapshot, restore, fork", r"""
        hull run -d --name first --memory 64m $machine -p 8082:80 $image sh -c \
            'mkdir -p /www; echo kept >/www/index.html; busybox httpd -p 80 -h /www; n=0; while :; do n=$((n+1)); echo $n >/new; mv /new /count; sleep 0.1; done'
        near get http://127.0.0.1:8082/
        near hull exec first cat /count
        time hull snapshot create first one
        # It goes on, over the stream that it had.
        before=$(hull exec first cat /count)
        goes() { [ "$(hull exec $1 cat /count)" -gt "$before" ]; }
        near goes first
        hull snapshot create --stop first two
        is "$(hull wait first)" 137
        is "$(count)" 0
        time hull restore --name again two
        near goes again
        is "$(get http://127.0.0.1:8082/)" kept
        # Its port is taken.
        (! hull restore --name beside one) 2>&1 | has 'already allocated'
        is "$(count)" 1
        time hull fork --name copy again
        is "$(hull exec copy cat /www/index.html)" kept
        hull exec copy ping -c 1 $(ip -4 -o addr show hull0 | awk '{ sub("/.*", "", $4); print $4 }')
        is "$(count)" 2
        # What was restored can be saved itself.
        hull snapshot create copy three
        hull exec copy true
        hull rm -f first again copy
        hull snapshot rm one two three
        is "$(hull snapshot ls -q)" ""
        nothing_left
    """),
    ("snapshot, restore, fork, with files of the host's", r"""
        mkdir -p $work/shown; echo shown >$work/shown/file; seq 100000 >$work/shown/numbers
        # One file is half written, one half read, and somebody writes all the time.
        hull run -d --name first --memory 64m --network none $machine -v $work/shown:/a $image sh -c \
            'exec 3>>/a/log 4</a/numbers; read x <&4; mkfifo /go; (while :; do dd if=/dev/zero of=/a/busy bs=300k count=8 2>/dev/null; done) &
            echo begun >&3; read y </go; echo "$x $(tail -n 1 <&4) $y" >&3; cat /a/file >&3; exec sleep 1000'
        near grep begun $work/shown/log
        time hull snapshot create first one
        is "$(hull exec first cat /a/file)" shown
        time hull fork --name copy first
        hull rm -f first
        hull exec copy sh -c 'echo copy >/go'
        near grep shown $work/shown/log
        # What was restored can be saved itself.
        hull snapshot create copy two
        is "$(hull exec copy cat /a/file)" shown
        hull rm -f copy
        echo changed >$work/shown/file
        time hull restore --name again one
        hull exec again sh -c 'echo again >/go; echo new >/a/new'
        near grep changed $work/shown/log
        is "$(cat $work/shown/log $work/shown/new)" "begun\n1 100000 copy\nshown\n1 100000 again\nchanged\nnew"
        hull rm -f again
        hull snapshot rm one two
        nothing_left
    """),
    ("a pool", r"""
        machine=$pool
        hull pool set -n 1 --memory 64m --network none $machine $image
        # Beside it a template may be made.
        one() { [ "$(count)" = 1 ]; }
        near one
        time is "$(run --rm --name quick $image sh -c 'echo quick; exit 6' || echo $?)" "quick\n6"
        # Another one waits now.
        near sh -c '[ "$(hull pool ls --format "{{.Ready}}")" = 1 ]'
        hull pool rm --all
        nothing_left
    """),
    ("the guest's kernel crashes", r"""
        begin bad --privileged $image sleep 1000
        hull exec bad sh -c 'echo c >/proc/sysrq-trigger' || true
        is "$(hull wait bad)" 125
        hull inspect bad | has 'panicked'
        hull rm bad
        nothing_left
    """),
    ("the machine is destroyed behind Hull's back", r"""
        begin gone $image sleep 1000
        destroy
        is "$(hull wait gone)" "$destroyed_code"
        hull inspect gone | has "$destroyed_words"
        hull rm gone
        nothing_left
    """),
    ("SIGKILL of the monitor", r"""
        hull run -d --name lost --memory 64m $machine -p 8081:80 -v $work:/a $image sleep 1000
        pkill -9 -f '^hull-monitor'
        while pgrep -f '^hull-monitor' >/dev/null; do sleep 0.02; done
        hull ps -a | has 'Exited (137)'
        hull rm lost
        nothing_left
    """),
]


def scripts(driver, prefix=""):
    """The checks for a driver: name, script, and why it is not for this driver."""
    return [(prefix + name, driver.given() + text, driver.skipped.get(name.split(":")[0])) for name, text in CHECKS]


def chosen(checks):
    """Those that the command line chooses."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what the checks are, and end")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only checks in whose name it is")
    given = parser.parse_args()
    if given.list:
        print("\n".join(name for name, *_ in checks))
        sys.exit()
    return [check for check in checks if not given.words or any(word in check[0] for word in given.words)]


def run(shell, environment, checks):
    """Runs the checks, says how each went, and ends with what all of them make."""
    failed = passed = skipped = 0
    for name, text, reason in checks:
        if reason:
            print(f"skipped          {name}: {reason}", flush=True)
            skipped += 1
            continue
        began = time.monotonic()
        said, code = shell.run(f"set -euo pipefail\n{environment}\nrm -rf $work; mkdir -p $work $ids; rm -f $ids/*\n{PREAMBLE}\n{text}", 900)
        took = time.monotonic() - began
        if code:
            # The later ones begin as they should, where that can be had.
            shell.run(f"{environment}\n{CLEARING}", 300)
        passed, failed = passed + (code == 0), failed + (code != 0)
        print(f"{'passed' if code == 0 else 'FAILED'}  {took:5.0f} s  {name}", flush=True)
        if code or name.startswith("times") or os.environ.get("HULL_LAB_VERBOSE"):
            print("    " + f"it ended with {code}: {said[-3000:]}".replace("\n", "\n    "), flush=True)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(failed > 0)


def main():
    checks = chosen(scripts(QEMU))
    image = subprocess.run([f"{HERE}/make-image.sh", "busybox"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    # Short: sockets have paths of at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="hull-c-") as folder:
        environment = (f"export HULL_ROOT={folder}/data HULL_EXEC_ROOT={folder}/exec PATH={os.path.dirname(HULL)}:$PATH "
                       f"image=oci-archive:{image} work={folder}/work ids={folder}/ids")
        shell = Namespaces(folder)
        try:
            said, code = shell.run(f"{environment}; hull pull -q $image")
            if code:
                raise SystemExit(f"the image could not be had: {said}")
            run(shell, environment, checks)
        finally:
            shell.close()


if __name__ == "__main__":
    main()
