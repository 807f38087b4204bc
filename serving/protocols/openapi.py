"""The common parts of the protocols' OpenAPI documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from serving.errors import PROBLEM_JSON

if TYPE_CHECKING:
    from artifact.signature import Column, Signature
    from serving.scoring.catalog import LiveModel

PROBLEMS = {
    400: "Not JSON, a NaN literal, nested too deeply, or a malformed header.",
    413: "The body is too large, or has too many rows.",
    415: "The media type, charset or compression is not supported.",
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
        "description": "The deadline in milliseconds; the server's limit applies to longer ones.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 10**17},
    },
]


def problem_schema() -> dict[str, Any]:
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


def problem(status: int) -> dict[str, Any]:
    return {
        "description": PROBLEMS[status],
        "content": {PROBLEM_JSON.decode(): {"schema": schema("Problem")}},
    }


def page(operation: str, summary: str, content: str | dict[str, Any]) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    media = (
        {content: {"schema": text}} if isinstance(content, str) else {"application/json": {"schema": content}}
    )
    bad = {"400": problem(400)}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": HEADERS,
        "responses": {"200": {"description": HTTPStatus(200).phrase, "content": media}, **bad},
    }


def schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def row_of(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Cells by position; `items` has no meaning here, but client generators fail without it."""
    many = {"minItems": len(cells), "maxItems": len(cells)}
    return {"type": "array", "prefixItems": cells, "items": {}, **many}


def record(model: LiveModel) -> dict[str, Any]:
    signature = model.signature
    ignored: dict[str, Any] = {name: {} for name in signature.ignored}
    return {
        "type": "object",
        "properties": ignored | {column.name: cell(column) for column in signature.columns},
        "required": [column.name for column in signature.columns if column.missing == "refuse"],
        "additionalProperties": False,
        "example": signature.example,
    }


def cell(column: Column) -> dict[str, Any]:
    """One value of a column. The bounds of the training data are a description, not a check."""
    missing = ["null"] if column.missing == "allow" else []
    if column.kind == "number":
        shown = f"{column.minimum} to {column.maximum} in training" if column.minimum is not None else ""
        return {"type": ["number", *missing], "description": shown, "minimum": -3.4e38, "maximum": 3.4e38}
    if column.kind == "category":
        if column.unknown == "refuse":
            known: list[Any] = [*column.categories, *([None] if missing else [])]
            return {"enum": known, "description": 'as text; 1, 1.0 and "1" are one'}
        others = "are passed on to the model" if column.unknown == "pass" else "count as missing"
        return {
            "type": ["string", "number", "boolean", *missing],
            "description": f"known: {', '.join(column.categories[:50])}; others {others}",
        } | ({} if missing else {"minLength": 1, "pattern": r"\S"})
    if column.kind == "date":
        return {"type": ["string", *missing], "format": "date", "description": f"such as {column.middle}"}
    if column.kind == "image":
        return {
            "type": ["string", *missing],
            "contentEncoding": "base64",
            "description": "the content of a PNG, JPEG or WebP file in base64",
        }
    return {"type": ["string", *missing]} | ({} if missing else {"minLength": 1, "pattern": r"\S"})


def request(model: LiveModel) -> dict[str, Any]:
    signature = model.signature
    cells = [cell(column) for column in signature.columns]
    rows = {
        "type": "array",
        "minItems": 1,
        "maxItems": model.max_rows,
        "items": row_of(cells),
    }
    columns = {
        column.name: {"type": "array", "minItems": 1, "maxItems": model.max_rows, "items": cell}
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
        "maxItems": model.max_rows,
        "items": schema(f"{model.name}_record"),
    }
    options: dict[str, Any] = {
        "explain": {"type": ["boolean", "null"], "description": "whether to explain each prediction"}
    }
    options["warnings"] = {
        "type": ["boolean", "null"],
        "description": "whether to say what is unusual about the rows",
    }
    if model.calibration is not None:
        options["interval"] = {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
            "description": "the chance with which an interval, or a set of classes, is to hold the outcome",
        }
    if signature.classes or signature.numbers:
        options["class"] = {
            "enum": [*signature.classes, *signature.numbers, None],
            "description": "with explain: the class (or the number) whose score is explained",
        }
    if signature.classes:
        options["log_odds"] = {
            "type": ["boolean", "null"],
            "description": "with explain: in log-odds instead of probabilities",
        }
        # No `default`: generators assume that a property with a default is always sent.
        options["probabilities"] = {"type": "boolean", "description": "false by default"}
    if signature.task == "binary":
        options["threshold"] = {
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
            "description": f"{signature.positive!r} is predicted if its probability is at least this.",
        }
    forms: dict[str, Any] = {"records": records, "features": rows, "columns": columns_form}
    if len(cells) == 1:
        forms["x"] = forms[signature.columns[0].name] = cells[0]
    return {
        "oneOf": [
            {
                "type": "object",
                "properties": options | {name: form},
                "required": [name],
                "additionalProperties": False,
            }
            for name, form in forms.items()
        ]
    }


def prediction(signature: Signature) -> dict[str, Any]:
    """The schema of one row's prediction: a label, a number, or named numbers."""
    if signature.classes:
        return {"enum": list(signature.classes)}
    if not signature.numbers:
        return {"type": "number"}
    names = list(signature.numbers)
    return {
        "type": "object",
        "properties": {name: {"type": "number"} for name in names},
        "required": names,
        "additionalProperties": False,
    }
