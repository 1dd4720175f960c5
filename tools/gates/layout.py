"""format: C files are laid out as .clang-format says."""
import pathlib
import re
import shutil
import subprocess

from common import c_files


def skipped() -> str | None:
    return None if shutil.which("clang-format") else "there is no clang-format (tools/bootstrap test)"


def run(root: pathlib.Path) -> list[str]:
    names = [str(p.relative_to(root)) for p in c_files(root)]
    if not names:
        return []
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", "--style=file", *names], cwd=root,
                          capture_output=True, text=True, timeout=120)
    first: dict[str, str] = {}  # one line for a file is enough: `make format` does the work
    for line in done.stderr.splitlines():
        m = re.match(r"([^:\s]+\.[ch]):(\d+):\d+: error:", line)
        if m:
            first.setdefault(m.group(1), f"{m.group(1)}:{m.group(2)}: not laid out (make format)")
    if done.returncode and not first:
        return [done.stderr.strip()[:500] or f"clang-format failed: {done.returncode}"]
    return list(first.values())


PLANT = ("src/base/planted.c", "int  planted( int x ) {\n  return x ;}\n")
