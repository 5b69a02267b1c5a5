"""The machine under the bench: cores, CPU time, memory, system calls, and what it is.

CPU time is the scheduler's own sum in nanoseconds (/proc/PID/schedstat), all threads and children of a proxy, for ticks
of 10 ms are too coarse for a second of copying.
"""

import os
import platform
import re
import resource
import subprocess

PROXY_CORE, LOAD_CORE = 0, 1


def pin(core):
    os.sched_setaffinity(0, {core % os.cpu_count()})


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def read(path):
    with open(path) as file:
        return file.read()


def family(pid):
    """The process and its descendants that live now."""
    found = [pid]
    for process in found:
        try:
            for thread in os.listdir(f"/proc/{process}/task"):
                found += [int(child) for child in read(f"/proc/{process}/task/{thread}/children").split()]
        except OSError:
            continue  # it has just ended
    return found


def cpu_seconds(pid):
    """Of the process, its threads and its descendants; what ended before it was looked at is missing."""
    nanoseconds = 0
    for process in family(pid):
        try:
            for thread in os.listdir(f"/proc/{process}/task"):
                nanoseconds += int(read(f"/proc/{process}/task/{thread}/schedstat").split()[0])
        except OSError:
            continue
    return nanoseconds / 1e9


def memory_kb(pid):
    """What the process has for itself: anonymous memory in use, not its program's and libraries' pages."""
    return sum(int(re.search(r"^Anonymous:\s+(\d+)", read(f"/proc/{process}/smaps_rollup"), re.M).group(1))
               for process in family(pid))


def peak_memory_mb(pid):
    return sum(int(re.search(r"VmHWM:\s+(\d+)", read(f"/proc/{process}/status")).group(1))
               for process in family(pid)) / 1024


class SystemCalls:
    """Counts the system calls of a process and its family by strace: slow, so never while something else is measured."""

    def __init__(self, pid, directory):
        self.output = os.path.join(directory, "strace")
        processes = [argument for process in family(pid) for argument in ("-p", str(process))]
        self.process = subprocess.Popen(["strace", "-f", "-c", "-o", self.output, *processes],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.process.stderr.readline()  # it says that it has attached

    def stop(self):
        """{call: times}"""
        self.process.send_signal(2)
        self.process.communicate(timeout=20)
        counts = {}
        for line in read(self.output).splitlines():
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                counts[fields[-1]] = int(fields[3])
        return counts


def describe():
    cpu = re.search(r"model name\s*:\s*(.*)", read("/proc/cpuinfo"))
    memory = int(re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo")).group(1)) / 1024 / 1024
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(),
            "memory_gb": round(memory, 1), "kernel": platform.release(), "load": os.getloadavg()[0]}


def version_of(program, *arguments):
    try:
        result = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10)
    except OSError:
        return None
    found = re.search(r"\d+\.\d+(\.\d+)?", result.stdout + result.stderr)
    return found.group(0) if found else "?"
