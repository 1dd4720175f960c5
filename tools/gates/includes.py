"""include: every #include keeps to the table folders.table."""
import pathlib
import re

from common import c_files, line_of

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
TABLE = pathlib.Path(__file__).with_name("folders.table")


def read_table() -> tuple[dict[str, tuple[set[str], list[str]]], list[str]]:
    """({folder: (folders it may include, outside headers)}, system headers)"""
    rows: dict[str, tuple[set[str], list[str]]] = {}
    system: list[str] = []
    for line in TABLE.read_text().splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        folder, rest = line.split(":", 1)
        if folder == "system":
            system += rest.split()
            continue
        ours, outside = rest.split("|")
        rows[folder] = (set(ours.split()), outside.split())
    for ours, _ in rows.values():
        if "*" in ours:
            ours |= {name for name in rows if "/" not in name and name != "bench"}
    return rows, system


def listed(header: str, words: list[str]) -> bool:
    return any(header == w or (w.endswith("/") and header.startswith(w)) for w in words)


def folders_for(parts: tuple[str, ...], rows: dict) -> tuple[set[str], list[str]] | None:
    """What a file at parts may include: (folders by first part of the path, outside headers)."""
    if parts[0] == "src":
        if len(parts) < 3 or parts[1] not in rows:
            return None
        ours, outside = rows[parts[1]]
        return ours | {parts[1]}, outside
    if parts[0] == "bench":
        return rows["bench"][0] | {"lib"}, rows["bench"][1]
    kind = "/".join(parts[:2])
    if kind in ("tests/unit", "tests/fuzz") and len(parts) > 3 and parts[2] in rows:
        ours, outside = rows[parts[2]]
        return ours | {parts[2], "lib"}, outside + rows[kind][1]
    if kind in rows:
        return rows[kind][0] | {"lib"}, rows[kind][1]
    return None


def problem(path: pathlib.Path, parts: tuple[str, ...], quote: str, header: str, rows: dict,
            system: list[str]) -> str | None:
    allowed = folders_for(parts, rows)
    if allowed is None:
        return "this folder is not in tools/gates/folders.table"
    ours, outside = allowed
    if quote == "<":
        if listed(header, system) or listed(header, outside):
            return None
        return f"<{header}> is not for this folder"
    head = header.rpartition("/")[0]
    if head.split("/")[0] in ours:
        return None
    # Beside src/: its own folder, written from tests/ or bench/, or without any folder.
    if parts[0] != "src" and (head == "/".join(parts[1:-1]) or
                              not head and path.with_name(header).is_file()):
        return None
    return f'"{header}" is not for this folder' + ("" if head else " (write the folder too)")


def run(root: pathlib.Path) -> list[str]:
    rows, system = read_table()
    found = []
    for path in c_files(root):
        name = path.relative_to(root)
        text = path.read_text(errors="replace")
        for m in INCLUDE.finditer(text):
            what = problem(path, name.parts, m.group(1), m.group(2), rows, system)
            if what:
                found.append(f"{name}:{line_of(text, m.start())}: {what}")
    return found


PLANT = ("src/plan/planted.c", '#include "net/http.h"\n')
