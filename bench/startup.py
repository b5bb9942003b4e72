"""CPU time to start: `segdsl check` over importing pydantic, and `segdsl --help` over a bare Python. One JSON line.

User and system time of the child processes, the median of N runs of each after one that is not counted, all four
commands in turn, so that a change of the machine's speed meets all of them alike.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "specs/litehrnet_s.seg"
CHECK_LIMIT_MS, HELP_LIMIT_MS = 150, 60
COMMANDS = {
    "bare": [sys.executable, "-c", "pass"],
    "pydantic": [sys.executable, "-c", "import pydantic"],
    "help": [sys.executable, "-c", "from segdsl.cli import main; main()", "--help"],
    "check": [sys.executable, "-c", "from segdsl.cli import main; main()", "check", PROGRAM],
}
"""The commands run as the installed script does: importing `main`, then calling it."""


def cpu_ms(command: list[str]) -> float:
    """User and system time of one run, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def measure(runs: int) -> dict[str, float]:
    """The median CPU time of each command."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(runs + 1):
        for name, command in COMMANDS.items():
            taken = cpu_ms(command)
            if number:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=15, help="counted runs of each command")
    parser.add_argument("--enforce", action="store_true", help="exit with 1 when a limit is missed")
    options = parser.parse_args()
    times = measure(options.runs)
    check, help = times["check"] - times["pydantic"], times["help"] - times["bare"]
    result = {
        "benchmark": "startup",
        "check_over_pydantic_ms": round(check, 1),
        "check_limit_ms": CHECK_LIMIT_MS,
        "help_over_bare_ms": round(help, 1),
        "help_limit_ms": HELP_LIMIT_MS,
        "runs": options.runs,
        **{f"{name}_ms": round(value, 1) for name, value in times.items()},
    }
    print(json.dumps(result))
    if options.enforce and (check > CHECK_LIMIT_MS or help > HELP_LIMIT_MS):
        sys.exit(1)


if __name__ == "__main__":
    main()
