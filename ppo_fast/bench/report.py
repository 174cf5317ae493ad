"""What a benchmark leaves behind: its figures, what they were taken on, and a plot."""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from ppo_fast.info import build_info


def write_report(
    out: Path,
    *,
    benchmark: str,
    unit: str,
    packages: Iterable[str],
    results: list[dict[str, object]],
    plot: Callable[[Path], object] | None = None,
) -> None:
    """Write `out`.json, with facts about the machine, and `out`.png; print where they are.

    `packages` are those whose versions matter; `plot` draws into the path that it is given.
    """
    written = [out.with_suffix(".json")]
    out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "benchmark": benchmark,
        "unit": unit,
        "machine": machine(packages),
        "results": results,
    }
    written[0].write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        written.append(out.with_suffix(".png"))
        plot(written[-1])
    print("\n" + "  ".join(map(str, written)))


def machine(packages: Iterable[str]) -> dict[str, object]:
    """Processor, platform, build, and the versions of those packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "processors": os.cpu_count(),
        "torch_threads": torch_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "ppo_fast": dict(build_info()),
    }


def torch_threads() -> int | None:
    """Threads of torch's operators; None if torch is not loaded."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
