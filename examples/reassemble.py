#!/usr/bin/env python3
"""Puts a virtual disk together from the backing files of its devices.

    reassemble.py FILE.toml DISK > image

Knows the TOML and arithmetic, and nothing of Volplane's code: what it writes is what the disk must
read as. Devices in memory or behind a PCI address cannot be read.
"""

import os
import re
import sys
import tomllib

UNITS = {"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}


def size(value):
    """Bytes of an integer or of a string like "64KiB"."""
    if isinstance(value, int):
        return value
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", value).groups()
    return int(number) << UNITS[unit]


def ceil_div(a, b):
    return -(-a // b)


def pieces(disk):
    """(device, offset on it, bytes) for each stripe unit of the disk, in order of the disk."""
    allocation_size = size(disk["allocation_size"])
    for segment in disk["segment"]:
        columns = [(column["device"], size(column["offset"])) for column in segment["columns"]]
        unit = size(segment.get("stripe_unit", segment.get("extent_size", allocation_size)))
        left = size(segment["size"])
        used = 0  # bytes that earlier allocations of the segment took in every column
        while left > 0:
            allocation = min(left, allocation_size)
            units = ceil_div(allocation, unit)
            for number in range(units):
                row, column = divmod(number, len(columns))
                device, offset = columns[column]
                yield device, offset + used + row * unit, min(unit, allocation - number * unit)
            used += ceil_div(units, len(columns)) * unit
            left -= allocation


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    toml, name = sys.argv[1:]
    with open(toml, "rb") as file:
        configuration = tomllib.load(file)
    disk = next((disk for disk in configuration["disk"] if disk["name"] == name), None)
    if disk is None:
        sys.exit(f"{toml}: there is no disk {name!r}")
    folder = os.path.dirname(toml)
    paths = {device["name"]: device.get("file") for device in configuration["device"]}
    files = {}
    for device, offset, length in pieces(disk):
        if device not in files:
            if paths[device] is None:
                sys.exit(f"{toml}: device {device!r} has no backing file")
            files[device] = open(os.path.join(folder, paths[device]), "rb")
        data = os.pread(files[device].fileno(), length, offset)
        if len(data) != length:
            sys.exit(f"{files[device].name}: ends before byte {offset + length}")
        sys.stdout.buffer.write(data)


if __name__ == "__main__":
    main()
