"""The page at /docs, made from the OpenAPI document; it loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from serving.protocols.predict.document import example_request

if TYPE_CHECKING:
    from artifact.signature import Column
    from artifact.tensors import Tensors
    from serving.scoring.catalog import Catalog, LiveModel


def docs_page(catalog: Catalog, paths: dict[str, Any]) -> str:
    """Every route, each model's columns, and a form that sends the example.

    Parameters
    ----------
    paths
        Of the OpenAPI document.
    """
    sections = "".join(_section(model) for model in catalog.live.values())
    refused = "".join(
        f"<p class=bad><b>{html.escape(name)}</b> is not ready: {html.escape(reason)}</p>"
        for name, reason in catalog.refused.items()
    )
    return (
        _PAGE.replace("{refused}", refused)
        .replace("{sections}", sections)
        .replace("{routes}", _routes(paths))
        .replace("{default}", html.escape(catalog.default))
    )


def _section(model: LiveModel) -> str:
    signature = model.signature
    if signature.tensors is not None:
        return _section_of_tensors(model, signature.tensors)
    name = html.escape(model.name)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in _shown(column)) + "</tr>"
        for column in signature.columns
    )
    figures = ", ".join(f"{key} {value:.4g}" for key, value in model.artifact.manifest.metrics.items())
    quality = f"{figures} on held-out rows" if figures else "unmeasured"
    body = html.escape(json.dumps(example_request(model), indent=1, ensure_ascii=False))
    labels = ", ".join(map(str, signature.classes or signature.numbers)) or "a number"
    return f"""<section id="{name}"><h2>{name} <small>version {html.escape(model.version)}</small></h2>
<p>Predicts <b>{html.escape(signature.target)}</b>: {html.escape(labels)}.
{html.escape(model.artifact.manifest.algorithm)}, {html.escape(quality)}.</p>
<form data-route="/models/{name}/predict"><label>POST /models/{name}/predict
<textarea rows=8 spellcheck=false>{body}</textarea></label>
<button>Send</button> or paste <pre class=curl></pre><pre class=reply aria-live=polite></pre></form>
<details><summary>{len(signature.columns)} columns</summary><table>
<tr><th>column<th>kind<th>example<th>missing<th>known or seen</tr>{rows}</table></details></section>"""


def _section_of_tensors(model: LiveModel, tensors: Tensors) -> str:
    name = html.escape(model.name)
    rows = "".join(
        f"<tr><td>{what}<td>{html.escape(each.name)}<td>{each.datatype}<td>{each.sizes}</tr>"
        for what, some in (("input", tensors.inputs), ("output", tensors.outputs))
        for each in some
    )
    example = model.example_tensors
    body = html.escape(json.dumps(example, ensure_ascii=False)) if example else ""
    return f"""<section id="{name}"><h2>{name} <small>version {html.escape(model.version)}</small></h2>
<p>Takes tensors. {html.escape(model.artifact.manifest.algorithm)}, unmeasured.</p>
<form data-route="/v2/models/{name}/infer"><label>POST /v2/models/{name}/infer
<textarea rows=8 spellcheck=false>{body}</textarea></label>
<button>Send</button> or paste <pre class=curl></pre><pre class=reply aria-live=polite></pre></form>
<table><tr><th>tensor<th>name<th>datatype<th>shape (-1: any size)</tr>{rows}</table></section>"""


def _routes(paths: dict[str, Any]) -> str:
    """A line for each of the document's operations; what takes GET alone is a link."""
    rows = []
    for path, operations in paths.items():
        shown = html.escape(path)
        for method, operation in operations.items():
            link = f'<a href="{shown}">{shown}</a>' if method == "get" else shown
            rows.append(f"<tr><td>{method.upper()}<td>{link}<td>{html.escape(operation['summary'])}</tr>")
    return "".join(rows)


def _shown(column: Column) -> tuple[Any, ...]:
    known = ", ".join(column.categories[:20]) + (" ..." if len(column.categories) > 20 else "")
    if column.kind == "number" and column.minimum is not None:
        known = f"{column.minimum:.6g} to {column.maximum:.6g}"
    return column.name, column.kind, column.example, column.missing, known


_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><title>Okamochi</title>
<link rel=icon href="data:,"><meta name=viewport content="width=device-width">
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
textarea{width:100%;font:13px/1.4 ui-monospace,monospace;display:block;box-sizing:border-box}
pre{background:#f4f4f4;padding:.5rem;overflow:auto;white-space:pre-wrap}pre:empty{display:none}
table{border-collapse:collapse;font-size:14px}td,th{border:1px solid #ddd;padding:.1rem .5rem;text-align:left}
section{border-top:1px solid #ddd;margin-top:2rem}code{font-size:13px;overflow-wrap:anywhere}.bad{color:#a00}
button{margin:.5rem 0;padding:.3rem 1rem}small{color:#666;font-weight:normal}
</style>
<h1>Okamochi</h1>{refused}
<p><code>POST /predict</code> asks <b>{default}</b>. A body has one of <code>{"features": [[...]]}</code> (by
position), <code>{"records": [{...}]}</code> or <code>{"columns": {"name": [...]}}</code>, and may have
<code>"probabilities": true</code> and, for two classes, <code>"threshold": 0.3</code>.</p>
<p><a href="#routes">Every route</a> · <a href="/models">/models</a> ·
<a href="/openapi.json">/openapi.json</a> ·
<a href="/metrics">/metrics</a> · <a href="/livez">/livez</a> · <a href="/readyz">/readyz</a></p>
{sections}
<section id=routes><h2>Every route</h2>
<p>Shapes, errors and examples of each: <a href="/openapi.json">/openapi.json</a>.</p>
<table>{routes}</table></section>
<script>
for (const form of document.forms) {
  const area = form.querySelector("textarea"), out = form.querySelector(".reply");
  const show = () => { form.querySelector(".curl").textContent = "curl " + location.origin +
    form.dataset.route + " -H 'Content-Type: application/json' -d '" +
    area.value.replace(/\\n\\s*/g, " ").replaceAll("'", "'\\\\''") + "'"; };
  area.oninput = show; show();
  form.onsubmit = async event => {
    event.preventDefault();
    const reply = await fetch(form.dataset.route,
      {method: "POST", headers: {"Content-Type": "application/json"}, body: area.value});
    out.textContent = reply.status + " " + reply.statusText + "\\n" + await reply.text();
  };
}
</script>"""
