"""licences: every library and package that is not ours has its row in third_party/README.md."""
import pathlib
import re

from common import files

LINKED = re.compile(r"pkg_check_modules\(\s*\w+[^)]*?IMPORTED_TARGET\s+([^)]+)\)")


def used(root: pathlib.Path) -> dict[str, str]:
    """{name: where it is used}"""
    names = {}
    for path in [root / "CMakeLists.txt", *files(root, ".cmake", under=("cmake",))]:
        for m in LINKED.finditer(path.read_text()):
            for name in m.group(1).split():
                names[name] = str(path.relative_to(root))
    for path in files(root, ".in", under=("tools/requirements",)):
        for line in path.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                names[re.split(r"[\[=<>~ ]", line)[0]] = str(path.relative_to(root))
    for folder in sorted(p for p in (root / "third_party").iterdir() if p.is_dir()):
        names[folder.name] = f"third_party/{folder.name}"
    return names


def run(root: pathlib.Path) -> list[str]:
    table = root / "third_party/README.md"
    rows = [line for line in table.read_text().splitlines() if line.startswith("|")] if table.exists() else []
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    return [f"{where}: `{name}` has no row in third_party/README.md"
            for name, where in used(root).items() if name not in listed]


PLANT = ("cmake/planted.cmake", "pkg_check_modules(PLANTED REQUIRED IMPORTED_TARGET planted)\n")
