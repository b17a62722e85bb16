"""The CPU of a job as a picture: `make bench ARGS=--json > bench.json`, then `python bench/picture.py bench.json > costs.svg`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import orjson

_COLOURS: Final = {
    "redis": "#b5443c",
    "dispatcher": "#d99a2b",
    "worker": "#4f7a4d",
    "producer": "#8a8f98",
    "api": "#3f6ea3",
}
_LEFT, _WIDTH, _ROW, _BAR = 190, 560, 30, 18
_TEXT: Final = 'font-family="sans-serif" font-size="12"'


def svg(spent: dict[str, dict[str, float]]) -> str:
    """A bar per workload, a part per process; all on one scale of CPU us per job."""
    spent = {name: {process: us.get(process, 0.0) for process in _COLOURS} for name, us in spent.items()}
    most = max(sum(us.values()) for us in spent.values())
    height = _ROW * (len(spent) + 2)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 70} {height}" {_TEXT}>']
    parts.append(f'<rect width="100%" height="{height}" fill="#fff"/>')
    x = _LEFT
    for process, colour in _COLOURS.items():
        parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="18">{process}</text>')
        x += 92
    for row, (name, us) in enumerate(spent.items()):
        top = _ROW * (row + 1) + 4
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>')
        at = float(_LEFT)
        for process, colour in _COLOURS.items():
            wide = us[process] / most * _WIDTH
            label = f"{escape(name)}, {process}: {us[process]:.3g} us"
            parts.append(f'<rect x="{at:.1f}" y="{top}" width="{wide:.1f}" height="{_BAR}" fill="{colour}">')
            parts.append(f"<title>{label}</title></rect>")
            at += wide
        parts.append(f'<text x="{at + 6:.1f}" y="{top + 13}">{sum(us.values()):.3g} us</text>')
    return "\n".join([*parts, "</svg>", ""])


def main(path: str, *workloads: str) -> None:
    document: dict[str, Any] = orjson.loads(Path(path).read_bytes())
    spent = document["cpu_us_per_job"]
    sys.stdout.write(svg({name: spent[name] for name in workloads or spent}))


if __name__ == "__main__":
    main(*sys.argv[1:])
