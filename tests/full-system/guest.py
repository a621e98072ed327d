"""What a guest boots: the kernel as QEMU loads it fastest, and the files of its first file system."""

import glob
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess

from packages import PackageError, library_folders, program

UNPACK_SECONDS = 120


def vmlinux(tree, tools, into):
    """The uncompressed kernel of a package: no time is spent on it in the guest."""
    image = one(os.path.join(tree, "boot/vmlinuz-*"), os.path.join(tree, "usr/lib/modules/*/vmlinuz"))
    data = open(image, "rb").read()
    # The x86 boot protocol: setup sectors, then the payload's offset and length.
    setup = (data[0x1F1] + 1) * 512
    offset, length = struct.unpack_from("<II", data, 0x248)
    # Its last four bytes are the size of what is in it.
    payload = data[setup + offset:setup + offset + length - 4]
    unpackers = {b"\x28\xb5\x2f\xfd": ["zstd", "-dcq"], b"\x02\x21\x4c\x18": ["lz4", "-dcq"]}
    if payload[:4] not in unpackers:
        raise PackageError(f"{image}: compressed in an unknown way ({payload[:4].hex()})")
    name, *options = unpackers[payload[:4]]
    with open(into, "wb") as file:
        subprocess.run(program(tools, name) + options, input=payload, stdout=file, check=True, timeout=UNPACK_SECONDS)


def one(*patterns):
    """The one file of these patterns."""
    found = [path for pattern in patterns for path in glob.glob(pattern)]
    if len(found) != 1:
        raise PackageError(f"{', '.join(patterns)}: {len(found)} files")
    return found[0]


def modules(tree, wanted):
    """Modules with all they depend on, in the order in which they load: pairs of name and contents."""
    files = {}
    for path in glob.glob(os.path.join(tree, "**/lib/modules/**/*.ko*"), recursive=True):
        files[re.sub(r"\.ko(\.xz)?$", "", os.path.basename(path)).replace("-", "_")] = path
    loaded = {}

    def load(name, needed):
        name = name.replace("-", "_")
        if name in loaded:
            return
        if name not in files:
            # Built into the kernel, or folded into another module by this series.
            if needed:
                raise PackageError(f"{tree}: a module depends on {name}, which is not there")
            return
        raw = open(files[name], "rb").read()
        contents = lzma.decompress(raw) if files[name].endswith(".xz") else raw
        depends = re.search(rb"(?:^|\0)depends=([^\0]*)\0", contents)
        for other in filter(None, (depends.group(1).decode() if depends else "").split(",")):
            load(other, True)
        loaded[name] = contents

    for name in wanted:
        load(name, False)
    return list(loaded.items())


class FirstFiles:
    """The files of the guest's first file system, as a cpio archive (newc)."""

    def __init__(self):
        self.entries = {}

    def add(self, path, contents, mode=0o644):
        """A file, with the folders above it."""
        parts = path.strip("/").split("/")
        for end in range(1, len(parts)):
            self.entries.setdefault("/".join(parts[:end]), (stat.S_IFDIR | 0o755, b""))
        self.entries["/".join(parts)] = (stat.S_IFREG | mode, contents)

    def folder(self, path):
        """An empty folder."""
        self.entries.setdefault(path.strip("/"), (stat.S_IFDIR | 0o755, b""))

    def link(self, path, target):
        """A symbolic link."""
        self.entries[path.strip("/")] = (stat.S_IFLNK | 0o777, target.encode())

    def program(self, path, source, folders=()):
        """A program of this machine, or of an unpacked tree, with the libraries it is linked against."""
        self.add(path, open(source, "rb").read(), 0o755)
        environment = dict(os.environ, LC_ALL="C")
        loader = "/lib64/ld-linux-x86-64.so.2"
        if folders:
            tree_loader = os.path.join(folders[0], "ld-linux-x86-64.so.2")
            command = [tree_loader, "--library-path", ":".join(folders), "--list", source]
        else:
            command = [loader, "--list", source]
        listed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        if "statically linked" in listed.stdout + listed.stderr or listed.returncode != 0:
            return
        for line in listed.stdout.splitlines():
            match = re.match(r"\s*(\S+)(?: => (\S+))? \(0x", line)
            if match and (match.group(2) or match.group(1)).startswith("/"):
                name, where = os.path.basename(match.group(1)), match.group(2) or match.group(1)
                # Programs of another release bring libraries of their own.
                place = f"/opt/lib/{name}" if folders else f"/lib/{name}"
                self.add(place, open(where, "rb").read(), 0o755)
        if not folders:
            self.add(loader, open(loader, "rb").read(), 0o755)

    def tree_program(self, name, tree):
        """A program of an unpacked tree, and a script that starts it with the tree's own loader."""
        command = program(tree, name)
        self.program(f"/opt/bin/{name}", command[-1], library_folders(tree))
        self.add("/opt/lib/ld.so", open(command[0], "rb").read(), 0o755)
        script = f'#!/bin/sh\nexec /opt/lib/ld.so --library-path /opt/lib --argv0 {name} /opt/bin/{name} "$@"\n'
        self.add(f"/tools/{name}", script.encode(), 0o755)

    def write(self, path):
        """Writes the archive."""
        with open(path, "wb") as file:
            for number, (name, (mode, contents)) in enumerate([*self.entries.items(), ("TRAILER!!!", (0, b""))], 1):
                encoded = name.encode() + b"\0"
                fields = [number, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(encoded), 0]
                header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
                file.write(header + b"\0" * (-len(header) % 4) + contents + b"\0" * (-len(contents) % 4))


def stripped(source, into):
    """A program without what only a debugger reads: the guest keeps all its files in memory."""
    shutil.copyfile(source, into)
    subprocess.run(["strip", "--strip-debug", into], check=True, timeout=UNPACK_SECONDS)
    return into
