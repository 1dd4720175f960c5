"""text: no registry hosts, no paths of one machine, nothing about how the text was made."""
import pathlib
import re

from common import TEXT_BYTES_MAX, files, line_of

TABLE = pathlib.Path(__file__).with_name("words.table")


def patterns() -> list[re.Pattern[str]]:
    lines = (line.strip() for line in TABLE.read_text().splitlines())
    return [re.compile(re.sub(r"(?<=[a-z/])\+(?=[\\a-z])", "", line), re.I)
            for line in lines if line and not line.startswith("#")]


def run(root: pathlib.Path) -> list[str]:
    wanted = patterns()
    found = []
    for path in files(root):
        if path.stat().st_size > TEXT_BYTES_MAX:
            continue
        data = path.read_bytes()
        if b"\0" in data:
            continue
        text = data.decode(errors="replace")
        for pattern in wanted:
            found += [f"{path.relative_to(root)}:{line_of(text, m.start())}: '{m.group()}'"
                      for m in pattern.finditer(text)]
    return found


PLANT = ("src/base/planted.h", "/* see /wor" + "k/planted */\n")
