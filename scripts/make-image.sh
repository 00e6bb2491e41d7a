#!/usr/bin/env bash
# make-image.sh NAME: makes a test image from Debian's packages as an oci-archive and prints its path; quick when it is there.
#   busybox  a static busybox, a few users and groups
#   demo     bash, coreutils and busybox
#   debian   Debian by debootstrap
#   engines  busybox, openssl and a bare Perl, which speaks to Unix sockets and to the kernel; as `docker save` writes it too
#   nginx    Debian with nginx, its pages a volume, port 80 exposed
#   postgres Debian with PostgreSQL, its data a volume, port 5432 exposed
#   systemd  Debian whose command is systemd, with a service of its own
#   docker   Debian with dockerd, whose data is a volume
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${1:?usage: make-image.sh busybox|demo|debian|engines|nginx|postgres|systemd|docker}
images=${HULL_IMAGES:-$here/../.build/images}
mkdir -p "$images"
images=$(cd "$images" && pwd)
out=$images/$name.tar
recipe=$(cat "$0" "$here/oci-archive.py" | sha256sum)

if [[ -s $out && $(cat "$out.recipe" 2>/dev/null) == "$recipe" ]]; then
    echo "$out"
    exit
fi
((EUID == 0)) || { echo "make-image.sh: run it as root: an image's files belong to many users" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
mkdir "$root"
chmod 755 "$root"
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

skeleton() {
    mkdir -p "$root"/{bin,dev,etc,home/app,proc,root,run,sbin,sys,tmp,usr/bin,usr/sbin,var/tmp}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    chmod 700 "$root/root"
    printf '%s\n' root:x:0:0:root:/root:/bin/sh daemon:x:1:1:daemon:/:/bin/false app:x:1000:1000:app:/home/app:/bin/sh \
        nobody:x:65534:65534:nobody:/:/bin/false >"$root/etc/passwd"
    printf '%s\n' root:x:0: daemon:x:1: audio:x:29:app video:x:44:app,daemon app:x:1000: nogroup:x:65534: >"$root/etc/group"
    chown 1000:1000 "$root/home/app"
}

busybox_links() {
    local applet
    for applet in $(busybox --list); do
        [[ -e $root/bin/$applet || -e $root/usr/bin/$applet ]] || ln -s /bin/busybox "$root/bin/$applet"
    done
}

# debs NAME…: unpacks packages without their documents.
debs() {
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$@" >&2)
    local package
    for package in "$work"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink \
            --exclude './usr/share/doc*' --exclude './usr/share/man*' --exclude './usr/share/locale*' --exclude './usr/share/info*'
        rm "$package"
    done
}

# debian [PACKAGE…]
debian() {
    local include=$*
    mkdir -p "$images/debs" "$root/usr/sbin"
    # No package may start its service here.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    debootstrap --variant=minbase --cache-dir="$images/debs" ${include:+--include="${include// /,}"} \
        "$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" "$root" "$("$here/debian-archive.sh")" >"$work/log" \
        || { tail -20 "$work/log" >&2; exit 1; }
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "${root:?}"/dev/*
    rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/apt/sources.list" "$root/usr/sbin/policy-rc.d"
    # Empty, not absent: systemd makes one, and does not take the start for the first of an installation.
    : >"$root/etc/machine-id"
    rm -f "$root/var/lib/dbus/machine-id"
    rm -rf "$root"/usr/share/{doc,man,locale,info}/*
}

case $name in
busybox)
    skeleton
    install -m 755 /bin/busybox "$root/bin/busybox"
    busybox_links
    config='{"Env":["PATH='$path'","IMAGE=busybox"],"Cmd":["sh"],"WorkingDir":"/","Labels":{"org.example.image":"busybox"}}'
    ;;
demo)
    skeleton
    rmdir "$root"/{bin,sbin}
    mkdir "$root/usr/lib"
    ln -s usr/bin "$root/bin"
    ln -s usr/sbin "$root/sbin"
    ln -s usr/lib "$root/lib"
    ln -s lib "$root/usr/lib64"
    ln -s usr/lib "$root/lib64"
    debs base-files bash busybox-static coreutils libacl1 libattr1 libc6 libgmp10 libpcre2-8-0 libselinux1 libssl3 libtinfo6
    busybox_links
    config='{"User":"app","Env":["PATH='$path'","GREETING=from the image"],"Cmd":["bash"],"WorkingDir":"/home/app"}'
    ;;
debian)
    debian
    config='{"Env":["PATH='$path'"],"Cmd":["bash"]}'
    ;;
engines)
    skeleton
    debs busybox-static perl-base libc6 libcrypt1 openssl libssl3
    busybox_links
    config='{"Env":["PATH='$path'","IMAGE=engines"],"Cmd":["sh"],"WorkingDir":"/"}'
    ;;
nginx)
    debian nginx-light
    config='{"Env":["PATH='$path'"],"Cmd":["nginx","-g","daemon off;"],"ExposedPorts":{"80/tcp":{}},
        "Volumes":{"/var/www/html":{}},"StopSignal":"SIGQUIT"}'
    ;;
postgres)
    debian postgresql
    cat >"$root/usr/local/bin/run-postgres" <<'EOF'
#!/bin/sh
# A cluster in an empty folder, open to the network with a password; then the server itself.
set -e
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
cluster=/data/cluster
if [ ! -s $cluster/PG_VERSION ]; then
    echo "${POSTGRES_PASSWORD:?is not set}" | initdb -D $cluster -A scram-sha-256 --pwfile=/dev/stdin >/dev/null
    echo "host all all all scram-sha-256" >>$cluster/pg_hba.conf
fi
exec postgres -D $cluster -c listen_addresses='*'
EOF
    chmod 755 "$root/usr/local/bin/run-postgres"
    mkdir "$root/data"
    chroot "$root" chown postgres: /data
    config='{"User":"postgres","Env":["PATH='$path'"],"Cmd":["run-postgres"],"ExposedPorts":{"5432/tcp":{}},
        "Volumes":{"/data":{}},"StopSignal":"SIGINT"}'
    ;;
systemd)
    debian systemd systemd-sysv dbus kmod
    cat >"$root/etc/systemd/system/hello.service" <<'EOF'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo started >/run/hello'
ExecStop=/bin/sh -c 'echo stopped >/var/hello'
[Install]
WantedBy=multi-user.target
EOF
    chroot "$root" systemctl enable hello.service 2>/dev/null
    config='{"Env":["PATH='$path'"],"Cmd":["/sbin/init"],"StopSignal":"SIGRTMIN+3"}'
    ;;
docker)
    debian docker.io iptables iproute2 kmod busybox-static
    cat >"$root/usr/local/bin/run-docker" <<'EOF'
#!/bin/sh
# A cgroup that divides its controllers among others may hold no process itself.
mkdir -p /sys/fs/cgroup/own
while read -r pid; do echo "$pid" >/sys/fs/cgroup/own/cgroup.procs; done </sys/fs/cgroup/cgroup.procs
sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
exec dockerd "$@"
EOF
    chmod 755 "$root/usr/local/bin/run-docker"
    config='{"Env":["PATH='$path'"],"Entrypoint":["run-docker"],"Volumes":{"/var/lib/docker":{}}}'
    ;;
*)
    echo "make-image.sh: there is no recipe for $name" >&2
    exit 1
    ;;
esac
"$here/oci-archive.py" "$root" "$work/image.tar" "$config"
if [[ $name == engines ]]; then
    rm -f "$images"/{engines,pause}.docker.tar
    skopeo --insecure-policy copy --quiet "oci-archive:$work/image.tar" \
        "docker-archive:$images/engines.docker.tar:localhost/box:latest"
    # What a pod's sandbox runs (Kubernetes calls it pause).
    "$here/oci-archive.py" "$root" "$work/pause.tar" '{"Env":["PATH='$path'"],"Cmd":["sleep","1000000"]}'
    skopeo --insecure-policy copy --quiet "oci-archive:$work/pause.tar" \
        "docker-archive:$images/pause.docker.tar:localhost/pause:latest"
fi
mv "$work/image.tar" "$out"
echo "$recipe" >"$out.recipe"
echo "$out"
