"""banned: functions that nobody may call, or only some folders."""
import pathlib
import re

from common import blanked, c_files, line_of

# What: names, reason, places where they are allowed (prefixes of the path).
RULES = [
    (r"(?:strcpy|strcat|sprintf|vsprintf|gets|alloca|strncpy|strtok)", "no bound or a hidden state", ()),
    (r"(?:atoi|atol|atoll|atof)", "no errors; use base/parse.h", ()),
    (r"(?:system|popen)", "no shell", ()),
    (r"(?:exit|_Exit|quick_exit)", "only src/cli ends the program", ("src/cli/", "tests/", "bench/")),
    (r"(?:printf|vprintf|puts|putchar|perror)", "only src/cli prints", ("src/cli/", "tests/", "bench/")),
    (r"(?:log_info|log_warn|log_error)", "only node/node.c, coord/coord.c and cli speak above debug",
     ("src/cli/", "src/base/log.", "src/node/node.c", "src/coord/coord.c", "tests/", "bench/")),
]
STDERR = re.compile(r"\b(?:fprintf|vfprintf|fputs|fputc|fwrite)\s*\((?:[^;]*,)?\s*(?:stderr|stdout)\b")
STDERR_ALLOWED = ("src/cli/", "src/base/log.c", "tests/", "bench/")


def run(root: pathlib.Path) -> list[str]:
    rules = [(re.compile(rf"(?<![\w.>])({names})\s*\("), why, places) for names, why, places in RULES]
    found = []
    for path in c_files(root):
        name = path.relative_to(root).as_posix()
        text = blanked(path.read_text(errors="replace"))
        for pattern, why, places in rules:
            if name.startswith(places):
                continue
            found += [f"{name}:{line_of(text, m.start())}: {m.group(1)}: {why}" for m in pattern.finditer(text)]
        if not name.startswith(STDERR_ALLOWED):
            found += [f"{name}:{line_of(text, m.start())}: only src/cli prints" for m in STDERR.finditer(text)]
    return found


PLANT = ("src/base/planted.c", "void planted(char *a, const char *b)\n{\n    strcpy(a, b);\n}\n")
