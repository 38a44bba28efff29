"""Facts of the machine that the agent runs on; what cannot be read is null."""

from __future__ import annotations

import os
import platform
import re
import socket
import time
from pathlib import Path
from typing import Any


def device_facts(name: str | None, engine: str, device: str | None) -> dict[str, Any]:
    """The facts of the machine that the client's report shows."""
    return {
        "name": name or first_text(Path("/proc/device-tree/model")) or socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "python": platform.python_version(),
        "engine": engine,
        "device": device,
    }


def clock_facts() -> dict[str, Any]:
    """The clock that passes are timed by."""
    info = time.get_clock_info("perf_counter")
    return {"source": info.implementation, "resolution_ns": max(1, round(info.resolution * 1e9))}


def processor() -> str:
    """The processor's name, as the kernel names it."""
    text = first_text(Path("/proc/cpuinfo")) or ""
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def cores() -> int | None:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def memory_bytes() -> int | None:
    """Memory of the machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def resident_bytes() -> int | None:
    """Memory that this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError, IndexError):
        return None


def first_text(path: Path) -> str | None:
    """A small file's text without the zero byte that the device tree ends with, or None."""
    try:
        return path.read_bytes()[:65536].decode("utf-8", "replace").rstrip("\0\n") or None
    except OSError:
        return None
