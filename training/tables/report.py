"""The data report: one HTML file that shows a table before training, and a summary for a terminal.

The pictures are SVG inside the file: sharp at any size, and 300 columns take a second.
"""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact.signature import Column, Signature
from training.tables.data import Note, Table, test_rows
from training.tables.leaks import column_power, suspicious
from training.tables.preview import reading_lines
from training.tables.shown import ShownColumn, not_obvious

MAX_THUMBNAILS = 3

BINS = 24
TOP_CATEGORIES = 8
TOP_BARS = 20
OPEN_CARDS = 60
SHOWN_CELLS, SHOWN_LETTERS = 8, 40
SHOWN_CLASSES = 6
TAIL = 0.005  # of the rows at either end that may lie outside a histogram if they would flatten it


def write_report(table: Table, signature: Signature, directory: str | Path) -> Path:
    """Write `DIRECTORY/NAME-data.html` and return its path.

    It says what was cleaned, what is missing, copied, leaking or rare, how the rows are split, and shows
    every column.
    """
    use_case = table.use_case
    title = escape(use_case.title or use_case.name)
    badge = '<span class="badge">synthetic</span>' if use_case.synthetic else ""
    body = [
        f"<header><h1>{title}{badge}</h1><p>{escape(use_case.description)}</p></header>",
        _tiles(table, signature),
        _section("To look at", _notes(table, "warning", "Nothing stands out.")),
        _section("How the file is read", _reading(table)),
        (
            f'<div class="pair">{_section("The target: " + use_case.target, _target(table))}'
            f"{_section('Missing cells', _missing(table))}</div>"
        ),
        (
            f'<div class="pair">{_section("What each column alone tells", _power(table))}'
            f"{_section('What was done', _done(table))}</div>"
        ),
        _section("Columns", _legend(table) + _cards(table, signature)),
        f"<footer>Source sha256 {table.digest}</footer>",
    ]
    path = Path(directory).resolve() / f"{use_case.name}-data.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: data</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>"
    )
    path.write_text(page, encoding="utf-8")
    return path


def summary(table: Table) -> str:
    """The same in a dozen lines for a terminal."""
    title = table.use_case.title or table.use_case.name
    kinds = Counter(table.kinds.values())
    missing = float(table.frame.isna().to_numpy().mean())
    lines = [
        (
            f"{title}: {table.rows:,} rows, {len(table.kinds)} features "
            f"({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())})"
        ),
        f"target {table.use_case.target}: {table.task}, {_target_words(table)}",
        f"missing {missing:.1%} of the cells, {table.duplicates:,} copies; {_split_words(table)}",
    ]
    lines += [f"! {note}" for note in table.notes if note.level == "warning"]
    lines += [f"  {note}" for note in table.notes if note.level == "info"]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------- sections


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _tiles(table: Table, signature: Signature) -> str:
    missing = float(table.frame.isna().to_numpy().mean())
    tiles = [
        (f"{table.rows:,}", "rows"),
        (f"{table.frame.shape[1]:,}", f"features, {signature.width:,} wide encoded"),
        (f"{missing:.1%}", "of the cells missing"),
        (f"{table.duplicates:,}", "rows are copies"),
        (f"{test_rows(table).mean():.1%}", "of the rows held out for the test"),
        (str(sum(note.level == "warning" for note in table.notes)), "things to look at"),
    ]
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{value}</b><span>{word}</span></div>" for value, word in tiles)
        + "</div>"
    )


def _notes(table: Table, level: str, otherwise: str) -> str:
    notes = [note for note in table.notes if note.level == level]
    if not notes:
        return f"<p>{otherwise}</p>"
    items = "".join(f'<li class="{level}">{_note(note)}</li>' for note in notes[:60])
    more = f"<p>and {len(notes) - 60} more</p>" if len(notes) > 60 else ""
    return f"<ul>{items}</ul>{more}"


def _note(note: Note) -> str:
    return (f"<code>{escape(note.column)}</code> " if note.column else "") + escape(note.text)


def _reading(table: Table) -> str:
    """What was decided for the whole file, and columns whose reading is not obvious, raw beside parsed."""
    said = "".join(f"<li>{escape(line)}</li>" for line in reading_lines(table.reading))
    columns = not_obvious(table.shown, table.look_at)
    tables = "".join(_raw_beside_parsed(column) for column in columns[:OPEN_CARDS])
    return f"<ul>{said}</ul>{tables}" if said or tables else "<p>Its source has types of its own.</p>"


def _raw_beside_parsed(column: ShownColumn) -> str:
    def row(head: str, cells: Sequence[Any]) -> str:
        texts = ("" if cell is None else escape(str(cell)[:SHOWN_LETTERS]) for cell in cells[:SHOWN_CELLS])
        return f"<tr><th>{head}</th>{''.join(f'<td>{text}</td>' for text in texts)}</tr>"

    said = f": {escape(column.read_as)}" if column.read_as else ""
    return (
        f"<p><code>{escape(column.name)}</code> {column.kind}{said}</p>"
        f'<table class="read">{row("raw", column.raw)}{row("parsed", column.parsed)}</table>'
    )


def _done(table: Table) -> str:
    return _notes(table, "info", "Nothing needed cleaning.") + _left_out(table)


def _left_out(table: Table) -> str:
    names = [name for name in table.ignored if name not in table.use_case.target_columns]
    if not names:
        return ""
    shown = ", ".join(f"<code>{escape(name)}</code>" for name in names[:40]) + (
        " ..." if len(names) > 40 else ""
    )
    return f"<p>No features, accepted in a request and ignored: {shown}.</p>"


def _target(table: Table) -> str:
    if table.task == "scores":
        picture = "".join(
            f"<p>{escape(name)}</p>{_histogram(pd.Series(values), None, [], width=420, height=150)}"
            for name, values in zip(table.use_case.targets, table.target.T, strict=True)
        )
    elif table.task == "regression":
        picture = _histogram(pd.Series(table.target), None, [], width=420, height=150)
    else:
        counts = Counter(table.target.tolist())
        top = counts.most_common(TOP_BARS)
        picture = _bars(
            [(str(label), count, f"{count:,} ({count / table.rows:.1%})") for label, count in top]
        )
        picture += f"<p>and {len(counts) - len(top)} more classes</p>" if len(counts) > len(top) else ""
    return picture + f"<p>{escape(table.task)}; {escape(_split_words(table))}.</p>"


def _target_words(table: Table) -> str:
    if table.task == "scores":
        return (
            "; ".join(
                f"{name} {values.min():g} to {values.max():g}"
                for name, values in zip(table.use_case.targets, table.target.T, strict=True)
            )
            or "no column has true values"
        )
    if table.task == "regression":
        low, middle, high = np.quantile(table.target, [0, 0.5, 1])
        return f"{low:g} to {high:g}, median {middle:g}"
    counts = Counter(table.target.tolist()).most_common(SHOWN_CLASSES)
    words = ", ".join(f"{label} {count / table.rows:.1%}" for label, count in counts)
    return words + (" ..." if len(table.classes) > SHOWN_CLASSES else "")


def _split_words(table: Table) -> str:
    test = test_rows(table)
    how = f"by {table.use_case.time}" if table.times is not None else "by a hash of the row"
    if table.groups is not None:
        how = f"by a hash of {table.use_case.group}"
    return f"{int((~test).sum()):,} rows to train on and {int(test.sum()):,} to test, {how}"


def _missing(table: Table) -> str:
    share = table.frame.isna().mean()
    share = share[share > 0].sort_values(ascending=False, kind="stable")
    if share.empty:
        return "<p>No cell is missing.</p>"
    rows = [(str(name), float(part), f"{part:.1%}") for name, part in share.head(TOP_BARS).items()]
    more = f"<p>and {len(share) - TOP_BARS} more columns</p>" if len(share) > TOP_BARS else ""
    return _bars(rows, most=1.0) + more


def _power(table: Table) -> str:
    if table.task == "scores":
        return "<p>It is told for one target only.</p>"
    power = column_power(table.frame, table.target, table.task)
    if not power:
        return "<p>The table is too small to tell.</p>"
    regression = table.task == "regression"
    chance = 0.0 if regression else 1 / len(table.classes)
    best = sorted(power.items(), key=lambda pair: -pair[1])[:TOP_BARS]
    rows = [(name, max(0.0, score - chance), f"{score:.2f}") for name, score in best]
    limit = suspicious(table.task)
    leaking = {name for name, score in best if score >= limit} if len(power) > 1 else set()
    words = (
        "R2 of a small tree on the column alone, on rows that it has not seen (0: nothing, 1: everything)"
        if regression
        else "Balanced accuracy of a small tree on the column alone, on rows that it has not seen "
        f"({chance:.2f}: chance)"
    )
    return f"<p>{words}. From {limit:g} on it may be giving the target away.</p>" + _bars(
        rows, most=1 - chance, marked=leaking
    )


def _legend(table: Table) -> str:
    if not 2 <= len(table.classes) <= SHOWN_CLASSES:
        return ""
    items = "".join(
        f'<span><i class="c{i}"></i>{escape(str(label))}</span>' for i, label in enumerate(table.classes)
    )
    return f'<p class="legend">{items}</p>'


def _cards(table: Table, signature: Signature) -> str:
    classes = list(table.classes) if 2 <= len(table.classes) <= SHOWN_CLASSES else []
    cards = [_card(table, column, classes) for column in signature.columns]
    shown = f'<div class="cards">{"".join(cards[:OPEN_CARDS])}</div>'
    if len(cards) > OPEN_CARDS:
        rest = f'<div class="cards">{"".join(cards[OPEN_CARDS:])}</div>'
        shown += f"<details><summary>{len(cards) - OPEN_CARDS} more columns</summary>{rest}</details>"
    return shown


def _card(table: Table, column: Column, classes: list[Any]) -> str:
    cells, name = table.frame[column.name], escape(column.name)
    present = cells.notna().to_numpy()
    target = table.target[present] if classes else None
    there = cells[present]
    match column.kind:
        case "number":
            picture = _histogram(there, target, classes)
            facts = f"{_short(there.min())} to {_short(there.max())}, median {_short(there.median())}"
        case "date":
            moments = pd.to_datetime(there, format="ISO8601")
            days = moments.astype("datetime64[s]").astype("int64") / 86_400
            picture = _histogram(days, target, classes)
            facts = f"{escape(str(there.min()))} to {escape(str(there.max()))}"
        case "category":
            picture = _category_bars(there, target, classes)
            facts = f"{there.nunique():,} values"
        case "text":
            picture = _histogram(there.str.count(r"\w+").astype("float64"), target, classes)
            often = sorted(zip(column.idf, column.terms, strict=True))[:6]
            facts = f"words a text; often: {escape(', '.join(term for _, term in often))}"
        case "image":
            picture = _thumbnails(there)
            facts = f"{len(there):,} pictures, seen as {', '.join(column.views)}"
    missing = float(1 - present.mean())
    rule = f", {missing:.1%} missing" if missing else ""
    if column.kind == "category":
        rule += ", unknown refused" if column.unknown == "refuse" else ", unknown taken as missing"
    return (
        f'<div class="card"><h3 title="{name}">{name}<small>{column.kind}</small></h3>'
        f"{picture}<p>{facts}{rule}</p></div>"
    )


def _thumbnails(cells: "pd.Series[Any]") -> str:
    """The first pictures; a cell is the base64 of a small PNG file."""
    return "".join(
        f'<img alt="" width="64" height="64" src="data:image/png;base64,{escape(str(cell))}">'
        for cell in cells.head(MAX_THUMBNAILS)
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


# ----------------------------------------------------------------------------------------------- pictures


def _histogram(
    values: "pd.Series[Any]",
    target: NDArray[Any] | None,
    classes: Sequence[Any],
    *,
    width: int = 240,
    height: int = 84,
) -> str:
    """Bars of how many rows fall where, stacked by class where classes are given."""
    numbers = values.to_numpy("float64")
    if not len(numbers):
        return ""
    low, high = _range(numbers)
    whole = high - low < BINS and bool((numbers == np.round(numbers)).all())
    edges = np.arange(low - 0.5, high + 1) if whole else np.linspace(low, high, BINS + 1)
    inside = np.clip(numbers, edges[0], edges[-1])
    parts = [inside] if target is None else [inside[target == label] for label in classes]
    return _stacked([np.histogram(part, edges)[0] for part in parts], width, height)


def _range(numbers: NDArray[np.float64]) -> tuple[float, float]:
    """Where the histogram goes from and to: a few far values must not flatten it; they count at its ends."""
    low, high = float(numbers.min()), float(numbers.max())
    inner_low, inner_high = (float(x) for x in np.quantile(numbers, [TAIL, 1 - TAIL]))
    if inner_high > inner_low and high - low > 4 * (inner_high - inner_low):
        low, high = inner_low, inner_high
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _stacked(counts: list[NDArray[Any]], width: int, height: int) -> str:
    most = max(1, int(np.sum(counts, axis=0).max()))
    step = width / len(counts[0])
    gap = min(1.5, step * 0.15)
    base = np.zeros(len(counts[0]))
    shapes = []
    for i, part in enumerate(counts):
        for place, count in enumerate(part):
            if count:
                tall = count / most * (height - 2)
                top = height - base[place] - tall
                shapes.append(
                    f'<rect class="c{i}" x="{place * step:.1f}" y="{top:.1f}" '
                    f'width="{step - gap:.1f}" height="{tall:.1f}"/>'
                )
                base[place] += tall
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img">'
        f'<line x1="0" x2="{width}" y1="{height}" y2="{height}"/>'
        f"{''.join(shapes)}</svg>"
    )


def _category_bars(values: "pd.Series[Any]", target: NDArray[Any] | None, classes: Sequence[Any]) -> str:
    counts = values.value_counts()
    top = list(counts.index[:TOP_CATEGORIES])
    rest = int(counts.iloc[TOP_CATEGORIES:].sum())
    most = max(1, int(max(counts.iloc[0], rest))) if len(counts) else 1
    rows = []
    cells = values.to_numpy(object)
    for name in [*top, None] if rest else top:
        chosen = cells == name if name is not None else ~np.isin(cells, top)
        label = str(name) if name is not None else f"{len(counts) - TOP_CATEGORIES:,} others"
        parts = (
            [int(chosen.sum())] if target is None else [int((chosen & (target == c)).sum()) for c in classes]
        )
        bars = "".join(
            f'<i class="c{i}" style="width:{part / most * 100:.1f}%"></i>'
            for i, part in enumerate(parts)
            if part
        )
        rows.append(f'<tr><th title="{escape(label)}">{escape(label)}</th><td class="bar">{bars}</td></tr>')
    return f'<table class="bars small">{"".join(rows)}</table>'


def _bars(
    rows: Sequence[tuple[str, float, str]], *, most: float | None = None, marked: set[str] | None = None
) -> str:
    longest = most or max((value for _, value, _ in rows), default=1) or 1
    lines = []
    for name, value, words in rows:
        colour = "warn" if marked and name in marked else "c0"
        bar = f'<i class="{colour}" style="width:{value / longest * 100:.1f}%"></i>'
        lines.append(
            f'<tr><th title="{escape(name)}">{escape(name)}</th><td class="bar">{bar}</td>'
            f'<td class="figure">{words}</td></tr>'
        )
    return f'<table class="bars">{"".join(lines)}</table>'


_STYLE = """
:root{--ink:#1d2330;--soft:#667085;--line:#e4e7ec;--paper:#f7f8fa;--card:#fff;--warn:#c2410c;
--c0:#3b6fb6;--c1:#e08a3c;--c2:#4c9f70;--c3:#a05ba8;--c4:#c9a227;--c5:#5aa9b8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#303744;--paper:#14171d;--card:#1c2129;
--warn:#fb923c;--c0:#6b9fe0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:32px 24px;max-width:1180px;background:var(--paper);color:var(--ink);
font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{margin:0;font-size:26px}h2{margin:0 0 12px;font-size:16px}h3{margin:0 0 8px;font-size:13px;display:flex;
justify-content:space-between;gap:8px;overflow:hidden;white-space:nowrap;text-overflow:ellipsis}
h3 small,header p,footer,.card p{color:var(--soft);font-weight:400}header p{margin:4px 0 20px;max-width:80ch}
.badge{margin-left:10px;padding:2px 10px;border-radius:20px;background:var(--c1);color:#fff;font-size:12px;
vertical-align:middle}
section,.tiles div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px;
margin:0 0 18px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px}
.tiles b{display:block;font-size:24px}.tiles span{color:var(--soft)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:18px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:14px}
.card{border:1px solid var(--line);border-radius:8px;padding:12px;min-width:0}
.card p{margin:6px 0 0;font-size:12px}
svg{display:block;width:100%;height:auto}svg line{stroke:var(--line);stroke-width:2}
ul{margin:0;padding-left:18px}li.warning::marker{color:var(--warn);content:"\\25B2\\00a0\\00a0"}
li{margin:3px 0}
code{padding:1px 5px;border-radius:4px;background:var(--paper);border:1px solid var(--line);font-size:12px}
table.read{display:block;overflow-x:auto;margin:-8px 0 12px;font-size:12px}
table.read td,table.read th{padding:1px 10px 1px 0;text-align:left;white-space:nowrap}
table.bars{width:100%;border-collapse:collapse;table-layout:fixed}
.bars th{width:38%;text-align:left;font-weight:400;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;
padding:2px 8px 2px 0}
.bars td.bar{display:flex;padding:5px 0}.bars i{height:12px;border-radius:1px}.bars td.figure{width:24%;
text-align:right;color:var(--soft);font-variant-numeric:tabular-nums}
.bars.small{font-size:11px}.bars.small td.bar{padding:2px 0}.bars.small th{padding:0 6px 0 0}
.legend{margin:0 0 12px;display:flex;gap:16px;flex-wrap:wrap}
.legend i{display:inline-block;width:11px;height:11px;
margin-right:6px;border-radius:2px}summary{cursor:pointer;padding:12px 0}
footer{font-size:11px;word-break:break-all}
.c0{background:var(--c0);fill:var(--c0)}.c1{background:var(--c1);fill:var(--c1)}.c2{background:var(--c2);fill:var(--c2)}
.c3{background:var(--c3);fill:var(--c3)}.c4{background:var(--c4);fill:var(--c4)}.c5{background:var(--c5);fill:var(--c5)}
.warn{background:var(--warn)}
"""
