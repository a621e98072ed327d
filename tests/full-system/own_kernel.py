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
    package, source, objects = [os.path.join(tree, name) for name in ["package", "source", "objects"]]
    name = newest_source(apt)
    apt.unpack(apt.download(name), package)
    os.makedirs(source)
    packed = os.path.join(package, "usr/src", f"{name}.tar.xz")
    run(["tar", "-xJf", packed, "--strip-components=1", "-C", source])
    make = ["make", "-C", source, f"O={objects}", f"-j{len(os.sched_getaffinity(0))}"]
    run(make + [f"KCONFIG_ALLCONFIG={FRAGMENT}", "allnoconfig"])
    check(os.path.join(objects, ".config"))
    print(f"building {name}: minutes", flush=True)
    run(make + ["vmlinux"])
    run(["strip", "--strip-debug", "-o", os.path.join(tree, "vmlinux"), os.path.join(objects, "vmlinux")])
    for folder in [package, source, objects]:
        shutil.rmtree(folder)
    print(f"built {name} in {time.monotonic() - began:.0f} s", flush=True)


def newest_source(apt):
    """The package with the newest source in the machine's Debian sources."""
    shown = apt.run("apt-cache", "-t", QEMU_SUITES[-1], "show", "linux-source")
    names = re.findall(r"^Depends:.*?(linux-source-(\d+)\.(\d+))", shown, re.MULTILINE)
    if not names:
        raise PackageError("no linux-source in the machine's Debian sources")
    return max(names, key=lambda found: (int(found[1]), int(found[2])))[0]


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
