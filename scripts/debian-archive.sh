#!/usr/bin/env bash
# debian-archive.sh: prints the address of the archive from which this machine gets its own Debian release.
set -euo pipefail
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
# shellcheck disable=SC2016 # apt-get fills these in
apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
    | awk -v release="$codename" '$1 == release && $2 == "main" && !uri { uri = $3 } END { print uri }'
