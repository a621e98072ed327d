"""A kernel with iommufd. Debian's have none, so this one is built: Debian's newest source with what a guest needs
(`iommufd.config`), everything built in.

The interface is as young as Linux 6.19, where iommufd takes the BARs of peers.
"""

import os
import re
import shutil
import subprocess
import time

from packages import QEMU_SUITES, PackageError

HERE = os.path.dirname(os.path.abspath(__file__))
# What this kernel is called beside the series of Debian's.
NAME = "iommufd"
FRAGMENT = os.path.join(HERE, "iommufd.config")
BUILD_SECONDS = 1500


class BuildError(Exception):
    """A source that was there and could not be built."""


def recipe():
    """What the kernel is built by: with another it is built again."""
    return open(FRAGMENT, encoding="utf-8").read()


def build(apt, tree):
    """Downloads the source and builds `vmlinux` into `tree`; nothing else of it is kept."""
    began = time.monotonic()
    source, objects = os.path.join(tree, "source"), os.path.join(tree, "objects")
    name = newest_source(apt)
    os.makedirs(source)
    for archive in apt.download(name):
        unpack(archive, name, source)
    make = ["make", "-C", source, f"O={objects}", f"-j{len(os.sched_getaffinity(0))}"]
    run(make + [f"KCONFIG_ALLCONFIG={FRAGMENT}", "allnoconfig"])
    check(os.path.join(objects, ".config"))
    print(f"building {name}: minutes", flush=True)
    run(make + ["vmlinux"])
    vmlinux = os.path.join(tree, "vmlinux")
    subprocess.run(["strip", "--strip-debug", "-o", vmlinux, os.path.join(objects, "vmlinux")], check=True, timeout=60)
    for folder in [source, objects]:
        shutil.rmtree(folder)
    print(f"built {name} in {time.monotonic() - began:.0f} s", flush=True)


def newest_source(apt):
    """The package with the newest source in the machine's Debian sources."""
    shown = apt.run("apt-cache", "-t", QEMU_SUITES[-1], "show", "linux-source")
    names = re.findall(r"^Depends:.*?(linux-source-(\d+)\.(\d+))", shown, re.MULTILINE)
    if not names:
        raise PackageError("no linux-source in the machine's Debian sources")
    return max(names, key=lambda found: (int(found[1]), int(found[2])))[0]


def unpack(archive, name, source):
    """Unpacks the source that a package has packed inside."""
    inner = f"./usr/src/{name}.tar.xz"
    files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
    packed = subprocess.Popen(["tar", "-xO", inner], stdin=files.stdout, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-xJ", "--strip-components=1", "-C", source], stdin=packed.stdout, check=True,
                   timeout=BUILD_SECONDS)
    for process in [packed, files]:
        process.stdout.close()
        if process.wait(60) != 0:
            raise PackageError(f"{archive} has no {inner}")


def check(configuration):
    """What was asked for and dropped without a word is said."""
    has = open(configuration, encoding="utf-8").read().splitlines()
    missing = [line for line in recipe().splitlines() if line.startswith("CONFIG_") and line not in has]
    if missing:
        raise BuildError(f"the source does not take {', '.join(missing)}")


def run(command):
    """Runs a command of the build; what it says only when it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BuildError(str(error)) from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}:\n{done.stdout[-3000:]}")
