"""Write the JSON Schema of every kind, or check that the committed ones are current."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from outcrop_schemas.json_schema import FOLDER, schema_path, schema_text
from outcrop_schemas.kinds import KINDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the schemas; return 1 where a check finds one that is not current."""
    parser = argparse.ArgumentParser(prog="python -m outcrop_schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is not current")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are (default: in the package)")
    options = parser.parse_args(arguments)
    wanted = {schema_path(kind, options.folder): schema_text(kind) for kind in KINDS.values()}
    if options.check:
        current = {path: path.read_text("utf-8") if path.exists() else None for path in wanted}
        stale = [str(path) for path, text in wanted.items() if current[path] != text]
        stale += [f"{path} (of no kind)" for path in sorted(options.folder.glob("*.json")) if path not in wanted]
        if stale:
            sys.stderr.write(f"Not current: {', '.join(stale)}. Run 'python -m outcrop_schemas'.\n")
        return 1 if stale else 0
    options.folder.mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
