"""The frame of a model card: its sections, and what only a person can say.

The sections are those of "Model Cards for Model Reporting" (Mitchell et al., 2019), in their order.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.settings import CardWords

NO_PICTURES: dict[str, str] = {}
DETAILS, USE, FACTORS = "Model details", "Intended use", "Factors"
MEASURED, EVALUATION, TRAINING = "Metrics", "Evaluation data", "Training data"
ANALYSES, ETHICS, CAVEATS = "Quantitative analyses", "Ethical considerations", "Caveats and recommendations"

SECTIONS: dict[str, tuple[str, ...]] = {
    DETAILS: ("owner", "contact", "licence"),
    USE: ("intended_use", "users", "out_of_scope"),
    FACTORS: ("factors",),
    MEASURED: (),
    EVALUATION: (),
    TRAINING: (),
    ANALYSES: (),
    ETHICS: ("ethics",),
    CAVEATS: ("caveats",),
}
"""Each section with the keys of [card] that belong to it."""

QUESTIONS: dict[str, tuple[str, str]] = {
    "owner": ("Owner", "who made it and answers for it"),
    "contact": ("Contact", "where questions and complaints go"),
    "licence": ("Licence", "under which terms it may be used"),
    "intended_use": ("Primary use", "which decision it supports, and who decides in the end"),
    "users": ("Primary users", "who works with its answers"),
    "out_of_scope": ("Out of scope", "what it must not be used for"),
    "factors": ("Relevant factors", "which people, instruments and surroundings change how good it is"),
    "training_data": ("Training data", "which rows it was fitted on, and where they are from"),
    "ethics": ("Risks", "whom a wrong answer harms, how, and what is done about it"),
    "caveats": ("Further caveats", "what else a user has to know"),
}
"""What the keys of [card] are about: a title, and what a person is asked to write."""


def model_card(
    title: str,
    words: CardWords,
    sections: Mapping[str, Sequence[str]],
    *,
    preface: Sequence[str] = (),
    pictures: Mapping[str, str] = NO_PICTURES,
    asked: Mapping[str, tuple[str, ...]] = SECTIONS,
) -> str:
    """Write a card as Markdown.

    Parameters
    ----------
    words
        What the person wrote under [card]; what is missing is marked "To fill in".
    sections
        The lines that are known of each section.
    preface
        Lines above the first section.
    pictures
        SVG by the name that `picture` refers to.
    """
    lines = [f"# {title}", "", *preface]
    missing = [key for keys in asked.values() for key in keys if not getattr(words, key)]
    if missing:
        listed = ", ".join(f"`{key}`" for key in missing)
        lines += [f"> **To fill in** under `[card]` of the use case: {listed}.", ""]
    for section, keys in asked.items():
        own = list(sections.get(section, ()))
        lines += [f"## {section}", "", *own]
        lines += [""] if own and own[-1] else []
        lines += [_answer(key, getattr(words, key)) for key in keys]
        lines += [""] if keys else []
    lines += [""] if pictures and lines[-1] else []
    for name, svg in pictures.items():
        lines.append(f"[{name}]: data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}")
    return "\n".join(lines).rstrip("\n") + "\n"


def picture(name: str, about: str) -> str:
    """A picture in the card; `about` says in words what it shows."""
    plain = " ".join(re.sub(r"[][\\`*_<>|]", " ", about).split())
    return f"![{plain}][{name}]"


def without_pictures(card: str) -> str:
    """The card for a place that shows text alone: in words, with the names of MLflow's pictures."""
    card = re.sub(r"^\[dependence_\d+\]: data:\S+\n?", "", card, flags=re.MULTILINE)
    return re.sub(r"!\[([^\]]*)\]\[(dependence_\d+)\]", r"\1 (pictures/\2.png)", card).rstrip("\n") + "\n"


def table_cell(text: str) -> str:
    """A text as a cell of a table in Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")


def _answer(key: str, written: str) -> str:
    title, question = QUESTIONS[key]
    return f"- {title}: {written}" if written else f"- {title}: **to fill in** ({question}: `[card] {key}`)"
