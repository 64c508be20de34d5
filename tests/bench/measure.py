"""What a process took, for the benchmarks that run one. Linux."""

import sys
import time
from pathlib import Path


def cpu_ms(pid):
    """The CPU time of a process up to now, of all its threads: its CPU clock (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e6


def peak_mb(pid):
    """The most memory that was ever resident. Not getrusage's: that counts what the process was before exec."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    sys.exit(f"process {pid} has no VmHWM")
