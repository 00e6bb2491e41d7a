#!/usr/bin/env python3
"""test-xen.py [--list] [WORD…]: Hull in a Dom0 of Xen, where every container is a domain: what Xen alone has, and what every driver must do
(scripts/conformance.py), in PV and in PVH.

The host is a machine of QEMU's software emulation (scripts/xen_lab.py), whose files are this machine's with Xen's tools laid over them; what
is written there goes to its memory. Some minutes.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../bench")
sys.path.insert(0, HERE)
import conformance  # noqa: E402
from conformance import HULL  # noqa: E402
from machine import modules, newest  # noqa: E402
from xen_lab import Dom0  # noqa: E402

# What a guest loads at all: the whole tree would be read and packed by an emulated processor.
GUEST_MODULES = ("xen_evtchn", "xen_gntalloc", "xen_gntdev", "xen_privcmd", "xen_blkfront", "xen_netfront", "erofs", "overlay", "ext4", "fuse", "virtiofs", "crc32c_generic")
# What every driver must do is asked of domains of these types.
TYPES = ("pv", "pvh")


def driver(kind):
    """Domains of this type; of what auto means, where it is empty. Templates have a check of their own."""
    flags = f"--machine {kind}" if kind else ""
    return conformance.Driver(
        flags=f"--no-template {flags}", pool=flags, annotations={"run.hull.machine": kind} if kind else {},
        destroyed=("137", "destroyed by somebody else"),
        hooks="""
machines() { xl list | awk 'NR > 2 { print $2 }'; }
destroy() { xl destroy $(machines); }
others() { xenstore-list /local/domain | grep -vx 0; }
settle() { while ps -e -o args= | grep -q '^hull-template-builder'; do sleep 0.3; done; }
""")


# Name, and a script that must succeed. They run in this order in one Dom0; what a check leaves the later ones find.
CHECKS = [
    ("doctor sees a Dom0", r"""
        hull doctor | tee /run/doctor | has '^\[ok\] *xen: machines can run'
        has 'Xen 4.*, by /usr/lib/xen' </run/doctor
        has 'domains can be PV, PVH, HVM; machines are PVH' </run/doctor
        has '[0-9]* of [0-9]* MiB of memory are free' </run/doctor
        has 'bridge of Hull.s own' </run/doctor
    """),
    ("PV and PVH as asked; PVH is what auto means here", r"""
        is "$(run --rm --machine pv $image cat /sys/hypervisor/type /sys/hypervisor/guest_type)" "xen\nPV"
        is "$(run --rm $image sh -c 'cat /sys/hypervisor/guest_type; exit 7' || echo $?)" "PVH\n7"
        nothing_left
    """),
    ("what a snapshot of a domain is", r"""
        hull run -d --name first --memory 64m --network none --no-template --machine pv $image sh -c 'echo kept >/mark; exec sleep 1000'
        near hull exec first cat /mark
        hull snapshot create first one
        hull snapshot inspect one | has '"Hypervisor" : "xen 4'
        hull snapshot export -o $work/one one
        hull snapshot rm one
        # Xen's tools, which are root, read it.
        (! hull snapshot import $work/one two) 2>&1 | has 'as root'
        hull snapshot import --trust $work/one two
        hull restore --name again two
        is "$(hull exec again cat /mark)" kept
        hull rm -f first again
        hull snapshot rm two
        nothing_left
    """),
    ("a resident domain: the next container is plugged in", r"""
        resident() { run --rm --machine pv --resident acme --resident-idle 3600 "$@"; }
        time is "$(resident $image sh -c 'echo one; echo kept >/mark; exit 3' || echo $?)" "one\n3"
        is "$(count)" 1
        was=$(machines)
        xl list | awk '/^hull-/ { print $5 }' | has '^..p'
        # The modules' disk stays.
        near sh -c 'test $(losetup -a | wc -l) = 1'
        is "$(hull ps -aq)" ""
        hull resident ls | has 'acme *waits'
        time is "$(resident --hostname second $image sh -c 'test -e /mark || echo clean; hostname')" "clean\nsecond"
        is "$(machines)" "$was"
        hull run -d --name three --memory 64m --network none --no-template --machine pv --resident acme --resident-idle 3600 $image sh -c 'echo mine >>/mark; exec sleep 1000'
        is "$(machines)" "$was"
        hull ps | has three
        hull resident ls | has 'acme *has'
        (! resident $image true) 2>&1 | has 'has the container'
        (! hull resident rm acme) 2>&1 | has 'or stop it'
        (! hull snapshot create three) 2>&1 | has resident
        hull stop -t 1 three
        hull start three
        is "$(hull exec three cat /mark)" "mine\nmine"
        is "$(machines)" "$was"
        hull rm -f three
        # Another shape is another domain.
        resident --memory 80m $image true
        is "$(count)" 1
        [ "$(machines)" != "$was" ]
        hull resident rm acme
        nothing_left
    """),
    ("a resident domain: its network, and its end", r"""
        online() { hull run --memory 64m --no-template --machine pv --resident net --resident-idle 3600 "$@"; }
        online -d --name web -p 8083:80 $image sh -c 'mkdir -p /www; echo first >/www/index.html; exec busybox httpd -f -p 80 -h /www'
        near sh -c 'wget -qO- http://127.0.0.1:8083/ | grep first'
        was=$(machines)
        hull rm -f web
        is "$(machines)" "$was"
        ! ip -o link | has vif
        online -d --name web -p 8084:80 $image sh -c 'mkdir -p /www; echo second >/www/index.html; exec busybox httpd -f -p 80 -h /www'
        near sh -c 'wget -qO- http://127.0.0.1:8084/ | grep second'
        is "$(machines)" "$was"
        # A killed monitor's domain goes with the next verb.
        pkill -9 -f '^hull-monitor'
        hull ps -a | has 'Exited (137)'
        hull rm web
        nothing_left
        # One that was destroyed while it waited is another one then.
        run --rm --machine pv --resident acme --resident-idle 3600 $image true
        xl destroy $(machines)
        is "$(run --rm --machine pv --resident acme --resident-idle 4 $image echo again)" again
        # Nobody comes: it goes by itself.
        near sh -c 'test $(xl list | wc -l) = 2'
        nothing_left
        (! run --rm --hypervisor qemu --resident acme $image true) 2>&1 | has 'use hull pool'
    """),
    ("SIGKILL of the monitor of a resident domain, at its steps", r"""
        for point in resident:noted resident:parked resident:unparked container:exited; do
            echo "$point"
            HULL_FAULT=$point run --rm --machine pv --resident acme --resident-idle 3600 $image true || true
            # One that waits is as it should be; all else goes with the next verb.
            if [ $point = resident:parked ]; then
                is "$(hull ps -aq)" ""
                hull resident ls | has 'acme *waits'
                is "$(count)" 1
            else
                hull ps -a
                nothing_left
            fi
        done
    """),
    ("templates of PV and PVH: a start is a clone", r"""
        clone() { hull run --memory 64m --machine $type "$@"; }
        made() { near sh -c 'test -n "$(hull template ls -q)"'; settle; }
        log() { cat $HULL_ROOT/containers/*/monitor.log; }
        show='cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1; ip -o link show eth0 | grep -o "ether [0-9a-f:]*"; hostname'
        for type in pv pvh; do
            # The first boots, and leaves a template.
            begun=$(date +%s%N); clone -d --name first $image sleep 1000; cold=$((($(date +%s%N) - begun) / 1000000))
            log | has 'there is no template .* of this machine yet: it boots'
            total=$(hull exec first awk '/^MemTotal/ { print $2 }' /proc/meminfo)
            made
            is "$(count)" 1
            key=$(hull template ls -q)
            hull template ls | has "$key *1 processor, 160 MiB, root+rw+modules, network"
            [ $(du -m $HULL_ROOT/cache/templates/$key/state | cut -f 1) -lt 140 ]
            hull rm -f first
            # Two of it are two machines, and nobody's memory is less.
            begun=$(date +%s%N); clone -d --name second -p 8086:80 $image sh -c 'echo served >/index.html; exec busybox httpd -f -p 80 -h /'; warm=$((($(date +%s%N) - begun) / 1000000))
            clone -d --name third $image sleep 1000
            is "$(log)" ""
            is "$(hull exec second awk '/^MemTotal/ { print $2 }' /proc/meminfo)" "$total"
            near sh -c 'timeout 20 busybox wget -qO- http://localhost:8086/ | grep served'
            hull exec second sh -c "$show" >$work/second
            hull exec third sh -c "$show" >$work/third
            is "$(sort $work/second $work/third | uniq -d)" ""
            is "$(wc -l <$work/second)" 5
            now=$(date +%s); there=$(hull exec third date +%s); [ $((now - there)) -lt 10 ] && [ $((there - now)) -lt 10 ]
            # They are saved and go on as others do.
            hull exec third sh -c 'echo kept >/mark'
            hull snapshot create third saved
            hull restore --name fourth saved
            is "$(hull exec fourth cat /mark)" kept
            hull rm -f second third fourth; hull snapshot rm saved
            # Damaged: it goes, the machine boots, and a word says why.
            printf x | dd of=$HULL_ROOT/cache/templates/$key/state bs=1 seek=1000 conv=notrunc 2>/dev/null
            clone --name fifth $image true
            log | has "the template $key is removed, and the machine boots: its file state was changed"
            made
            # As it was, and still nothing that Xen takes.
            truncate -s 100000 $HULL_ROOT/cache/templates/$key/state
            python3 - $HULL_ROOT/cache/templates/$key <<'END'
import json, os, sys
file = os.stat(f"{sys.argv[1]}/state")
manifest = json.load(open(f"{sys.argv[1]}/manifest.json"))
manifest["state"] |= {"size": file.st_size, "modified": file.st_mtime_ns, "changed": file.st_ctime_ns}
json.dump(manifest, open(f"{sys.argv[1]}/manifest.json", "w"))
END
            hull rm fifth
            clone --name fifth $image true
            log | has "the template $key is removed, and the machine boots: .*Xen did not restore the domain"
            hull rm fifth
            settle
            echo "$type: cold $cold ms, warm $warm ms"
            hull template rm --all
            is "$(hull template ls -q)" ""
            nothing_left
        done
    """),
    ("templates of PV: with files, for a tenant, and SIGKILL of the maker", r"""
        wanted="--memory 64m --network none --machine pv"
        mkdir -p $work/shown; echo shown >$work/shown/file
        hull template build --share $wanted
        is "$(hull run --rm $wanted -v $work/shown:/a $image sh -c 'cat /a/file; echo back >/a/new')" shown
        is "$(cat $work/shown/new)" back
        settle
        is "$(hull template ls -q | wc -l)" 1
        # The first of a tenant's is a clone, too, and stays.
        hull template build $wanted
        stays() { hull run --rm $wanted --resident acme --resident-idle 3600 $image "$@"; }
        is "$(stays echo one)" one
        was=$(machines)
        is "$(stays echo two)" two
        is "$(machines)" "$was"
        hull resident rm acme
        is "$(hull template ls -q | wc -l)" 2
        hull template rm --all
        for point in template:begun template:saved template:published; do
            (! HULL_FAULT=$point hull template build $wanted)
            is "$(hull template ls -q | wc -l)" $([ $point = template:published ] && echo 1 || echo 0)
            is "$(count)" 0
            is "$(losetup -n -O BACK-FILE | grep templates)" ""
        done
        hull template rm --all
        hull template build $wanted & builder=$!
        near sh -c 'test $(xl list | wc -l) = 3'
        sleep 2
        pkill -9 -f '^hull-template-builder'
        ! wait $builder || exit 1
        hull ps
        is "$(count)" 0
        is "$(ls -A $HULL_ROOT/cache/templates | grep making)" ""
        rm -f $HULL_ROOT/cache/templates/wanted/*
        # Nobody's domain goes without memory for it.
        (! hull template build --memory 600m --network none --machine pv) 2>&1 | has 'MiB of memory free'
        (! hull template build --memory 64m --network none --machine hvm) 2>&1 | has 'hull stubdomain build'
        nothing_left
    """),
    ("a resident domain shows each container its own files", r"""
        for name in one two; do mkdir -p $work/$name; echo $name >$work/$name/file; done
        stays() { run --rm --machine pv --resident acme --resident-idle 3600 "$@"; }
        is "$(stays -v $work/one:/a $image sh -c 'cat /a/file; echo back >/a/back; sleep 1000 </a/file >/dev/null &')" one
        is "$(cat $work/one/back)" back
        was=$(machines)
        is "$(ps -e -o args= | awk '$1 ~ /virtiofsd/')" ""
        time is "$(stays -v $work/two:/b -v $work/one:/c:ro $image sh -c 'ls /a 2>&1; cat /b/file /c/back; (echo no >/c/no) 2>&1; ls /b' || true)" \
            "ls: /a: No such file or directory\ntwo\nback\nsh: can't create /c/no: Read-only file system\nfile"
        is "$(machines)" "$was"
        # One without files has another machine: it has no driver for them.
        is "$(stays $image echo none)" none
        hull resident rm acme
        nothing_left
    """),
    ("bind mounts of a filesystem that maps owners: the server has ids of its own", r"""
        truncate -s 64M /run/fs.img; mkfs.ext4 -q /run/fs.img; mkdir -p /run/fs; mount -o loop /run/fs.img /run/fs
        echo mine >/run/fs/file; chmod 600 /run/fs/file; chown 7:8 /run/fs/file
        hull run -d --name files --memory 64m --network none --no-template --machine pv -v /run/fs:/a $image sh -c 'cat /a/file; echo new >/a/new; exec sleep 1000'
        near sh -c 'hull logs files | grep mine'
        near test -e /run/fs/new
        is "$(stat -c '%u %g' /run/fs/new)" "0 0"
        [ "$(stat -c %u /proc/$(pgrep -f 'shared-di[r] /share' | head -1))" -ge 268435456 ]
        hull rm -f files
        umount /run/fs; rm /run/fs.img
        near sh -c 'test -z "$(losetup -a)"'
        nothing_left
    """),
    ("Podman's containers are PVH domains", r"""
        [ -x /usr/bin/podman ] || { echo 'there is no Podman here'; exit 0; }
        tree=/run/tree; mkdir -p $tree/bin $tree/www $tree/etc; cp /bin/busybox $tree/bin/; for name in sh cat sleep; do ln -sf busybox $tree/bin/$name; done
        echo served >$tree/www/index.html
        modprobe -a nft_compat xt_comment xt_conntrack xt_mark xt_addrtype xt_MASQUERADE xt_nat xt_multiport || true
        printf '%s\n' '[containers]' 'log_driver = "k8s-file"' 'dns_servers = []' '[engine]' 'cgroup_manager = "cgroupfs"' 'events_logger = "file"' \
            '[network]' 'network_backend = "netavark"' >/run/containers.conf
        export CONTAINERS_CONF=/run/containers.conf XDG_RUNTIME_DIR=/run
        pod() { timeout -s KILL 300 podman --root /run/pods --runroot /run/pods-run --storage-driver vfs --network-config-dir /run/pods-net \
            --runtime $(command -v hull-runtime) "$@"; }
        echo mine >/run/mine
        is "$(pod run --rm --network none -v /run/mine:/mine:ro --rootfs $tree sh -c 'cat /sys/hypervisor/type /mine; exit 9' || echo $?)" "xen\nmine\n9"
        pod run -d --name web --rootfs $tree busybox httpd -f -p 80 -h /www
        address=$(pod inspect --format '{{.NetworkSettings.IPAddress}}' web)
        near get http://$address/
        is "$(get http://$address/)" served
        is "$(pod exec web cat /sys/hypervisor/type)" xen
        # Out of it.
        gateway=$(pod inspect --format '{{.NetworkSettings.Gateway}}' web)
        busybox httpd -f -p $gateway:8099 -h $tree/www & server=$!
        near get http://$gateway:8099/
        is "$(pod exec web busybox wget -qO- http://$gateway:8099/)" served
        kill $server
        is "$(pod ps --format '{{.Names}}')" web
        # Podman waits some seconds for the end, which an emulated host's xl may not keep.
        for try in $(seq 10); do pod rm -f -t 0 web && break; sleep 5; done
        is "$(pod ps -aq)" ""
        rm -rf $tree /run/mine
        ip link del podman0 || true
        nft flush ruleset
        nothing_left
    """),
    ("Docker's containers are PVH domains", r"""
        [ -x /usr/sbin/dockerd ] || { echo 'there is no Docker here'; exit 0; }
        mkdir -p $work/tree/bin $work/tree/www; cp /bin/busybox $work/tree/bin/; for name in sh cat sleep; do ln -sf busybox $work/tree/bin/$name; done
        echo served >$work/tree/www/index.html
        modprobe -a nft_compat xt_comment xt_conntrack xt_mark xt_addrtype xt_MASQUERADE xt_nat xt_multiport || true
        export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=$work
        echo '{ "experimental": true }' >$work/daemon.json
        dockerd --config-file $work/daemon.json --data-root /run/docker-data --exec-root /run/docker-exec --pidfile $work/dockerd.pid --storage-driver vfs \
            --bip 10.111.0.1/24 --add-runtime hull=$(command -v hull-runtime) >$work/dockerd.log 2>&1 &
        near docker info
        tar -C $work/tree -c . | docker import - box >/dev/null
        echo mine >$work/mine
        is "$(docker run --rm --runtime hull --network none -v $work/mine:/mine:ro box sh -c 'cat /sys/hypervisor/type /mine; exit 9' || echo $?)" "xen\nmine\n9"
        docker run -d --name web --runtime hull -p 8085:80 box busybox httpd -f -p 80 -h /www
        near get http://127.0.0.1:8085/
        is "$(get http://127.0.0.1:8085/)" served
        is "$(docker exec web cat /sys/hypervisor/type)" xen
        busybox httpd -f -p 10.111.0.1:8099 -h $work/tree/www & server=$!
        near get http://10.111.0.1:8099/
        is "$(docker exec web busybox wget -qO- http://10.111.0.1:8099/)" served
        # Another network comes while it runs.
        docker network create --subnet 10.112.0.0/24 second >/dev/null
        docker network connect --ip 10.112.0.9 second web
        near get http://10.112.0.9/
        docker network disconnect second web
        docker network rm second
        docker rm -f web
        # A checkpoint, with the root that Docker made, and a bind mount.
        mkdir -p $work/shown
        docker run -d --name count --runtime hull --network none -m 96m -v $work/shown:/a box sh -c \
            'n=0; while :; do n=$((n+1)); echo $n >/count; echo $n >>/a/all; busybox sleep 0.1; done' >/dev/null
        near test -s $work/shown/all
        docker checkpoint create count first
        is "$(docker inspect -f '{{.State.Running}}' count)" false
        before=$(tail -n 1 $work/shown/all)
        docker start --checkpoint first count
        goes() { [ "$(docker exec count cat /count)" -gt "$before" ]; }
        near goes
        docker rm -f count
        # Every number was written once.
        cmp <(seq $(tail -n 1 $work/shown/all)) $work/shown/all
        kill $server; kill $(cat $work/dockerd.pid); near test ! -e $work/dockerd.pid
        ip link del docker0 || true
        nft flush ruleset
        nothing_left
        rm -rf /run/docker-data /run/docker-exec
    """),
    ("times beside bare xl", r"""
        ms() { local began=$(date +%s%N); "$@" >$work/said 2>&1 || { echo "$1 failed:"; cat $work/said; return 1; } >&2; echo $((($(date +%s%N) - began) / 1000000)); }
        # Without what the checks note of each verb: three processes more.
        verb() { command hull "$@"; }
        # Of what was measured several times, the median.
        middle() { printf '%s\n' $1 | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
        row() { awk -v what="$1" -v xl="$(middle "$2")" -v hull="$(middle "$3")" 'BEGIN { printf "%-34s %7d ms %7d ms %+5.0f %%\n", what, xl, hull, (hull - xl) * 100 / xl }'; }
        # Alike in all: the same kernel, initramfs, memory and disks. xl has its own scripts for those, and loop devices that are there already: of three
        # files its scripts make them one by one, and a busy emulated host does not keep xl's limit for that (40 s).
        one() { hull run -d --name one --memory 64m --network none --no-template --machine pv $image sleep 1000; }
        hull_start=$(ms one)
        cfg=$(ls $HULL_EXEC_ROOT/*/machine/domain.cfg)
        cp --sparse=always $HULL_ROOT/containers/*/disk.img /run/bare.img
        sed -e 's/^name = .*/name = "bare"/' -e '/^uuid/d' -e '/^on_/d' -e 's/script=[^,]*,//' $cfg >/run/bare.cfg
        loops=
        for loop in $(grep -o '/dev/loop[0-9]*' $cfg); do
            file=$(losetup -n -O BACK-FILE $loop)
            [ "${file##*/}" = disk.img ] && own=$(losetup -f --show /run/bare.img) || own=$(losetup -r -f --show $file)
            sed -i "s|$loop\"|own:$own\"|" /run/bare.cfg
            loops="$loops $own"
        done
        sed -i 's|own:||' /run/bare.cfg
        spare=$(losetup -f --show /run/bare.img)
        offered() { local id=$(xenstore-list /local/domain | sort -n | tail -1); for try in $(seq 500); do xenstore-read /local/domain/$id/data/hull 2>/dev/null | grep -q . && return; sleep 0.1; done; return 1; }
        boot() { xl create -q -e /run/bare.cfg && offered; }
        # Where Hull's is, and a new file each time, as Hull's is.
        save() { xl save -c bare $HULL_ROOT/bare.saved; }
        again() { xl restore -e $HULL_ROOT/bare.saved && offered; }
        # Into the Dom0: of a guest's agent that nobody has told anything no module for disks is loaded.
        modprobe xen-blkfront
        plug() { xl block-attach 0 format=raw,vdev=xvdx,access=rw,backendtype=phy,target=$spare && near test -b /dev/xvdx && xl block-detach 0 xvdx; }
        xl_start=$(ms boot)
        # One beside the other, so that what else the host does is the same for both.
        xl_pause= xl_unpause= hull_pause= hull_unpause= xl_save= hull_save= xl_end= hull_end= xl_restore= hull_restore=
        for round in 1 2 3 4 5 6 7; do
            xl_pause="$xl_pause $(ms xl pause bare)"; hull_pause="$hull_pause $(ms verb pause one)"
            xl_unpause="$xl_unpause $(ms xl unpause bare)"; hull_unpause="$hull_unpause $(ms verb unpause one)"
        done
        for round in 1 2 3 4 5; do
            rm -f $HULL_ROOT/bare.saved
            xl_save="$xl_save $(ms save)"
            hull_save="$hull_save $(ms verb snapshot create one saved$round)"
            [ $round = 5 ] || hull snapshot rm saved$round
        done
        for round in 1 2 3; do
            xl_end="$xl_end $(ms xl destroy bare)"; hull_end="$hull_end $(ms verb rm -f one)"
            while xl domid bare 2>/dev/null; do sleep 0.3; done
            xl_restore="$xl_restore $(ms again)"; hull_restore="$hull_restore $(ms verb restore --name one saved5)"
        done
        hull rm -f one; hull snapshot rm saved5
        xl_plug=$(ms plug)
        xl destroy bare; while xl domid bare 2>/dev/null; do sleep 0.3; done
        losetup -d $loops $spare
        rm /run/bare.img $HULL_ROOT/bare.saved
        nothing_left
        hull template build --memory 64m --network none --machine pv
        warm() { hull run -d --name warm --memory 64m --network none --machine pv $image sleep 1000; }
        hull_warm=
        for round in 1 2 3; do hull_warm="$hull_warm $(ms warm)"; hull rm -f warm; done
        hull template rm --all
        stays() { run --rm --machine pv --resident acme $image true; }
        whole() { run --rm --machine pv $image true; }
        hull_whole=$(ms whole); hull_first=$(ms stays); hull_next=$(ms stays)
        hull resident rm acme
        nothing_left
        printf '%-34s %10s %10s\n' '' 'bare xl' Hull
        row 'start, until the agent or command' "$xl_start" "$hull_start"
        row pause "$xl_pause" "$hull_pause"
        row unpause "$xl_unpause" "$hull_unpause"
        row 'save, and go on' "$xl_save" "$hull_save"
        row 'restore, until the agent' "$xl_restore" "$hull_restore"
        row 'restore; start from a template' "$xl_restore" "$hull_warm"
        row 'end' "$xl_end" "$hull_end"
        echo "pauses: xl$xl_pause; hull$hull_pause; unpauses: xl$xl_unpause; hull$hull_unpause; saves: xl$xl_save; hull$hull_save"
        echo "hull version, which does nothing: $(ms verb version) ms; hull ps: $(ms verb ps) ms"
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
        near sh -c 'timeout 20 busybox wget -qO- http://localhost:8080/ | grep served'
        is "$(hull exec one echo in)" in
        hull pause one; hull unpause one
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
        # The devices' state goes by the stubdomain's consoles, out and in.
        hvm -d --name two --network none $image sh -c 'trap "exit 5" TERM; echo kept >/mark; while :; do sleep 0.2; done'
        near hull exec two cat /mark
        time hull snapshot create two saved
        is "$(hull exec two cat /mark)" kept
        hull snapshot create two again
        hull rm -f two
        time hull restore --name three again
        is "$(hull exec three cat /mark)" kept
        hull stop three
        is "$(hull wait three)" 5
        hull rm three
        hull snapshot rm saved again
        hvm -d --name files --network none -v $work:/a $image sleep 1000
        (! hull snapshot create files no) 2>&1 | has 'use --machine pvh'
        hull rm -f files
        nothing_left
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
    # What nft and tc would have loaded one by one, each at the price of everything that stands before it.
    loaded = ("tun veth bridge br_netfilter nf_tables nft_chain_nat nft_ct nft_nat nft_masq nft_fib_inet nf_conntrack_bridge nft_meta_bridge "
              "sch_ingress cls_u32 act_mirred")
    # Where Hull's files are by default, of which this machine may have some: engines hand on no variable to all of a runtime's verbs.
    own = "rm -rf $HULL_ROOT"
    # A bundle says by an annotation that it is to be PV.
    allowed = "printf '[annotations]\\nallow = [\"machine\"]\\n' >/run/hull.toml"
    environment = (f"export HULL_ROOT=/var/lib/hull HULL_EXEC_ROOT=/run/hull HULL_BOOT_TIMEOUT=300 PATH={os.path.dirname(HULL)}:$PATH "
                   f"image=oci-archive:{image} kernel={kernel} HULL_CONFIG=/run/hull.toml work=/run/work ids=/run/ids")
    return environment, f"{environment}; {own}; {allowed}; modprobe -a {loaded}; mount --bind {tree} /usr/lib/modules/{release} && hull pull -q $image"


def main():
    own = [(name, driver("").given() + text, None) for name, text in CHECKS]
    every = [check for kind in TYPES for check in conformance.scripts(driver(kind), f"{kind.upper()}: ")]
    checks = conformance.chosen(own + every)
    lab = subprocess.run([f"{HERE}/make-xen-lab.sh"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="run-", dir=lab) as folder:
        environment, first = prepare(folder)
        began = time.monotonic()
        dom0 = Dom0(folder, lab, hardware=any("PVH" in name or "HVM" in name for name, *_ in checks))
        try:
            print(f"the Dom0 is up after {time.monotonic() - began:.0f} s", flush=True)
            said, code = dom0.run(first)
            if code:
                raise SystemExit(f"the Dom0 could not be prepared: {said}")
            conformance.run(dom0, environment, checks)
        finally:
            dom0.close()


if __name__ == "__main__":
    main()
