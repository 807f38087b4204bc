"""The OpenAPI document of the live models, and a page made from it that loads nothing from elsewhere."""

from __future__ import annotations

import csv
import html
import io
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from artifact import __version__
from serving import ids
from serving.protocols import oip
from serving.protocols.tensors import DATATYPES

if TYPE_CHECKING:
    from artifact.signature import Column
    from serving.scoring.catalog import Catalog, LiveModel
    from serving.settings import Settings

PROBLEMS = {
    400: "Not JSON, a NaN literal, nested too deep, or a malformed header.",
    413: "The body is too large, or has too many rows.",
    415: "Neither JSON in UTF-8 nor another media type of this route, or compressed.",
    422: "The model's signature refuses the rows; `errors` has the places.",
    429: "The queue is full, or the deadline cannot be kept; see `Retry-After`.",
    500: "The model failed.",
    503: "The model is not ready.",
}
HEADERS = [
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Echoed in the reply.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]+$"},
    },
    {
        "name": "X-Deadline-Ms",
        "in": "header",
        "description": "How long an answer is of use; a longer one than the server's limit is cut to that.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 10**17},
    },
]


def document(catalog: Catalog, settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.1 with a path for each live model and its own columns."""
    models = list(catalog.live.values())
    paths: dict[str, Any] = {}
    if catalog.default in catalog.live:
        paths["/predict"] = {"post": _predict(catalog.live[catalog.default], "predict")}
        paths["/invocations"] = {"post": _invocations(catalog.live[catalog.default])}
    for model in models:
        paths[f"/models/{model.name}/predict"] = {"post": _predict(model, f"predict_{model.name}")}
    paths["/models"] = {"get": _page("list_models", "The live models.", _schema("Models"))}
    for model in models:
        page = _page(f"get_{model.name}", f"What {model.name} takes and how good it is.", _schema("Model"))
        paths[f"/models/{model.name}"] = {"get": page}
    alive = _page("livez", "The process answers.", "text/plain")
    ready = _page("readyz", "Every model is loaded and verified.", "text/plain")
    ready["responses"]["503"] = _problem(503)
    paths |= {
        "/livez": {"get": alive},
        "/readyz": {"get": ready},
        "/metrics": {"get": _page("metrics", "For Prometheus.", "text/plain")},
        "/openapi.json": {"get": _page("openapi", "This document.", {"type": "object"})},
        "/docs": {"get": _page("docs", "A page to read.", "text/html")},
        "/": {"get": _redirect()},
        "/ping": {"get": _page("mlflow_ping", "As MLflow says that the default model is there.", {})},
        "/health": {"get": _page("mlflow_health", "The same as /ping.", {})},
        "/version": {"get": _page("mlflow_version", "Of MLflow, as bare text.", {})},
    }
    for path in ("/ping", "/health", "/version"):
        paths[path]["get"]["responses"] |= {"400": _mlflow_problem(400)}
    paths["/ping"]["get"]["responses"] |= {"503": _mlflow_problem(503)}
    paths["/health"]["get"]["responses"] |= {"503": _mlflow_problem(503)}
    paths |= _v2_paths(models)
    if settings.prediction_log:
        paths["/feedback"] = {"post": _feedback()}
    schemas: dict[str, Any] = {"Problem": _problem_schema(), "Model": _model_schema()} | _v2_schemas()
    schemas["MLflowProblem"] = _mlflow_problem_schema()
    schemas["Models"] = {
        "type": "object",
        "required": ["default", "models"],
        "properties": {
            "default": {"type": "string"},
            "models": {"type": "array", "items": _schema("Model")},
        },
    }
    for model in models:
        schemas[f"{model.name}_record"] = _record(model)
        schemas[f"{model.name}_request"] = _request(model)
        schemas[f"{model.name}_reply"] = _reply(model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Okamochi",
            "version": __version__,
            "description": f"Predictions of {', '.join(catalog.live) or 'no model'}. Bodies of at most "
            f"{settings.max_body_bytes} bytes.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def example_request(model: LiveModel) -> dict[str, Any]:
    """A body that works when pasted, made of medians and modes."""
    return {"records": [model.signature.example]}


def _predict(model: LiveModel, operation: str) -> dict[str, Any]:
    signature = model.signature
    examples: dict[str, Any] = {
        "records": {"value": example_request(model)},
        "features": {"value": {"features": [list(signature.example.values())]}},
        "columns": {"value": {"columns": {name: [cell] for name, cell in signature.example.items()}}},
    }
    if len(signature.columns) == 1:
        examples["x"] = {"value": {"x": next(iter(signature.example.values()))}}
    return {
        "operationId": operation,
        "summary": f"Predict {signature.target} with {model.name}, version {model.version}.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _schema(f"{model.name}_request"), "examples": examples}
            },
        },
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "content": {"application/json": {"schema": _schema(f"{model.name}_reply")}},
            },
            **{str(status): _problem(status) for status in PROBLEMS},
        },
    }


def _request(model: LiveModel) -> dict[str, Any]:
    signature = model.signature
    cells = [_cell(column) for column in signature.columns]
    rows = {
        "type": "array",
        "minItems": 1,
        "maxItems": model.most_rows,
        "items": _tuple(cells),
    }
    columns = {
        column.name: {"type": "array", "minItems": 1, "maxItems": model.most_rows, "items": cell}
        for column, cell in zip(signature.columns, cells, strict=True)
    }
    columns_form = {
        "type": "object",
        "properties": columns | {name: {"type": "array", "items": {}} for name in signature.ignored},
        "required": [column.name for column in signature.columns if column.missing == "refuse"],
        "minProperties": 1,
        "additionalProperties": False,
    }
    records = {
        "type": "array",
        "minItems": 1,
        "maxItems": model.most_rows,
        "items": _schema(f"{model.name}_record"),
    }
    options: dict[str, Any] = {}
    if signature.task != "regression":
        # No `default`: generators take a property that has one for one that is always sent.
        options["probabilities"] = {"type": "boolean", "description": "false unless given"}
    if signature.task == "binary":
        options["threshold"] = {
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
            "description": f"From this probability of {signature.positive!r} on it is predicted.",
        }
    forms: dict[str, Any] = {"records": records, "features": rows, "columns": columns_form}
    if len(cells) == 1:
        forms["x"] = forms[signature.columns[0].name] = cells[0]
    return {
        "oneOf": [
            {
                "type": "object",
                "properties": {name: form} | options,
                "required": [name],
                "additionalProperties": False,
            }
            for name, form in forms.items()
        ]
    }


def _tuple(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Cells by position; `items`, which says nothing here, since generators of clients stumble without."""
    many = {"minItems": len(cells), "maxItems": len(cells)}
    return {"type": "array", "prefixItems": cells, "items": {}, **many}


def _record(model: LiveModel) -> dict[str, Any]:
    signature = model.signature
    ignored: dict[str, Any] = {name: {} for name in signature.ignored}
    return {
        "type": "object",
        "properties": ignored | {column.name: _cell(column) for column in signature.columns},
        "required": [column.name for column in signature.columns if column.missing == "refuse"],
        "additionalProperties": False,
        "example": signature.example,
    }


def _cell(column: Column) -> dict[str, Any]:
    """One value of a column. Bounds of the training data describe; no request is refused for them."""
    missing = ["null"] if column.missing == "allow" else []
    if column.kind == "number":
        shown = f"{column.minimum} to {column.maximum} in training" if column.minimum is not None else ""
        return {"type": ["number", *missing], "description": shown, "minimum": -3.4e38, "maximum": 3.4e38}
    if column.kind == "category":
        if column.unknown == "refuse":
            known: list[Any] = [*column.categories, *([None] if missing else [])]
            return {"enum": known, "description": 'as text; 1, 1.0 and "1" are one'}
        return {
            "type": ["string", "number", "boolean", *missing],
            "description": f"known: {', '.join(column.categories[:50])}; others count as missing",
        } | ({} if missing else {"minLength": 1, "pattern": r"\S"})
    if column.kind == "date":
        return {"type": ["string", *missing], "format": "date", "description": f"such as {column.middle}"}
    return {"type": ["string", *missing]} | ({} if missing else {"minLength": 1, "pattern": r"\S"})


def _reply(model: LiveModel) -> dict[str, Any]:
    signature = model.signature
    number = {"type": "number"}
    one: dict[str, Any] = {"enum": list(signature.classes)} if signature.classes else number
    some: dict[str, Any] = {"type": "array", "items": one}
    chances: dict[str, Any] = {"type": "array", "items": number}
    properties = {
        "prediction": {"anyOf": [some, one]} if len(signature.columns) == 1 else some,
        "model": {"const": model.name},
        "version": {"const": model.version},
        "id": {"type": "string", "description": "unique to this reply"},
    }
    if signature.classes:
        # Of a lone `x` the prediction is a value, and its probabilities are a list.
        either = {"anyOf": [chances, number]} if len(signature.columns) == 1 else chances
        properties["probabilities"] = {"type": "array", "items": either}
        properties["classes"] = {"const": list(signature.classes)}
    return {
        "type": "object",
        "required": ["prediction", "model", "version", "id"],
        "properties": properties,
        "additionalProperties": False,
    }


def _invocations(model: LiveModel) -> dict[str, Any]:
    """MLflow's scoring protocol, which ignores columns that it does not know."""
    signature = model.signature
    names = list(signature.names)
    own: dict[str, Any] = _request(model)
    own_forms: dict[str, Any] = {}
    for form in own["oneOf"]:
        own_forms |= form["properties"]
    features, columns = own_forms["features"], own_forms["columns"] | {"additionalProperties": True}
    records = {"type": "array", "minItems": 1, "maxItems": model.most_rows}
    records["items"] = _record(model) | {"additionalProperties": True}
    split = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "columns": {"const": names, "description": "in any order, others among them"},
            "data": features,
            "index": {"type": ["array", "null"], "items": {}, "description": "as long as data; ignored"},
        },
    }
    any_form = {"anyOf": [features, records, columns]}
    forms = {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": any_form,
        "inputs": any_form,
    }
    options = {key: own_forms[key] for key in ("probabilities", "threshold") if key in own_forms}
    params = {"params": {"type": ["object", "null"], "properties": options}}
    row = list(signature.example.values())
    examples: dict[str, Any] = {
        "dataframe_split": {"value": {"dataframe_split": {"columns": names, "data": [row]}}},
        "dataframe_records": {"value": {"dataframe_records": [signature.example]}},
        "instances": {"value": {"instances": [row]}},
        "inputs": {"value": {"inputs": {name: [cell] for name, cell in signature.example.items()}}},
    }
    one_of = [
        {"type": "object", "properties": {name: form} | params, "required": [name]}
        for name, form in forms.items()
    ]
    predictions: dict[str, Any] = {"type": "array", "items": {"enum": list(signature.classes)}}
    if not signature.classes:
        predictions = {"type": "array", "items": {"type": "number"}}
    elif options:
        shares = {"type": "object", "additionalProperties": {"type": "number"}}
        predictions = {"type": "array", "items": {"anyOf": [predictions["items"], shares]}}
    reply = {"type": "object", "required": ["predictions"], "properties": {"predictions": predictions}}
    return {
        "operationId": "invocations",
        "summary": f"MLflow's scoring protocol: predict {signature.target} with {model.name}.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": one_of}, "examples": examples},
                "text/csv": {"schema": {"type": "string"}, "example": _csv(model)},
            },
        },
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "content": {"application/json": {"schema": reply}},
            },
            **{str(status): _mlflow_problem(status) for status in PROBLEMS if status != 422},
        },
    }


def _csv(model: LiveModel) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(model.signature.names)
    writer.writerow(model.signature.example.values())
    return text.getvalue()


def _mlflow_problem(status: int) -> dict[str, Any]:
    about = f"{PROBLEMS[status]} {PROBLEMS[422]}" if status == 400 else PROBLEMS[status]
    return {"description": about, "content": {"application/json": {"schema": _schema("MLflowProblem")}}}


def _mlflow_problem_schema() -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    return {
        "type": "object",
        "required": ["error_code", "message"],
        "properties": {
            "error_code": text,
            "message": text,
            "errors": _problem_schema()["properties"]["errors"],
        },
    }


def _v2_paths(models: list[LiveModel]) -> dict[str, Any]:
    """The Open Inference Protocol."""
    paths: dict[str, Any] = {
        "/v2": {"get": _v2_page("v2", "The server's name, version and extensions.", {"type": "object"})},
        "/v2/health/live": {"get": _v2_page("v2_live", "The process answers.", {"type": "object"})},
        "/v2/health/ready": {"get": _v2_page("v2_ready", "Every model is ready.", {"type": "object"})},
    }
    paths["/v2/health/ready"]["get"]["responses"]["503"] = {"description": "Not ready."}
    for model in models:
        name = model.name
        for path, operation in (
            (f"/v2/models/{name}", f"v2_{name}"),
            (f"/v2/models/{name}/versions/{model.version}", f"v2_{name}_versions_{model.version}"),
        ):
            about = _v2_page(f"{operation}_metadata", f"The tensors of {name}.", _schema("V2Metadata"))
            ready = _v2_page(f"{operation}_ready", f"{name} is ready.", {"type": "object"})
            infer = _infer(model, f"{operation}_infer")
            paths |= {path: {"get": about}, f"{path}/ready": {"get": ready}, f"{path}/infer": {"post": infer}}
    return paths


def _v2_page(operation: str, summary: str, content: dict[str, Any]) -> dict[str, Any]:
    page = _page(operation, summary, content)
    page["responses"]["400"] = _v2_error(400)
    return page


def _infer(model: LiveModel, operation: str) -> dict[str, Any]:
    names = list(oip.output_names(model.signature))
    columns = oip.example(model, one_tensor=False)
    examples: dict[str, Any] = {"columns": {"value": columns}}
    if model.signature.numeric:
        examples = {"matrix": {"value": oip.example(model, one_tensor=True)}} | examples
    binary = {"type": "string", "description": "the JSON, and behind it the binary tensors"}
    header = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "The bytes of JSON in a body with binary tensors.",
        "schema": {"type": "integer", "minimum": 0},
    }
    return {
        "operationId": operation,
        "summary": f"Predict {model.signature.target} with {model.name}: outputs {' and '.join(names)}.",
        "parameters": [*HEADERS, header],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _schema("V2Request"), "examples": examples},
                "application/octet-stream": {"schema": binary},
            },
        },
        "responses": {
            "200": {
                "description": "The outputs, as JSON or behind it.",
                "content": {
                    "application/json": {"schema": _schema("V2Reply")},
                    "application/octet-stream": {"schema": binary},
                },
            },
            **{str(status): _v2_error(status) for status in PROBLEMS},
        },
    }


def _v2_error(status: int) -> dict[str, Any]:
    return {
        "description": PROBLEMS[status],
        "content": {"application/json": {"schema": _schema("V2Error")}},
    }


def _v2_schemas() -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    parameters: dict[str, Any] = {"type": "object"}
    size: dict[str, Any] = {"type": "integer", "minimum": -1}
    about: dict[str, Any] = {
        "name": text,
        "datatype": {"enum": list(DATATYPES)},
        "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": size},
        "parameters": parameters,
    }
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": about
        | {"data": {"type": "array", "items": {}, "description": "flat, row by row, or nested"}},
    }
    described = {"type": "object", "required": ["name", "datatype", "shape"], "properties": about}
    output = {"type": "object", "required": ["name"], "properties": {"name": text, "parameters": parameters}}

    def some(items: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": items}

    return {
        "V2Error": {"type": "object", "required": ["error"], "properties": {"error": text}},
        "V2Metadata": {
            "type": "object",
            "required": ["name", "versions", "platform", "inputs", "outputs"],
            "properties": {
                "name": text,
                "versions": some(text),
                "platform": text,
                "inputs": some(described),
                "outputs": some(described),
            },
        },
        "V2Request": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": text,
                "parameters": parameters,
                "inputs": some(tensor) | {"minItems": 1},
                "outputs": some(output),
            },
        },
        "V2Reply": {
            "type": "object",
            "required": ["model_name", "model_version", "id", "outputs"],
            "properties": {"model_name": text, "model_version": text, "id": text, "outputs": some(tensor)},
        },
    }


def _model_schema() -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    return {
        "type": "object",
        "required": ["name", "version", "runtime", "task", "signature", "metrics", "example"],
        "properties": {
            **dict.fromkeys(("name", "version", "runtime", "task"), text),
            "signature": {"type": "object", "required": ["columns", "classes"]},
            "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
            "example": {"type": "object"},
        },
    }


def _problem_schema() -> dict[str, Any]:
    nullable: dict[str, Any] = {"row": {"type": ["integer", "null"]}, "column": {"type": ["string", "null"]}}
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail", "request_id", "errors"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "request_id": {"type": "string"},
            "errors": {
                "type": "array",
                "maxItems": 20,
                "items": {
                    "type": "object",
                    "required": ["row", "column", "reason"],
                    "properties": nullable | {"reason": {"type": "string"}},
                },
            },
        },
    }


def _feedback() -> dict[str, Any]:
    value = {"type": ["string", "number", "boolean"]}
    one = {
        "type": "object",
        "required": ["id", "actual"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "pattern": ids.PATTERN},
            "row": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            "actual": value,
        },
    }
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}
    reply = {
        "type": "object",
        "required": ["stored", "known"],
        "properties": {"stored": {"type": "integer"}, "known": {"type": "integer"}},
    }
    told = {
        "404": "The id is unknown, was not logged or has expired.",
        "409": "Another value was given for the row before.",
        "503": "The prediction log cannot be used now.",
    }
    return {
        "operationId": "feedback",
        "summary": "Say what a prediction should have been; all of a list is stored or nothing.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"oneOf": [one, many]}}},
        },
        "responses": {
            "200": {
                "description": "How many values were stored, and how many were known already.",
                "content": {"application/json": {"schema": reply}},
            },
            **{str(status): _problem(status) for status in (400, 413, 415, 422, 500)},
            **{status: {**_problem(503), "description": text} for status, text in told.items()},
        },
    }


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": PROBLEMS[status],
        "content": {"application/problem+json": {"schema": _schema("Problem")}},
    }


def _page(operation: str, summary: str, content: str | dict[str, Any]) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    media = (
        {content: {"schema": text}} if isinstance(content, str) else {"application/json": {"schema": content}}
    )
    bad = {"400": _problem(400)}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": HEADERS,
        "responses": {"200": {"description": HTTPStatus(200).phrase, "content": media}, **bad},
    }


def _redirect() -> dict[str, Any]:
    found = _page("first", "Leads to /docs.", {})
    location = {"Location": {"schema": {"type": "string"}}}
    found["responses"] = {"307": {"description": HTTPStatus(307).phrase, "headers": location}} | {
        "400": _problem(400)
    }
    return found


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


# ---- the page


def docs_page(catalog: Catalog, settings: Settings) -> str:
    """The page at /docs: every route, each model's columns, and a form that sends the example."""
    sections = "".join(_section(model) for model in catalog.live.values())
    refused = "".join(
        f"<p class=bad><b>{html.escape(name)}</b> is not ready: {html.escape(reason)}</p>"
        for name, reason in catalog.refused.items()
    )
    return (
        _PAGE.replace("{refused}", refused)
        .replace("{sections}", sections)
        .replace("{routes}", _routes(document(catalog, settings)["paths"]))
        .replace("{default}", html.escape(catalog.default))
    )


def _section(model: LiveModel) -> str:
    signature = model.signature
    name = html.escape(model.name)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in _shown(column)) + "</tr>"
        for column in signature.columns
    )
    metrics = ", ".join(f"{key} {value:.4g}" for key, value in model.artifact.manifest.metrics.items())
    body = html.escape(json.dumps(example_request(model), indent=1, ensure_ascii=False))
    labels = ", ".join(map(str, signature.classes)) or "a number"
    return f"""<section id="{name}"><h2>{name} <small>version {html.escape(model.version)}</small></h2>
<p>Predicts <b>{html.escape(signature.target)}</b>: {html.escape(labels)}.
{html.escape(model.artifact.manifest.algorithm)}, {html.escape(metrics)} on held-out rows.</p>
<form data-route="/models/{name}/predict"><label>POST /models/{name}/predict
<textarea rows=8 spellcheck=false>{body}</textarea></label>
<button>Send</button> or paste <pre class=curl></pre><pre class=reply aria-live=polite></pre></form>
<details><summary>{len(signature.columns)} columns</summary><table>
<tr><th>column<th>kind<th>example<th>missing<th>known or seen</tr>{rows}</table></details></section>"""


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
