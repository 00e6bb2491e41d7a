#!/usr/bin/env python3
"""test-xen.py [--list] [WORD…]: Hull in a Dom0 of Xen, where every container is a domain.

The host is a machine of QEMU's software emulation (scripts/xen_lab.py), whose files are this machine's with Xen's tools laid over them; what
is written there goes to its memory. Some minutes.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../bench")
sys.path.insert(0, HERE)
from machine import modules, newest  # noqa: E402
from xen_lab import Dom0  # noqa: E402

HULL = os.path.realpath(os.environ.get("HULL_BIN", f"{HERE}/../bin/hull"))
# What a guest loads at all: the whole tree would be read and packed by an emulated processor.
GUEST_MODULES = ("xen_evtchn", "xen_gntalloc", "xen_blkfront", "xen_netfront", "erofs", "overlay", "ext4", "fuse", "virtiofs", "crc32c_generic")

# What every check begins with.
PREAMBLE = """
trap 'echo "failed: $BASH_COMMAND"' ERR
is() { local wanted=$(printf '%b' "$2"); [ "$1" = "$wanted" ] || { echo "expected “$wanted”, got “$1”"; exit 1; }; }
has() { grep -e "$1" >/dev/null; }
near() { for try in $(seq 100); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.3; done; "$@"; }
run() { hull run --memory 64m --network none "$@"; }
domains() { xl list | awk 'NR > 2' | wc -l; }
domain() { xl list | awk '$1 ~ /^hull-/ { print $2 }'; }
nothing_left() {
    near test "$(domains)" = 0
    is "$(xenstore-list /local/domain)" 0
    is "$(losetup -a)" ""
    ! ip -o link | has 'hull0\\|vif'
    ! nft list tables | has hull
    is "$(ls $HULL_EXEC_ROOT | grep -E '^[0-9a-f]{64}$' || true)" ""
}
"""

# What follows one that failed.
CLEARING = """
hull pool rm --all; hull rm -f $(hull ps -aq); hull resident rm $(hull resident ls -q); hull snapshot rm $(hull snapshot ls -q)
for id in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy $id; done
"""

# Name, and a script that must succeed. They run in this order in one Dom0; what a check leaves the later ones find.
CHECKS = [
    ("doctor sees a Dom0", r"""
        hull doctor | tee /run/doctor | has '^\[ok\] *xen: machines can run'
        has 'Xen 4.*, by /usr/lib/xen' </run/doctor
        has 'domains can be PV, PVH, HVM; machines are PVH' </run/doctor
        has '[0-9]* of [0-9]* MiB of memory are free' </run/doctor
        has 'bridge of Hull.s own' </run/doctor
    """),
    ("a PV container: output and exit code", r"""
        is "$(run --rm --machine pv $image sh -c 'echo out; echo err >&2; cat /sys/hypervisor/type /sys/hypervisor/guest_type; exit 42' 2>/run/err || echo $?)" "out\nxen\nPV\n42"
        is "$(cat /run/err)" err
        nothing_left
    """),
    ("a PVH container is what auto means here", r"""
        is "$(run --rm $image sh -c 'cat /sys/hypervisor/guest_type; exit 7' || echo $?)" "PVH\n7"
        nothing_left
    """),
    ("memory and processors as asked", r"""
        hull run -d --name big --network none --memory 200m --cpus 2 --machine pv $image sleep 1000
        is "$(hull exec big cat /sys/fs/cgroup/memory.max)" $((200 << 20))
        is "$(hull exec big nproc)" 2
        is "$(xl list | awk '/^hull-/ { print $3, $4 }')" "296 2"
        hull rm -f big
        nothing_left
    """),
    ("exec, signals, stop, ps", r"""
        hull run -d --name one --memory 64m --network none --machine pv $image sh -c 'trap "echo got; exit 5" TERM; while :; do sleep 0.1; done'
        hull ps | has one
        is "$(hull exec one sh -c 'echo in; exit 9' || echo $?)" "in\n9"
        is "$(echo through | hull exec -i one cat)" through
        is "$(hull exec one readlink /proc/1/ns/pid | cut -c1-4)" "pid:"
        hull stop -t 30 one
        hull ps -a | has 'Exited (5)'
        is "$(hull logs one)" got
        hull start one
        hull kill one
        is "$(hull wait one)" 137
        hull rm one
        nothing_left
    """),
    ("standard input, a terminal", r"""
        is "$(printf 'one two' | run -i --rm --machine pv $image wc -w)" 2
        timeout 300 python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' hull run -it --rm --memory 64m --network none --machine pv $image \
            sh -c 'tty; stty size' </dev/null | tr -d '\r' >/run/terminal
        is "$(head -1 /run/terminal)" /dev/pts/0
        nothing_left
    """),
    ("64 MiB each way, whole", r"""
        head -c 67108864 /dev/urandom >/run/64m
        sum=$(sha256sum </run/64m)
        hull run -d --name pipe --memory 64m --network none --machine pv $image sleep 1000
        time is "$(hull exec -i pipe sha256sum </run/64m)" "$sum"
        time is "$(hull exec -i pipe cat </run/64m | sha256sum)" "$sum"
        rm /run/64m
        hull rm -f pipe
    """),
    ("a network, and a published port", r"""
        # What nft would load on demand, within the time that Hull gives it.
        modprobe -a tun bridge br_netfilter nf_tables nft_chain_nat nft_ct nft_nat nft_masq nft_fib_inet nf_conntrack_bridge nft_meta_bridge || true
        nft list ruleset
        hull run -d --name web --memory 64m --machine pv -p 8080:80 $image sh -c 'mkdir -p /www; echo served >/www/index.html; exec busybox httpd -f -p 80 -h /www'
        near sh -c 'wget -qO- http://127.0.0.1:8080/ | grep served'
        address=$(hull inspect web | grep -o '10\.[0-9.]*\|172\.30\.[0-9.]*' | head -1)
        near ping -c 1 -W 2 $address
        hull exec web ping -c 1 $(ip -4 -o addr show hull0 | awk '{ sub("/.*", "", $4); print $4 }')
        hull rm -f web
        nothing_left
    """),
    ("pause and unpause", r"""
        hull run -d --name still --memory 64m --network none --machine pv $image sh -c 'while :; do echo tick; sleep 0.2; done'
        hull pause still
        xl list | awk '/^hull-/ { print $5 }' | has '^..p'
        hull unpause still
        hull exec still true
        hull rm -f still
        nothing_left
    """),
    ("snapshot and restore", r"""
        hull run -d --name first --memory 64m --machine pv -p 8082:80 $image sh -c \
            'mkdir -p /www; echo kept >/www/index.html; busybox httpd -p 80 -h /www; n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.1; done'
        near sh -c 'wget -qO- http://127.0.0.1:8082/ | grep kept'
        time hull snapshot create first one
        # It goes on, over the stream that it had.
        before=$(hull exec first cat /count)
        sleep 1
        [ "$(hull exec first cat /count)" -gt "$before" ]
        hull snapshot inspect one | has '"Hypervisor" : "xen 4'
        hull snapshot create --stop first two
        is "$(hull wait first)" 137
        nothing_left
        time hull restore --name again two
        [ "$(hull exec again cat /count)" -ge "$before" ]
        near sh -c 'wget -qO- http://127.0.0.1:8082/ | grep kept'
        # Its port is taken.
        (! hull restore --name beside one) 2>&1 | has 'already allocated'
        is "$(domains)" 1
        time hull fork --name copy again
        is "$(hull exec copy cat /www/index.html)" kept
        hull exec copy ping -c 1 $(ip -4 -o addr show hull0 | awk '{ sub("/.*", "", $4); print $4 }')
        is "$(domains)" 2
        hull snapshot rm one two
        # What was restored can be saved itself.
        hull snapshot create copy three
        hull exec copy true
        hull rm -f first copy again
        hull snapshot export -o /run/three three
        hull snapshot rm three
        (! hull snapshot import /run/three four) 2>&1 | has 'as root'
        hull snapshot import --trust /run/three four
        rm /run/three
        hull restore --name fifth four
        is "$(hull exec fifth cat /www/index.html)" kept
        hull rm -f fifth
        hull snapshot rm four
        nothing_left
    """),
    ("snapshot and restore of a PVH domain", r"""
        hull run -d --name first --memory 64m --network none $image sh -c 'echo kept >/tmp/mark; sleep 1000'
        near hull exec first cat /tmp/mark
        hull snapshot create first one
        hull exec first true
        hull restore --name again one
        is "$(hull exec again cat /tmp/mark /sys/hypervisor/guest_type)" "kept\nPVH"
        hull rm -f first again
        hull snapshot rm one
        nothing_left
    """),
    ("a resident domain: the next container is plugged in", r"""
        resident() { run --rm --machine pv --resident acme --resident-idle 3600 "$@"; }
        time is "$(resident $image sh -c 'echo one; echo kept >/mark; exit 3' || echo $?)" "one\n3"
        is "$(domains)" 1
        was=$(domain)
        xl list | awk '/^hull-/ { print $5 }' | has '^..p'
        # The modules' disk stays.
        near sh -c 'test $(losetup -a | wc -l) = 1'
        is "$(hull ps -aq)" ""
        hull resident ls | has 'acme *waits'
        time is "$(resident --hostname second $image sh -c 'test -e /mark || echo clean; hostname')" "clean\nsecond"
        is "$(domain)" "$was"
        hull run -d --name three --memory 64m --network none --machine pv --resident acme --resident-idle 3600 $image sh -c 'echo mine >>/mark; exec sleep 1000'
        is "$(domain)" "$was"
        hull ps | has three
        hull resident ls | has 'acme *has'
        (! resident $image true) 2>&1 | has 'has the container'
        (! hull resident rm acme) 2>&1 | has 'or stop it'
        (! hull snapshot create three) 2>&1 | has resident
        hull stop -t 1 three
        hull start three
        is "$(hull exec three cat /mark)" "mine\nmine"
        is "$(domain)" "$was"
        hull rm -f three
        # Another shape is another domain.
        resident --memory 80m $image true
        is "$(domains)" 1
        [ "$(domain)" != "$was" ]
        hull resident rm acme
        nothing_left
    """),
    ("a resident domain: its network, and its end", r"""
        online() { hull run --memory 64m --machine pv --resident net --resident-idle 3600 "$@"; }
        online -d --name web -p 8083:80 $image sh -c 'mkdir -p /www; echo first >/www/index.html; exec busybox httpd -f -p 80 -h /www'
        near sh -c 'wget -qO- http://127.0.0.1:8083/ | grep first'
        was=$(domain)
        hull rm -f web
        is "$(domain)" "$was"
        ! ip -o link | has vif
        online -d --name web -p 8084:80 $image sh -c 'mkdir -p /www; echo second >/www/index.html; exec busybox httpd -f -p 80 -h /www'
        near sh -c 'wget -qO- http://127.0.0.1:8084/ | grep second'
        is "$(domain)" "$was"
        # A killed monitor's domain goes with the next verb.
        pkill -9 -f '^hull-monitor'
        hull ps -a | has 'Exited (137)'
        hull rm web
        nothing_left
        # One that was destroyed while it waited is another one then.
        run --rm --machine pv --resident acme --resident-idle 3600 $image true
        xl destroy $(domain)
        is "$(run --rm --machine pv --resident acme --resident-idle 4 $image echo again)" again
        # Nobody comes: it goes by itself.
        near sh -c 'test $(xl list | wc -l) = 2'
        nothing_left
        (! run --rm --hypervisor qemu --resident acme $image true) 2>&1 | has 'use hull pool'
    """),
    ("a pool of domains", r"""
        hull pool set -n 1 --memory 64m --network none --machine pv $image
        was=$(domain)
        xl list | has hull-
        time is "$(run --rm --machine pv --name quick $image sh -c 'echo quick; exit 6' || echo $?)" "quick\n6"
        # It is another one that waits now.
        near sh -c '[ "$(hull pool ls --format "{{.Ready}}")" = 1 ]'
        [ "$(domain)" != "$was" ]
        hull pool rm --all
        nothing_left
    """),
    ("a domain that crashes, one that is destroyed behind Hull's back", r"""
        hull run -d --name bad --memory 64m --network none --machine pv --privileged $image sleep 1000
        hull exec bad sh -c 'echo c >/proc/sysrq-trigger' || true
        is "$(hull wait bad)" 125
        hull inspect bad | has 'panicked'
        hull rm bad
        hull run -d --name gone --memory 64m --network none --machine pv $image sleep 1000
        xl destroy $(domain)
        is "$(hull wait gone)" 137
        hull inspect gone | has 'destroyed'
        hull rm gone
        nothing_left
    """),
    ("SIGKILL of the monitor", r"""
        hull run -d --name lost --memory 64m --machine pv -p 8081:80 $image sleep 1000
        pkill -9 -f '^hull-monitor'
        hull ps -a | has 'Exited (137)'
        hull rm lost
        nothing_left
    """),
    ("SIGKILL of the monitor of a resident domain, at its steps", r"""
        for point in resident:noted resident:parked resident:unparked container:exited; do
            echo "$point"
            HULL_FAULT=$point run --rm --machine pv --resident acme --resident-idle 3600 $image true || true
            # One that waits is as it should be; all else goes with the next verb.
            if [ $point = resident:parked ]; then
                is "$(hull ps -aq)" ""
                hull resident ls | has 'acme *waits'
                is "$(domains)" 1
            else
                hull ps -a
                nothing_left
            fi
        done
    """),
    ("bind mounts and volumes, PV and PVH", r"""
        mkdir -p /run/shown/deep /run/closed
        echo of shown >/run/shown/file; chown 1000:1001 /run/shown/file; echo of closed >/run/closed/file; echo one >/run/single
        head -c 5000000 /dev/urandom >/run/shown/big
        is "$(run --rm --machine pv --read-only -v /run/shown:/a -v /run/closed:/b:ro -v /run/single:/c -v named:/d $image sh -c '
            cat /a/file /b/file /c; stat -c "%u %g" /a/file; sha256sum </a/big
            (echo x >/b/file) 2>/dev/null || echo refused; (rm /c) 2>/dev/null || echo refused; (echo x >/etc/y) 2>/dev/null || echo refused
            echo made >/a/deep/new; chown 5:6 /a/deep/new; echo two >>/c; cp /a/big /d/copy; echo here >/d/file
            for i in $(seq 50); do echo $i >/a/deep/$i; done; ls /a/deep | wc -l; ln -s new /a/deep/link; mv /a/deep/new /a/deep/renamed')" \
            "of shown\nof closed\none\n1000 1001\n$(sha256sum </run/shown/big)\nrefused\nrefused\nrefused\n51"
        is "$(cat /run/single)" "one\ntwo"
        is "$(cat /run/shown/deep/renamed; stat -c '%u %g' /run/shown/deep/renamed; readlink /run/shown/deep/link)" "made\n5 6\nnew"
        is "$(cat /run/closed/file)" "of closed"
        # The volume outlives its container; both ways while one runs; PVH is no different.
        hull run -d --name files --memory 64m --network none -v named:/d -v /run/shown:/a --tmpfs /t $image sh -c 'until [ -e /a/go ]; do sleep 0.1; done; cat /a/go /d/file; exec sleep 1000'
        # Whole, when it is seen.
        echo go >/run/shown/going; mv /run/shown/going /run/shown/go
        near sh -c 'hull logs files | grep here'
        is "$(hull logs files)" "go\nhere"
        is "$(hull exec files sh -c 'sha256sum </d/copy; cat /sys/hypervisor/guest_type')" "$(sha256sum </run/shown/big)\nPVH"
        server=$(pgrep -f 'shared-di[r] /share')
        (! hull snapshot create files no) 2>&1 | has 'bind mounts or volumes'
        hull exec files cat /d/file
        # Without its server a machine cannot go on.
        kill -9 $server
        is "$(hull wait files)" 125
        hull inspect files | has virtiofsd
        hull rm files
        ! pgrep -f 'shared-di[r] /share'
        (! run --rm --machine pv --resident acme -v /run/shown:/a $image true) 2>&1 | has 'leave bind mounts'
        hull volume rm named
        rm -r /run/shown /run/closed /run/single
        nothing_left
    """),
    ("bind mounts of a filesystem that maps owners: the server has ids of its own", r"""
        truncate -s 64M /run/fs.img; mkfs.ext4 -q /run/fs.img; mkdir -p /run/fs; mount -o loop /run/fs.img /run/fs
        echo mine >/run/fs/file; chmod 600 /run/fs/file; chown 7:8 /run/fs/file
        hull run -d --name files --memory 64m --network none --machine pv -v /run/fs:/a $image sh -c 'cat /a/file; echo new >/a/new; exec sleep 1000'
        near sh -c 'hull logs files | grep mine'
        near test -e /run/fs/new
        is "$(stat -c '%u %g' /run/fs/new)" "0 0"
        [ "$(stat -c %u /proc/$(pgrep -f 'shared-di[r] /share' | head -1))" -ge 268435456 ]
        hull rm -f files
        umount /run/fs; rm /run/fs.img
        near sh -c 'test -z "$(losetup -a)"'
        nothing_left
    """),
    ("a folder as root", r"""
        mkdir -p /run/tree/bin /run/tree/proc /run/tree/etc; cp /bin/busybox /run/tree/bin/; for name in sh cat sleep; do ln -s busybox /run/tree/bin/$name; done
        is "$(hull run --rm --memory 64m --network none --machine pv rootfs:/run/tree sh -c 'echo kept >/mark; cat /mark; exit 4' || echo $?)" "kept\n4"
        is "$(cat /run/tree/mark)" kept
        rm -r /run/tree
        nothing_left
    """),
    ("an engine's bundle, in PVH", r"""
        bundle=/run/bundle; mkdir -p $bundle/rootfs/bin; cp /bin/busybox $bundle/rootfs/bin/
        for name in sh cat sleep ls id; do ln -s busybox $bundle/rootfs/bin/$name; done
        (cd $bundle; hull-runtime spec)
        python3 - $bundle/config.json <<'END'
import json, sys
spec = json.load(open(sys.argv[1]))
spec["process"].update(terminal=False, args=["sh", "-c", "cat /sys/hypervisor/type; id -u; cat; echo made >/made; ls /sys/class/net; exit 7"])
spec["root"] = {"path": "rootfs"}
json.dump(spec, open(sys.argv[1], "w"))
END
        is "$(echo given | hull-runtime run --bundle $bundle one || echo $?)" "xen\n0\ngiven\nlo\n7"
        is "$(cat $bundle/rootfs/made)" made
        sed -i 's/cat \/sys.*exit 7/exec sleep 1000/' $bundle/config.json
        hull-runtime create --bundle $bundle --pid-file /run/pid two </dev/null >/run/two.log 2>&1
        hull-runtime start two
        hull-runtime state two | has '"running"'
        is "$(hull-runtime exec two cat /made)" made
        hull-runtime kill two KILL
        near sh -c 'hull-runtime state two | grep stopped'
        hull-runtime delete two
        nothing_left
    """),
    ("an engine's network, led to a PVH domain", r"""
        bundle=/run/bundle; mkdir -p $bundle/rootfs/bin $bundle/rootfs/www; cp /bin/busybox $bundle/rootfs/bin/; ln -sf busybox $bundle/rootfs/bin/sh
        echo served >$bundle/rootfs/www/index.html
        modprobe -a veth sch_ingress cls_u32 act_mirred || true
        # As an engine leaves it.
        ip netns add engine; ip link add outer0 type veth peer name eth0 netns engine
        ip addr add 10.99.0.1/24 dev outer0; ip link set outer0 up
        ip -n engine addr add 10.99.0.2/24 dev eth0; ip -n engine link set eth0 up; ip -n engine route add default via 10.99.0.1
        [ -e $bundle/config.json ] || (cd $bundle; hull-runtime spec)
        python3 - $bundle/config.json <<'END'
import json, sys
spec = json.load(open(sys.argv[1]))
spec["process"].update(terminal=False, args=["busybox", "httpd", "-f", "-p", "80", "-h", "/www"])
spec["root"] = {"path": "rootfs"}
for namespace in spec["linux"]["namespaces"]:
    if namespace["type"] == "network": namespace["path"] = "/run/netns/engine"
json.dump(spec, open(sys.argv[1], "w"))
END
        hull-runtime create --bundle $bundle web </dev/null >/run/web.log 2>&1
        hull-runtime start web
        ip -n engine -o link | has 'hull0'
        near sh -c 'wget -T 5 -qO- http://10.99.0.2/ | grep served'
        # Another one comes while it runs, as with docker network connect.
        ip link add outer1 type veth peer name eth1 netns engine; ip addr add 10.98.0.1/24 dev outer1; ip link set outer1 up
        ip -n engine addr add 10.98.0.2/24 dev eth1; ip -n engine link set eth1 up
        near sh -c 'wget -T 5 -qO- http://10.98.0.2/ | grep served'
        hull-runtime kill web KILL
        near sh -c 'hull-runtime state web | grep stopped'
        hull-runtime delete web
        ip netns del engine
        rm -r $bundle
        nothing_left
    """),
    ("Podman's containers are PVH domains", r"""
        [ -x /usr/bin/podman ] || { echo 'there is no Podman here'; exit 0; }
        tree=/run/tree; mkdir -p $tree/bin $tree/www $tree/etc; cp /bin/busybox $tree/bin/; for name in sh cat sleep; do ln -sf busybox $tree/bin/$name; done
        echo served >$tree/www/index.html
        modprobe -a veth bridge sch_ingress cls_u32 act_mirred br_netfilter nft_compat xt_comment xt_conntrack xt_mark xt_addrtype xt_MASQUERADE xt_nat xt_multiport || true
        printf '%s\n' '[containers]' 'log_driver = "k8s-file"' 'dns_servers = []' '[engine]' 'cgroup_manager = "cgroupfs"' 'events_logger = "file"' \
            '[network]' 'network_backend = "netavark"' >/run/containers.conf
        export CONTAINERS_CONF=/run/containers.conf XDG_RUNTIME_DIR=/run
        pod() { timeout -s KILL 300 podman --root /run/pods --runroot /run/pods-run --storage-driver vfs --network-config-dir /run/pods-net \
            --runtime $(command -v hull-runtime) "$@"; }
        echo mine >/run/mine
        is "$(pod run --rm --network none -v /run/mine:/mine:ro --rootfs $tree sh -c 'cat /sys/hypervisor/type /mine; exit 9' || echo $?)" "xen\nmine\n9"
        pod run -d --name web --rootfs $tree busybox httpd -f -p 80 -h /www
        address=$(pod inspect --format '{{.NetworkSettings.IPAddress}}' web)
        near sh -c "wget -T 5 -qO- http://$address/ | grep served"
        is "$(pod exec web cat /sys/hypervisor/type)" xen
        is "$(pod ps --format '{{.Names}}')" web
        # Podman waits some seconds for the end, which an emulated host's xl may not keep.
        for try in $(seq 10); do pod rm -f -t 0 web && break; sleep 5; done
        is "$(pod ps -aq)" ""
        rm -rf $tree /run/mine
        ip link del podman0 || true
        nft flush ruleset
        nothing_left
    """),
    ("times beside bare xl", r"""
        ms() { local began=$(date +%s%N); "$@" >/dev/null 2>&1; echo $((($(date +%s%N) - began) / 1000000)); }
        row() { awk -v what="$1" -v xl="$2" -v hull="$3" 'BEGIN { printf "%-34s %7d ms %7d ms %+5.0f %%\n", what, xl, hull, (hull - xl) * 100 / xl }'; }
        # Alike in all: the same kernel, initramfs, memory and files, with xl's own scripts for the disks.
        hull run -d --name model --memory 64m --network none --machine pv $image sleep 1000
        cfg=$(ls $HULL_EXEC_ROOT/*/machine/domain.cfg)
        cp --sparse=always /var/tmp/hull/containers/*/disk.img /run/bare.img
        sed -e 's/^name = .*/name = "bare"/' -e '/^uuid/d' -e '/^on_/d' -e 's/backendtype=phy,script=[^,]*,//' $cfg >/run/bare.cfg
        for loop in $(grep -o '/dev/loop[0-9]*' $cfg); do
            file=$(losetup -n -O BACK-FILE $loop)
            [ "${file##*/}" = disk.img ] && file=/run/bare.img
            sed -i "s|$loop\"|$file\"|" /run/bare.cfg
        done
        offered() { local id=$(xl domid bare); until xenstore-read /local/domain/$id/data/hull 2>/dev/null | grep -q .; do sleep 0.5; done; }
        gone() { while xl domid bare 2>/dev/null; do sleep 0.3; done; }
        begin() { xl create -q -e /run/bare.cfg; offered; }
        end() { xl destroy bare; gone; }
        save() { xl save -c bare /run/bare.saved; }
        again() { xl restore -e /run/bare.saved; offered; }
        plug() { xl block-attach bare format=raw,vdev=xvdx,access=rw,target=/run/bare.img; xl block-detach bare xvdx; }
        hull rm -f model
        nothing_left
        xl_start=$(ms begin); xl_pause=$(ms xl pause bare); xl_unpause=$(ms xl unpause bare); xl_save=$(ms save)
        xl_plug=$(ms plug); xl_end=$(ms end); xl_restore=$(ms again)
        xl destroy bare; gone
        rm /run/bare.img
        one() { hull run -d --name one --memory 64m --network none --machine pv $image sleep 1000; }
        hull_start=$(ms one); hull_pause=$(ms hull pause one); hull_unpause=$(ms hull unpause one); hull_save=$(ms hull snapshot create one saved)
        hull_end=$(ms hull rm -f one); hull_restore=$(ms hull restore --name two saved)
        hull rm -f two; hull snapshot rm saved
        stays() { run --rm --machine pv --resident acme $image true; }
        whole() { run --rm --machine pv $image true; }
        hull_whole=$(ms whole); hull_first=$(ms stays); hull_next=$(ms stays)
        hull resident rm acme
        nothing_left
        printf '%-34s %10s %10s\n' '' 'bare xl' Hull
        row 'start, until the agent or command' $xl_start $hull_start
        row pause $xl_pause $hull_pause
        row unpause $xl_unpause $hull_unpause
        row 'save, and go on' $xl_save $hull_save
        row 'restore, until the agent' $xl_restore $hull_restore
        row 'end' $xl_end $hull_end
        echo "hull version, which does nothing: $(ms hull version) ms; hull ps: $(ms hull ps) ms"
        echo "a disk in and out: $xl_plug ms of bare xl; hull run true: $hull_whole ms; resident: the first $hull_first ms, the next $hull_next ms"
    """),
    ("what Xen has not is refused with the reason", r"""
        (! run --rm --machine q35 $image true) 2>&1 | has 'Xen has no board q35'
        (! run --rm --accel kvm $image true) 2>&1 | has 'leave --accel out'
        nothing_left
    """),
    ("HVM with its device model in a stubdomain", r"""
        # A small kernel where `make kernel` has made one: Debian's is slow to unpack here.
        [ -z "$kernel" ] || { mkdir -p $HULL_ROOT/kernels; cp -r $kernel $HULL_ROOT/kernels/small; hull kernel use small; }
        (! run --rm --machine hvm $image true) 2>&1 | has 'hull stubdomain build'
        is "$(hull stubdomain build -q)" qemu
        is "$(hull stubdomain ls -q)" qemu
        hull doctor | has '^\[ok\] *stubdomain: .* image qemu'
        hvm() { hull run --memory 64m --machine hvm "$@"; }
        is "$(echo given | hvm -i --rm --network none $image sh -c 'cat /sys/hypervisor/type; ls /sys/bus/pci/devices | head -1; cat; echo err >&2; exit 42' 2>/run/err || echo $?)" \
            "xen\n0000:00:00.0\ngiven\n42"
        is "$(cat /run/err)" err
        nothing_left
        hvm -d --name one -p 8080:80 $image sh -c 'echo served >/index.html; exec busybox httpd -f -p 80 -h /'
        number=$(xl list | awk '$1 ~ /^hull-/ && $1 !~ /-dm$/ { print $2 }')
        model=$(xl list | awk '$1 ~ /^hull-.*-dm$/ { print $2 }')
        is "$(xenstore-read /local/domain/$number/image/device-model-domid)" "$model"
        is "$(xl list -l $number | grep -c '"type": "hvm"')" 1
        near sh -c 'wget -T 5 -qO- http://localhost:8080/ | grep served'
        is "$(hull exec one echo in)" in
        hull pause one; hull unpause one
        (! hull snapshot create one saved) 2>&1 | has 'an HVM domain cannot be saved: its QEMU'
        (! hvm --rm --resident acme --network none $image true) 2>&1 | has 'leave --resident out'
        # What reaches the control connection of its QEMU, and what does not.
        timeout 60 python3 - /run/xen/qmp-libxl-$number <<'END'
import json, socket, sys
def ask(command, **arguments):
    file.write(json.dumps({"execute": command, "id": 1} | ({"arguments": arguments} if arguments else {})) + "\r\n")
    file.flush()
    return json.loads(file.readline())
for turn in range(2):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        file = connection.makefile("rw")
        assert "QMP" in json.loads(file.readline())
        assert ask("qmp_capabilities") == {"return": {}, "id": 1}
        assert ask("query-status")["return"]["status"] == "running"
        assert ask("human-monitor-command", **{"command-line": "info version"})["error"]["class"] == "CommandNotFound"
        assert "error" in ask("xen-save-devices-state", filename="/run/x")
        assert "error" in ask("quit")
        assert ask("query-status")["return"]["status"] == "running"
END
        # Without its device model a machine cannot go on.
        xl destroy $model
        is "$(hull wait one)" 125
        hull inspect one | has 'domain of the device model ended'
        hull rm one
        is "$(hull stubdomain rm qemu; hull stubdomain ls -q)" qemu
        hull kernel use host
        nothing_left
    """),
]


def prepare(folder):
    """What the Dom0 is told and does first: its guests' kernel gets a small tree of modules."""
    image = subprocess.run([f"{HERE}/make-image.sh", "busybox"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    kernel = f"{HERE}/../.build/kernel/kernels/default"
    kernel = os.path.realpath(kernel) if os.path.exists(kernel) else ""
    release = os.path.basename(newest("/lib/modules/*-cloud-amd64"))
    tree = f"{folder}/guest/lib/modules/{release}"
    os.makedirs(f"{tree}/kernel")
    for name, data in modules(GUEST_MODULES).items():
        with open(f"{tree}/kernel/{name}", "wb") as file:
            file.write(data)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(f"/lib/modules/{release}/{name}", tree)
    subprocess.run(["depmod", "-b", f"{folder}/guest", release], check=True, stderr=subprocess.DEVNULL)
    return f"""
        export kernel={kernel} HULL_ROOT=/var/tmp/hull HULL_EXEC_ROOT=/run/hull HULL_BOOT_TIMEOUT=300 PATH={os.path.dirname(HULL)}:$PATH image=oci-archive:{image}
        """, f"mount --bind {tree} /usr/lib/modules/{release} && {HULL} --root /var/tmp/hull --exec-root /run/hull pull -q oci-archive:{image}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what the checks are, and end")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only checks in whose name it is")
    chosen = parser.parse_args()
    if chosen.list:
        print("\n".join(name for name, _ in CHECKS))
        return
    checks = [(name, script) for name, script in CHECKS if not chosen.words or any(word in name for word in chosen.words)]
    lab = subprocess.run([f"{HERE}/make-xen-lab.sh"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="run-", dir=lab) as folder:
        environment, first = prepare(folder)
        began = time.monotonic()
        dom0 = Dom0(folder, lab, hardware=any("PVH" in name or "HVM" in name for name, _ in checks))
        failed = done = 0
        try:
            print(f"the Dom0 is up after {time.monotonic() - began:.0f} s", flush=True)
            said, code = dom0.run(first)
            if code:
                raise SystemExit(f"the Dom0 could not be prepared: {said}")
            for name, script in checks:
                failed += not check(dom0, name, environment, script)
                done += 1
        finally:
            dom0.close()
    print(f"{done - failed} passed, {failed} failed")
    sys.exit(failed > 0)


def check(dom0, name, environment, script):
    began = time.monotonic()
    said, code = dom0.run(f"set -euo pipefail\n{environment}\n{PREAMBLE}\n{script}", 900)
    took = time.monotonic() - began
    if code:
        # The later ones begin as they should, where that can be had.
        dom0.run(f"{environment}\n{CLEARING}", 300)
    print(f"{'passed' if code == 0 else 'FAILED'}  {took:5.0f} s  {name}", flush=True)
    if code or name.startswith("times") or os.environ.get("HULL_XEN_VERBOSE"):
        print("    " + f"it ended with {code}: {said[-3000:]}".replace("\n", "\n    "), flush=True)
    return code == 0


if __name__ == "__main__":
    main()
