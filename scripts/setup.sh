#!/usr/bin/env bash
# setup.sh: installs all that building, testing and running Hull needs on Debian 12, as root.
# Quick when all is there. HULL_SETUP_NEWER=no keeps to Debian 12's own QEMU and virtiofsd.
set -euo pipefail
cd "$(dirname "$0")"

readonly packages=(
    # to build
    pkg-config libarchive-dev nettle-dev libseccomp-dev libc6-dev
    # to run: guest kernel, disks, images, network
    linux-image-cloud-amd64 erofs-utils e2fsprogs skopeo nftables iproute2 lz4 zstd xz-utils
    # to test and to make images
    ca-certificates debootstrap docker-registry busybox-static libarchive-tools cpio kmod
    iputils-ping procps python3 netcat-openbsd socat util-linux fio
    # the engines whose runtime hull-runtime is, and the runtimes it stands beside
    docker.io docker-compose containerd podman conmon buildah catatonit runc crun
    containernetworking-plugins netavark aardvark-dns iptables slirp4netns uidmap
    python3-grpcio
    # Podman asks for its version before it asks a runtime for a checkpoint
    criu
)
readonly qemu=(qemu-system-x86 qemu-utils)
# What Debian 13's virtiofsd needs to run beside Debian 12's older glibc.
readonly share_server=(virtiofsd libc6 libgcc-s1 libseccomp2 libcap-ng0)
readonly share_server_dir=/usr/local/lib/hull/virtiofsd

step() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

missing() {
    local name
    for name in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || printf '%s\n' "$name"
    done
}

# Runs apt-get quietly: its words are shown only when it fails.
apt() {
    local log=$work/apt.log
    apt-get -y -qq -o Dpkg::Use-Pty=0 -o Dpkg::Lock::Timeout=300 "$@" >"$log" 2>&1 && return
    cat "$log" >&2
    return 1
}

no_services() {
    # Packages of servers (a registry, for the tests) must not start them.
    [[ -e /usr/sbin/policy-rc.d ]] && return
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    made_policy=yes
}

clean_up() {
    [[ -z $made_policy ]] || rm -f /usr/sbin/policy-rc.d
    rm -rf "$work"
}

install_packages() {
    local -a names
    mapfile -t names < <(missing "${packages[@]}")
    if ((${#names[@]} == 0)); then
        step "packages: all ${#packages[@]} there"
        return
    fi
    step "packages: installing ${names[*]}"
    apt update || fail "apt-get update failed: check the machine's network and package sources"
    # Without a boot loader nobody boots this kernel but Hull, which makes its own initramfs.
    [[ -d /boot/grub ]] || export INITRD=No
    apt install --no-install-recommends "${names[@]}" || fail "apt-get could not install: ${names[*]}"
}

# Prints 0 where there is no QEMU yet.
qemu_major() {
    local version
    version=$(qemu-system-x86_64 --version 2>/dev/null) || version="QEMU emulator version 0"
    sed -n 's/^QEMU emulator version \([0-9]*\).*/\1/p' <<<"$version"
}

# QEMU 10 of the backports suite can save a machine that has shares; 7.2 cannot (docs/adr/001-carrier-of-shares.md).
install_qemu() {
    local source=/etc/apt/sources.list.d/hull-backports.list uri major
    major=$(qemu_major)
    if [[ -z $(missing "${qemu[@]}") ]] && { ((major >= 10)) || [[ $newer == no ]]; }; then
        step "qemu: version $major is there"
        return
    fi
    if [[ $newer == yes && $codename == bookworm ]]; then
        uri=$(./debian-archive.sh)
        if [[ -n $uri ]] && ! grep -rqs bookworm-backports /etc/apt/sources.list /etc/apt/sources.list.d; then
            echo "deb [signed-by=$keyring] $uri bookworm-backports main" >"$source"
        fi
        if apt update && apt install --no-install-recommends -t bookworm-backports "${qemu[@]}"; then
            step "qemu: version $(qemu_major) from bookworm-backports"
            return
        fi
        rm -f "$source"
        step "qemu: bookworm-backports is out of reach, so saving a machine that has shares will be refused"
        apt update || fail "apt-get update failed: check the machine's network and package sources"
    fi
    apt install --no-install-recommends "${qemu[@]}" || fail "apt-get could not install: ${qemu[*]}"
    step "qemu: version $(qemu_major)"
}

# Debian 13's virtiofsd with the C library it needs, in a folder of its own that can be shown whole in an empty root.
# The file `command` there holds its argument vector, one word a line.
install_share_server() {
    if [[ -x /usr/libexec/virtiofsd || -s $share_server_dir/command ]]; then
        step "virtiofsd: there"
        return
    fi
    local uri options
    uri=$(./debian-archive.sh)
    mkdir -p "$work/lists/partial" "$work/unpacked"
    echo "deb [signed-by=$keyring] $uri trixie main" >"$work/sources.list"
    options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$work/lists" -o Dir::State::status=/dev/null
        -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o APT::Sandbox::User=root)
    if [[ $newer == no || -z $uri ]] || ! apt "${options[@]}" update \
        || ! (cd "$work" && apt "${options[@]}" download "${share_server[@]}"); then
        step "virtiofsd: Debian 13's is not used or out of reach, so QEMU 7.2's own serves the shares"
        newer=no # QEMU 10 has none of its own
        return
    fi
    local package
    for package in "$work"/*.deb; do
        dpkg-deb -x "$package" "$work/unpacked"
    done
    local new=$share_server_dir.new
    rm -rf "$new" "$share_server_dir"
    mkdir -p "$new/lib"
    cp "$work/unpacked/usr/libexec/virtiofsd" "$new/virtiofsd"
    local name
    for name in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libgcc_s.so.1 libseccomp.so.2 libcap-ng.so.0; do
        cp -L "$(find "$work/unpacked" -name "$name" | head -1)" "$new/lib/$name"
    done
    mv "$new" "$share_server_dir"
    printf '%s\n' "$share_server_dir/lib/ld-linux-x86-64.so.2" --library-path "$share_server_dir/lib" \
        "$share_server_dir/virtiofsd" >"$share_server_dir/command"
    local -a command
    mapfile -t command <"$share_server_dir/command"
    step "virtiofsd: $("${command[@]}" --version) from Debian 13, in $share_server_dir"
}

((EUID == 0)) || fail "run it as root: it installs packages"
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
[[ -e /etc/debian_version ]] || fail "this script knows Debian only: install ${packages[*]} ${qemu[*]} by hand"
./check-swift.sh
made_policy=
newer=${HULL_SETUP_NEWER:-yes}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
work=$(mktemp -d)
trap clean_up EXIT
export DEBIAN_FRONTEND=noninteractive
no_services
install_packages
install_share_server
install_qemu
step "done"
