#!/usr/bin/env bash
# make-host.sh: makes the disk of a Debian 12 host as users have one (systemd, cgroup v2, AppArmor, the distribution's Docker, Podman and
# containerd, and what Hull needs to run) from Debian's packages, and prints its path; quick when it is there. scripts/test-host.py boots it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
images=${HULL_IMAGES:-$here/../.build/images}
mkdir -p "$images/debs"
images=$(cd "$images" && pwd)
out=$images/host.ext4
recipe=$(sha256sum <"$0")

readonly packages=(
    systemd systemd-sysv libpam-systemd dbus dbus-user-session udev kmod login passwd procps iproute2 util-linux apparmor
    iputils-ping less netbase
    # for test-host.py --selinux
    selinux-policy-default policycoreutils selinux-utils
    linux-image-cloud-amd64
    docker.io docker-compose containerd podman runc crun conmon buildah catatonit netavark aardvark-dns iptables slirp4netns uidmap fuse-overlayfs
    # what Hull itself needs to run
    qemu-system-x86 erofs-utils e2fsprogs skopeo nftables lz4 zstd xz-utils libarchive13 libseccomp2 libnettle8
)

if [[ -s $out && $(cat "$out.recipe" 2>/dev/null) == "$recipe" ]]; then
    echo "$out"
    exit
fi
((EUID == 0)) || { echo "make-host.sh: run it as root: a host's files belong to many users" >&2; exit 1; }

work=$(mktemp -d -p "$images")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
mkdir -p "$root/usr/sbin"
chmod 755 "$root"
# No package may start its service here.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# Nor does one wait for the disk: it is a disk that is thrown away where something fails.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe"
include=${packages[*]}
INITRD=No debootstrap --variant=minbase --cache-dir="$images/debs" --include="${include// /,}" bookworm "$root" \
    "$("$here/debian-archive.sh")" >"$work/log" || { tail -20 "$work/log" >&2; exit 1; }
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/sbin/policy-rc.d "$root/etc/dpkg/dpkg.cfg.d/unsafe"
rm -rf "$root"/usr/share/{doc,man,locale,info}/*
rm -f "$root/etc/resolv.conf"
echo host >"$root/etc/hostname"
printf '127.0.0.1 localhost host\n::1 localhost\n' >"$root/etc/hosts"
: >"$root/etc/machine-id"
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
# QEMU is given both beside the disk.
chroot "$root" update-initramfs -c -k all >>"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
cp "$root"/boot/vmlinuz-* "$images/host.vmlinuz"
cp "$root"/boot/initrd.img-* "$images/host.initrd"
# A plain user, with ids of her own for containers (useradd gives them), whose services run without a login.
chroot "$root" useradd --create-home --shell /bin/bash user
mkdir -p "$root/var/lib/systemd/linger"
: >"$root/var/lib/systemd/linger/user"
# What is asked over QEMU's port `shell` is done by root, and `#done CODE` follows.
cat >"$root/usr/local/sbin/serve-shell" <<'END'
#!/bin/bash
exec <>/dev/virtio-ports/shell >&0
echo ready
while read -r line; do
    bash -c "$line" </dev/null 2>&1
    code=$?
    printf '\n#done %s\n' $code
done
END
chmod 755 "$root/usr/local/sbin/serve-shell"
cat >"$root/etc/systemd/system/shell.service" <<'END'
[Unit]
Wants=dev-virtio\x2dports-shell.device
After=dev-virtio\x2dports-shell.device multi-user.target
[Service]
Environment=HOME=/root
WorkingDirectory=/root
ExecStart=/usr/local/sbin/serve-shell
TasksMax=infinity
[Install]
WantedBy=multi-user.target
END
chroot "$root" systemctl enable shell.service
# They take a minute of an emulated machine, and nobody asks for them.
chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    man-db.timer systemd-timesyncd.service getty@tty1.service >/dev/null 2>&1 || true
# A kernel that is told `security=selinux` loads the policy; the files have their labels already, or the first boot were a long one.
printf 'SELINUX=permissive\nSELINUXTYPE=default\n' >"$root/etc/selinux/config"
# shellcheck disable=SC2016 # the inner shell's word
unshare --mount sh -euc 'mount -t proc proc "$1/proc"; chroot "$1" setfiles -F -m /etc/selinux/default/contexts/files/file_contexts /' \
    setfiles "$root" >>"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
mkfs.ext4 -q -E root_owner=0:0 -d "$root" "$work/host.ext4" 12G >&2
mv "$work/host.ext4" "$out"
echo "$recipe" >"$out.recipe"
echo "$out"
