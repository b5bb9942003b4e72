"""CPU time of start-up: `segdsl check` in excess of importing pydantic, and `segdsl --help` in excess of bare Python.

Results are medians of N runs after a warm-up, as user plus system time of the child processes. The four commands run in
turn, so that changes of the machine's speed affect all of them alike. Prints one line of JSON.
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
"""The commands; those of segdsl import and call `main` as the installed script does."""


def cpu_ms(command: list[str]) -> float:
    """Return the user plus system time of one run, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def measure_startup(runs: int) -> dict[str, float]:
    """Return the median CPU time of each command, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(runs + 1):
        for name, command in COMMANDS.items():
            duration = cpu_ms(command)
            # The first round may have to read files from disk.
            if number:
                times[name].append(duration)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=15, help="number of runs of each command")
    parser.add_argument("--enforce", action="store_true", help="exit with 1 if a limit is exceeded")
    options = parser.parse_args()
    times = measure_startup(options.runs)
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
