#!/usr/bin/env python3
"""oci-archive.py ROOTFS OUT CONFIG: one image of one layer, as an oci-archive.

CONFIG is the `config` object of the image specification as JSON. The same tree makes the same bytes.
"""
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile


def main():
    rootfs, out, config = sys.argv[1:4]
    layer = subprocess.run(
        ["tar", "--sort=name", "--mtime=@0", "--numeric-owner", "--xattrs", "--format=posix",
         "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "-C", rootfs, "-cf", "-", "."],
        check=True, stdout=subprocess.PIPE).stdout
    blobs = {}

    def blob(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def document(value, media_type):
        return blob(json.dumps(value, separators=(",", ":")).encode(), media_type)

    oci = "application/vnd.oci.image"
    packed = blob(gzip.compress(layer, 6, mtime=0), f"{oci}.layer.v1.tar+gzip")
    described = document({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": json.loads(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "scripts/make-image.sh"}],
    }, f"{oci}.config.v1+json")
    manifest = document({
        "schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "config": described, "layers": [packed],
    }, f"{oci}.manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    manifest["platform"] = {"architecture": "amd64", "os": "linux"}

    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({
            "schemaVersion": 2, "mediaType": f"{oci}.index.v1+json", "manifests": [manifest],
        }).encode(),
        **{f"blobs/sha256/{digest}": data for digest, data in blobs.items()},
    }
    with tarfile.open(out, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))


main()
