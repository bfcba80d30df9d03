#!/usr/bin/env python3
"""Turns a note into three documents, in the directory $EPITAPH_SESSION.

Reads the note from stdin and writes one JSON object to stdout. It does not clean
up: `epitaph session run -- ./convert.py <note.txt` does, however this ends.
"""
import json
import os
import sys
from pathlib import Path


def convert(session: Path) -> dict:
    """Makes the documents of session/note.txt, as files beside it."""
    text = (session / "note.txt").read_text(encoding="utf-8")
    lines = text.splitlines()
    documents = {
        "toc": [line.lstrip("#").strip() for line in lines if line.startswith("#")],
        "summary": {"lines": len(lines), "words": len(text.split())},
        "plan": [line[2:] for line in lines if line.startswith("- ")],
    }
    (session / "out").mkdir()
    for name, document in documents.items():
        (session / "out" / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return {name: json.loads((session / "out" / f"{name}.json").read_text(encoding="utf-8")) for name in documents}


if __name__ == "__main__":
    directory = Path(os.environ["EPITAPH_SESSION"])
    (directory / "note.txt").write_bytes(sys.stdin.buffer.read())
    json.dump(convert(directory), sys.stdout)
    print()
