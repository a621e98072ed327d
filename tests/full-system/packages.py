"""Debian packages, downloaded and unpacked below a folder; nothing is installed, and nobody needs to be root.

apt runs with a configuration of its own: an empty list of installed packages, and the machine's own sources with more
suites.
"""

import glob
import os
import re
import subprocess

# QEMU needs vfio-user (10.1 and later).
QEMU_SUITES = ["trixie", "trixie-backports"]
DOWNLOAD_SECONDS = 600


class PackageError(Exception):
    """What could not be had, and why."""


def machine_sources():
    """The machine's Debian sources, as paragraphs of deb822."""
    paragraphs = []
    for name in sorted(glob.glob("/etc/apt/sources.list.d/*.sources")):
        text = open(name, encoding="utf-8").read()
        for paragraph in re.split(r"\n\s*\n", text):
            lines = [line for line in paragraph.splitlines() if line.strip() and not line.startswith("#")]
            if any(line.startswith("Types:") for line in lines):
                paragraphs.append("\n".join(lines))
    for name in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*.list"))]:
        if os.path.exists(name):
            paragraphs += one_line_sources(open(name, encoding="utf-8").read())
    return paragraphs


def one_line_sources(text):
    """`deb [signed-by=F] URI SUITE COMPONENT…` as paragraphs."""
    found = []
    for match in re.finditer(r"^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s+(.+)$", text, re.MULTILINE):
        options, uri, suite, components = match.groups()
        paragraph = f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}"
        signed = re.search(r"signed-by=(\S+)", options or "")
        found.append(paragraph + (f"\nSigned-By: {signed.group(1)}" if signed else ""))
    return found


def with_more_suites(paragraphs):
    """The sources, and once more the one of the release itself with QEMU's suites."""
    codename = re.search(r"^VERSION_CODENAME=(\S+)", open("/etc/os-release", encoding="utf-8").read(), re.MULTILINE)
    for paragraph in paragraphs:
        suites = re.search(r"^Suites:\s*(.+)$", paragraph, re.MULTILINE).group(1).split()
        if codename and codename.group(1) in suites and "main" in paragraph:
            more = re.sub(r"^Suites:.*$", "Suites: " + " ".join(QEMU_SUITES), paragraph, flags=re.MULTILINE)
            return paragraphs + [more]
    raise PackageError("no Debian source of this release in /etc/apt: QEMU and the kernels come from there")


class Apt:
    """apt with everything of its own below `folder`."""

    def __init__(self, folder):
        self.folder = folder
        for name in ["lists/partial", "archives/partial", "sources"]:
            os.makedirs(os.path.join(folder, name), exist_ok=True)
        open(os.path.join(folder, "status"), "w", encoding="utf-8").close()
        with open(os.path.join(folder, "sources", "all.sources"), "w", encoding="utf-8") as file:
            file.write("\n\n".join(with_more_suites(machine_sources())) + "\n")
        settings = {
            "Dir::State::status": "status",
            "Dir::State::lists": "lists",
            "Dir::Cache": "",
            "Dir::Cache::archives": "archives",
            "Dir::Etc::sourceparts": "sources",
        }
        lines = [f'{key} "{os.path.join(folder, value)}";' for key, value in settings.items()]
        lines += ['Dir::Etc::sourcelist "/dev/null";', 'Dir::Etc::preferencesparts "/dev/null";']
        lines += ['Debug::NoLocking "true";', 'APT::Sandbox::User "root";', 'APT::Install-Recommends "false";']
        with open(os.path.join(folder, "apt.conf"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def run(self, *command):
        """Runs a command of apt; its output."""
        environment = dict(os.environ, APT_CONFIG=os.path.join(self.folder, "apt.conf"), LC_ALL="C")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS,
                              cwd=os.path.join(self.folder, "archives"), check=False)
        if done.returncode != 0:
            raise PackageError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def unpacked(self, packages, tree, options=()):
        """Downloads packages with all they depend on, and unpacks them into `tree`."""
        plan = self.run("apt-get", "install", "-y", "-s", *options, *packages)
        self.run("apt-get", "install", "-y", "-qq", "--download-only", *options, *packages)
        for name, version in re.findall(r"^Inst (\S+?)(?::\S+)? \((\S+) ", plan, re.MULTILINE):
            archive = f"{name}_{version.replace(':', '%3a')}_*.deb"
            self.unpack(glob.glob(os.path.join(self.folder, "archives", archive)), tree)

    def kernel(self, series, tree):
        """Downloads the newest cloud kernel of a series, such as 6.12, and unpacks it into `tree`."""
        shown = self.run("apt-cache", "show", "linux-image-cloud-amd64")
        for paragraph in shown.split("\n\n"):
            version = re.search(r"^Version: (\S+)", paragraph, re.MULTILINE)
            image = re.search(r"^Depends:.*?(linux-image-[0-9]\S+)", paragraph, re.MULTILINE)
            if version and image and version.group(1).startswith(series + "."):
                return self.unpack([path for name in self.parts(image.group(1)) for path in self.download(name)], tree)
        raise PackageError(f"no cloud kernel {series} in the machine's Debian sources")

    def parts(self, image):
        """A kernel's packages: it was one, and is several since 7.x, of the same version and ending."""
        depends = re.search(r"^Depends: (.+)$", self.run("apt-cache", "show", image), re.MULTILINE)
        ending = image.removeprefix("linux-image")
        return [image] + re.findall(r"linux-(?:binary|modules)" + re.escape(ending), depends.group(1) if depends else "")

    def download(self, name):
        """Downloads one package; where it is."""
        self.run("apt-get", "download", name)
        return glob.glob(os.path.join(self.folder, "archives", name + "_*.deb"))

    def unpack(self, archives, tree):
        """Unpacks archives."""
        os.makedirs(tree, exist_ok=True)
        if not archives:
            raise PackageError(f"{tree}: apt downloaded other files than it said")
        for path in archives:
            subprocess.run(["dpkg-deb", "-x", path, tree], check=True, timeout=DOWNLOAD_SECONDS)


def program(tree, name):
    """The command that starts a program of an unpacked tree with the tree's own libraries."""
    found = [path for folder in ["usr/bin", "usr/sbin", "bin", "sbin"]
             for path in glob.glob(os.path.join(tree, folder, name))]
    loader = os.path.join(tree, "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    if not found or not os.path.exists(loader):
        raise PackageError(f"{name} is not in {tree}")
    return [loader, "--library-path", ":".join(library_folders(tree)), "--argv0", name, found[0]]


def library_folders(tree):
    """Where an unpacked tree has its libraries."""
    folders = [os.path.join(tree, folder) for folder in ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]]
    nested = glob.glob(os.path.join(tree, "usr/lib/x86_64-linux-gnu/*/"))
    return [folder for folder in folders + nested if os.path.isdir(folder)]
