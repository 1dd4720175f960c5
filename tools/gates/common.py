"""What the gates share: the files of the tree, and C text without comments and strings."""
import os
import pathlib
import re

# Not ours, or made by a program.
SKIPPED_FOLDERS = {".git", "build", ".deps", "__pycache__", ".pytest_cache", "node_modules"}
TEXT_BYTES_MAX = 2 << 20


def files(root: pathlib.Path, *suffixes: str, under: tuple[str, ...] = ("",)) -> list[pathlib.Path]:
    """All files with one of the suffixes (none: all files) below the given folders of root."""
    found = []
    for start in under:
        for folder, names, leaves in os.walk(root / start):
            names[:] = sorted(n for n in names if n not in SKIPPED_FOLDERS)
            for leaf in sorted(set(leaves) - {".git"}):  # in a further worktree it is a file
                path = pathlib.Path(folder, leaf)
                if (not suffixes or path.suffix in suffixes) and path.is_file():
                    found.append(path)
    return found


def c_files(root: pathlib.Path) -> list[pathlib.Path]:
    return files(root, ".c", ".h", under=("src", "tests", "bench"))


TOKENS = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.S | re.X)


def blanked(text: str) -> str:
    """C text with comments, strings and characters overwritten by blanks; lines stay where they are."""
    return TOKENS.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1
