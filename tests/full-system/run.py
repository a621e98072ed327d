"""Boots real kernels in QEMU and runs the checks of `in_guest` there: VFIO, an IOMMU, NVMe controllers of QEMU's own; and
the Verilated card beside them, in a process of its own.

Nothing but downloaded packages is needed, nobody needs to be root, no hardware virtualisation is used. Everything is
below the folder of --folder; what was fetched is kept there.

    python3 tests/full-system/run.py --programs target/debug --folder target/full-system [--kernels 6.1,iommufd]

Leaves with 0 when every check passed on every kernel. A guest that does not end in time is stopped, and fails. With
--may-skip it also leaves with 0 when something could not be downloaded, after it has said so.
"""

import argparse
import errno
import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import guest  # noqa: E402
import own_kernel  # noqa: E402
from packages import PackageError, program  # noqa: E402
from trees import Trees  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = ["irqbypass", "vfio_virqfd", "vfio", "vfio_iommu_type1", "vfio-pci-core", "vfio-pci", "nbd", "ext4", "dm-mod"]
# Programs of the tools' packages that scenarios use in the guest.
GUEST_TOOLS = ["mkfs.ext4", "e2fsck", "nbd-client", "fio", "dmsetup"]
# What is run, and where, unless something else is asked for.
KERNELS = "6.1,6.12"
SCENARIOS = "bare,no-iommu,ssds,software,errors,removal,card,card-errors,card-removal"
SSD_BYTES = 256 << 20
# Where the second SSD fails in the scenarios of errors: in its part of the mirror, as `in_guest` knows (served.rs).
BAD_BLOCKS = {"read": 130 << 20, "write": 140 << 20}
MEMORY = "1536M"
# Longest time in which the card's program listens, or stops.
CARD_SECONDS = 20
SKIPPED = """
****************************************************************************************
*  FULL SYSTEM SKIPPED: what it boots could not be downloaded. NOTHING OF IT WAS RUN.  *
****************************************************************************************
"""


class Boot:
    """One kernel with what it boots into."""

    def __init__(self, trees, series, programs, folder):
        self.trees, self.series, self.folder = trees, series, os.path.join(folder, f"run-{series}")
        os.makedirs(self.folder, exist_ok=True)
        # In the package's own tree: with another package it is unpacked again.
        self.kernel = os.path.join(trees.kernel(series), "vmlinux")
        if not os.path.exists(self.kernel):
            guest.vmlinux(trees.kernel(series), trees.tools, self.kernel + ".part")
            os.rename(self.kernel + ".part", self.kernel)
        self.initrd = os.path.join(self.folder, "initrd")
        self.first_files(programs).write(self.initrd)

    def first_files(self, programs):
        """Everything the guest has."""
        files = guest.FirstFiles()
        for name in ["proc", "sys", "dev", "tmp", "mnt", "root"]:
            files.folder(name)
        files.add("/init", open(os.path.join(HERE, "init.sh"), "rb").read(), 0o755)
        busybox = program(self.trees.tools, "busybox")[-1]
        files.add("/bin/busybox", open(busybox, "rb").read(), 0o755)
        files.link("/bin/sh", "busybox")
        for name in ["in_guest", "volplane"]:
            built = os.path.join(programs, name)
            if os.path.exists(built):
                files.program(f"/bin/{name}", guest.stripped(built, os.path.join(self.folder, name)))
        for name in GUEST_TOOLS:
            files.tree_program(name, self.trees.tools)
        loaded = guest.modules(self.trees.kernel(self.series), MODULES)
        for name, contents in loaded:
            files.add(f"/modules/{name}.ko", contents)
        files.add("/modules/order", "".join(f"{name}\n" for name, _ in loaded).encode())
        return files

    def command(self, scenario, card_socket):
        """QEMU's command line: an emulated IOMMU, a root port each for the card and two NVMe controllers."""
        qemu = program(self.trees.qemu, "qemu-system-x86_64")
        share = os.path.join(self.trees.qemu, "usr/share")
        firmware = [option for name in ["qemu", "seabios"] for option in ["-L", os.path.join(share, name)]]
        command = qemu + firmware + [
            "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "1", "-m", MEMORY,
            "-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on", "-machine", "memory-backend=memory",
            *([] if scenario == "no-iommu" else ["-device", "intel-iommu,intremap=on,caching-mode=on"]),
            "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-qmp", f"unix:{self.monitor()},server=on,wait=off",
            "-kernel", self.kernel, "-initrd", self.initrd,
            # Without no_timer_check the guest takes a loaded machine for a broken timer.
            "-append", "console=ttyS0 panic=-1 quiet no_timer_check intel_iommu=on hugepages=8 "
                       f"rdinit=/init scenario={scenario}",
        ]
        for port in range(3):
            command += ["-device", f"pcie-root-port,id=port{port},chassis={port + 1},slot={port + 1}"]
        if card_socket:
            command += ["-device", '{"driver":"vfio-user-pci","bus":"port0","x-msg-timeout":60000,'
                                   f'"socket":{{"type":"unix","path":"{card_socket}"}}}}']
        for number in [0, 1]:
            disk = os.path.join(self.folder, f"ssd{number}.raw")
            with open(disk, "wb") as file:
                file.truncate(SSD_BYTES)
            # The first has memory of its own in BAR2, so that the second has a peer to write to.
            memory = ",cmb_size_mb=2,legacy-cmb=on" if number == 0 else ""
            bad = BAD_BLOCKS if number == 1 and scenario.endswith("errors") else {}
            # Functions of one device are one IOMMU group.
            place = f"bus=port1,addr=0.{number},multifunction=on" if scenario == "bare" else f"bus=port{number + 1}"
            command += ["-blockdev", json.dumps(block_node(f"disk{number}", disk, bad)),
                        "-device", f"nvme,id=ssd{number},serial=ssd{number},drive=disk{number},{place}{memory}"]
        return command

    def run(self, scenario, seconds, card):
        """Boots, and gives what was printed and whether the guest ended by itself. `card` is its program, or none."""
        log = os.path.join(self.folder, f"{scenario}.log")
        qemu_log = os.path.join(self.folder, f"{scenario}-qemu.log")
        with open(log, "wb") as file, open(qemu_log, "wb") as errors, Card(card, self.folder) as at:
            started = subprocess.Popen(self.command(scenario, at), stdin=subprocess.DEVNULL, stdout=file,
                                       stderr=errors)
            deadline, done = time.monotonic() + seconds, 0
            while started.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                wishes = re.findall(r"^HOST remove (\S+)$", read(log), re.MULTILINE)
                for device in wishes[done:]:
                    remove(self.monitor(), device)
                done = len(wishes)
            started.kill()
            started.wait()
        return read(log), "GUEST ended with 0" in read(log)

    def monitor(self):
        """QEMU's socket for commands."""
        return os.path.join(self.folder, "qmp.sock")


def block_node(name, disk, bad):
    """What QEMU calls a block node: a file, where each kind of access in `bad` always fails at one offset."""
    errors = [{"event": "none", "iotype": kind, "sector": offset // 512, "errno": errno.EIO}
              for kind, offset in bad.items()]
    file = {"driver": "raw", "file": {"driver": "file", "filename": disk}}
    if errors:
        file = {"driver": "blkdebug", "inject-error": errors, "image": file}
    return {"node-name": name, **file}


def read(log):
    """What a guest has printed."""
    return open(log, encoding="utf-8", errors="replace").read().replace("\r", "")


def remove(monitor, device):
    """Asks QEMU to pull a device out; it does when the guest has let it go."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(CARD_SECONDS)
        client.connect(monitor)
        answers = client.makefile("r", encoding="utf-8")
        answers.readline()
        for command in [{"execute": "qmp_capabilities"}, {"execute": "device_del", "arguments": {"id": device}}]:
            client.sendall(json.dumps(command).encode() + b"\n")
            while "return" not in (answer := json.loads(answers.readline())):
                if "error" in answer:
                    raise PackageError(f"QEMU: {answer['error']}")


class Card:
    """The card in a process of its own, as long as a guest runs."""

    def __init__(self, program_path, folder):
        self.program, self.folder, self.process = program_path, folder, None

    def __enter__(self):
        """Starts it and waits until it listens; its socket, or none without a program."""
        if self.program is None:
            return None
        path = os.path.join(self.folder, "card.sock")
        if os.path.exists(path):
            os.unlink(path)
        with open(os.path.join(self.folder, "volplane-card.log"), "wb") as log:
            self.process = subprocess.Popen([self.program, "--socket", path], stdout=log, stderr=log)
        deadline = time.monotonic() + CARD_SECONDS
        while not os.path.exists(path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise PackageError(f"{self.program} does not listen, see {self.folder}/volplane-card.log")
            time.sleep(0.05)
        return path

    def __exit__(self, *_):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(CARD_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def checks(text):
    """The checks that a guest reported: name to what it said."""
    return dict(re.findall(r"^CHECK (.+?): ((?:ok|FAILED).*)$", text, re.MULTILINE))


def table(columns, results):
    """Checks down, kernels across."""
    names = list(dict.fromkeys(name for column in columns for name in results[column]))
    width = max([len(name) for name in names] + [5])
    lines = ["  ".join([f"{'check':<{width}}"] + [f"{column:<8}" for column in columns])]
    for name in names:
        cells = [results[column].get(name, "missing").split(" ")[0].rstrip(",") for column in columns]
        lines.append("  ".join([f"{name:<{width}}"] + [f"{cell:<8}" for cell in cells]))
    return "\n".join(line.rstrip() for line in lines)


def all_kernels(boots, scenario, seconds, card):
    """Boots all kernels: each with what it printed, whether it ended, and its time. A guest keeps one core busy and the
    card another, so guests without a card run side by side."""
    uses_card = scenario.startswith("card")

    def run(kernel):
        began = time.monotonic()
        text, ended = boots[kernel].run(scenario, seconds, card if uses_card else None)
        return kernel, text, ended, time.monotonic() - began

    with ThreadPoolExecutor(1 if uses_card else len(boots)) as pool:
        yield from pool.map(run, boots)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", required=True, help="where `in_guest`, `volplane` and `volplane-card` were built")
    parser.add_argument("--folder", required=True, help="where everything is kept")
    parser.add_argument("--kernels", default=KERNELS,
                        help=f"series, with commas; {own_kernel.NAME}: one built here that has it")
    parser.add_argument("--scenarios", default=SCENARIOS, help="what `in_guest` is to do, with commas")
    parser.add_argument("--seconds", type=int, default=300, help="longest time of one boot")
    parser.add_argument("--may-skip", action="store_true", help="a download that fails is said, and is no failure")
    given = parser.parse_args()
    folder, series = os.path.abspath(given.folder), given.kernels.split(",")
    trees = Trees(folder)
    card = os.path.join(os.path.abspath(given.programs), "volplane-card")
    failed = False
    try:
        trees.fetch(series)
    except (PackageError, subprocess.SubprocessError, OSError) as error:
        print(f"full-system: {error}", file=sys.stderr)
        if not given.may_skip:
            return 1
        print(SKIPPED, file=sys.stderr)
        return 0
    except own_kernel.BuildError as error:
        print(f"full-system: {error}", file=sys.stderr)
        return 1
    try:
        boots = {kernel: Boot(trees, kernel, given.programs, folder) for kernel in series}
        for scenario in given.scenarios.split(","):
            # What is built in is not missing.
            able = {kernel: boot for kernel, boot in boots.items() if (scenario, kernel) != ("bare", own_kernel.NAME)}
            if not able:
                continue
            results = {}
            for kernel, text, ended, seconds in all_kernels(able, scenario, given.seconds, card):
                boot = boots[kernel]
                results[kernel] = checks(text)
                bad = {name: said for name, said in results[kernel].items() if not said.startswith("ok")}
                print(f"{scenario} on {kernel}: {len(results[kernel])} checks, {len(bad)} failed, "
                      f"{seconds:.1f} s", flush=True)
                for name, said in bad.items():
                    print(f"    {name}: {said}")
                if not ended:
                    print(f"    the guest did not end well; the end of {boot.folder}/{scenario}.log:")
                    print("\n".join(f"    | {line}" for line in text.splitlines()[-15:]))
                failed |= bool(bad) or not ended or not results[kernel]
            print(table(list(able), results))
    except (PackageError, subprocess.SubprocessError, OSError) as error:
        print(f"full-system: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
