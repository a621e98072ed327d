"""Everything that a guest is made of, unpacked and built below a folder.

What was fetched once is not asked for again, until what it is made of changes or the folder is removed.
"""

import os
import shutil

import own_kernel
from packages import QEMU_SUITES, Apt

# Packages, each tree with all that they depend on.
QEMU = ["qemu-system-x86"]
TOOLS = ["busybox-static", "e2fsprogs", "nbd-client", "fio", "dmsetup", "zstd", "lz4"]


def kernel_recipe(series):
    """What a kernel is made of, and how to have it."""
    if series == own_kernel.NAME:
        return [own_kernel.recipe()], own_kernel.build
    return [series], lambda apt, tree: apt.kernel(series, tree)


class Trees:
    """Everything that a guest is made of, below `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.qemu = os.path.join(folder, "qemu")
        self.tools = os.path.join(folder, "tools")

    def kernel(self, series):
        """Where a kernel is unpacked."""
        return os.path.join(self.folder, f"linux-{series}")

    def fetch(self, series):
        """Downloads what is not there yet."""
        apt = None
        wanted = [
            (self.qemu, QEMU, lambda a, t: a.unpacked(QEMU, t, ["-t", QEMU_SUITES[-1]])),
            (self.tools, TOOLS, lambda a, t: a.unpacked(TOOLS, t, ["-t", QEMU_SUITES[0]])),
            *[(self.kernel(s), *kernel_recipe(s)) for s in series],
        ]
        for tree, names, download in wanted:
            stamp, complete = tree + ".complete", " ".join(names)
            if os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == complete:
                continue
            if apt is None:
                apt = Apt(os.path.join(self.folder, "apt"))
                apt.run("apt-get", "update", "-qq")
            print(f"fetching {os.path.basename(tree)}", flush=True)
            shutil.rmtree(tree, ignore_errors=True)
            download(apt, tree)
            with open(stamp, "w", encoding="utf-8") as file:
                file.write(complete)
