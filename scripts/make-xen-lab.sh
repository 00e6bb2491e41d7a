#!/usr/bin/env bash
# make-xen-lab.sh: makes the files of a Xen host (hypervisor, Dom0 kernel with modules, the tree of Xen's tools) from Debian's packages, and
# prints their folder; quick when they are there. Nothing is installed on this machine: scripts/test-xen.py boots them under QEMU's software
# emulation, and the Dom0's files are this machine's with that tree laid over them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
images=${HULL_IMAGES:-$here/../.build/images}
mkdir -p "$images"
images=$(cd "$images" && pwd)
out=$images/xen
recipe=$(cat "$0" "$here/../bench/machine.py" | sha256sum)

readonly version=4.17
# Xen's own, its QEMU, and libraries that little else needs. The other libraries belong to every Debian 12 that setup.sh has prepared.
readonly tools=(
    "xen-hypervisor-$version-amd64" "xen-utils-$version" xen-utils-common xenstore-utils "libxenmisc$version" libxenstore4 libxencall1
    libxendevicemodel1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenhypfs1 libxentoolcore1 libxentoollog1 libyajl2 libfdt1
    qemu-system-xen libspice-server1 libgstreamer1.0-0 libgstreamer-plugins-base1.0-0 libopus0 liborc-0.4-0 libjpeg62-turbo libsasl2-2
    libunwind8 libdw1 libusb-1.0-0
)

if [[ -s $out/recipe && $(cat "$out/recipe") == "$recipe" ]]; then
    echo "$out"
    exit
fi
work=$(mktemp -d -p "$images")
trap 'rm -rf --one-file-system "$work"' EXIT

# A kernel that can be a Dom0's: the cloud kernel has no CONFIG_XEN_DOM0.
kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
[[ -n $kernel ]] || { echo "make-xen-lab.sh: apt knows no linux-image-amd64: run apt-get update" >&2; exit 1; }
mkdir "$work/debs" "$work/kernel" "$work/lab" "$work/lab/root"
(cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download "${tools[@]}" "$kernel" >&2)
for package in "$work"/debs/*.deb; do
    case ${package##*/} in
        linux-image-*) dpkg-deb -x "$package" "$work/kernel" ;;
        *) dpkg-deb -x "$package" "$work/lab/root" ;;
    esac
done
gunzip -c "$work/lab/root/boot/xen-$version-amd64.gz" >"$work/lab/xen"
PYTHONPATH=$here/../bench python3 -c 'import sys; from machine import extract_kernel; extract_kernel(sys.argv[1], sys.argv[2])' \
    "$work/lab/vmlinux" "$work/kernel/boot/vmlinuz-*"

# Every system that has a merged /usr sees these folders there.
root=$work/lab/root
rm -rf "${root:?}/boot" "$root/usr/share/doc" "$root/usr/share/man"
for folder in bin sbin lib; do
    [[ -d $root/$folder ]] || continue
    mkdir -p "$root/usr/$folder"
    cp -a "$root/$folder/." "$root/usr/$folder/"
    rm -rf "${root:?}/$folder"
done
# Of the modules, those that a Dom0 without hardware needs.
tree=$(echo "$work"/kernel/lib/modules/*)
for part in arch crypto lib net fs drivers/xen drivers/block drivers/virtio drivers/char drivers/net/tun.ko drivers/net/veth.ko drivers/net/xen-netback; do
    [[ -e $tree/kernel/$part ]] || continue
    mkdir -p "$root/usr/lib/modules/${tree##*/}/kernel/$part"
    rmdir "$root/usr/lib/modules/${tree##*/}/kernel/$part"
    cp -a "$tree/kernel/$part" "$root/usr/lib/modules/${tree##*/}/kernel/$part"
done
cp "$tree"/modules.{order,builtin,builtin.modinfo} "$root/usr/lib/modules/${tree##*/}/"
ln -s usr/lib "$root/lib"
depmod -b "$root" "${tree##*/}"
rm "$root/lib"
rm -rf "$out"
mv "$work/lab" "$out"
echo "$recipe" >"$out/recipe"
echo "$out"
