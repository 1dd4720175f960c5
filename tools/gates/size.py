"""size: functions and files stay short enough to be read."""
import ast
import pathlib
import re

from common import blanked, c_files, files, line_of

FUNCTION_MAX, FUNCTION_WARN = 100, 60
FILE_MAX, FILE_WARN = 1200, 800


def c_functions(text: str) -> list[tuple[str, int, int]]:
    """(name, first line, lines) of each function: a brace at depth 0 behind a closing parenthesis."""
    text = blanked(text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.M)
    found = []
    depth = start = 0
    name = ""
    for m in re.finditer(r"[{}]", text):
        if m.group() == "{":
            if depth == 0:
                head = text[:m.start()].rstrip()
                before = re.search(r"(\w+)\s*\([^;{}]*\)$", head[max(0, len(head) - 2000):])
                name, start = (before.group(1), m.start()) if before else ("", 0)
            depth += 1
        else:
            depth -= 1
            if depth == 0 and name:
                first = line_of(text, start)
                found.append((name, first, line_of(text, m.start()) - first + 1))
    return found


def py_functions(text: str) -> list[tuple[str, int, int]]:
    return [(node.name, node.lineno, node.end_lineno - node.lineno + 1)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def measured(root: pathlib.Path) -> list[tuple[int, int, int, str]]:
    """(lines, warn, max, what) for every file and function."""
    rows = []
    for path in c_files(root) + files(root, ".py", ".js", ".css", ".sh"):
        name = path.relative_to(root)
        text = path.read_text(errors="replace")
        rows.append((text.count("\n"), FILE_WARN, FILE_MAX, f"{name}: file"))
        functions = {".py": py_functions, ".c": c_functions, ".h": c_functions}.get(path.suffix)
        for function, line, lines in functions(text) if functions else []:
            rows.append((lines, FUNCTION_WARN, FUNCTION_MAX, f"{name}:{line}: {function}()"))
    return rows


def run(root: pathlib.Path) -> list[str]:
    return [f"{what} has {lines} lines, more than {most}"
            for lines, _, most, what in measured(root) if lines > most]


def warnings(root: pathlib.Path) -> list[str]:
    return [f"{what} has {lines} lines, better are up to {warn}"
            for lines, warn, most, what in measured(root) if warn < lines <= most]


PLANT = ("src/base/planted.c", "int planted(int x)\n{\n" + "    x++;\n" * FUNCTION_MAX + "    return x;\n}\n")
