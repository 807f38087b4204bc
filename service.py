"""The service that `bentoml serve` runs: its name, its traffic limits, its models."""

from pathlib import Path

import bentoml

from serving.bento import OkamochiService, Scoring, locked_models, settings


@bentoml.service(
    name="okamochi",
    service_class=OkamochiService,
    workers=settings().workers,
    traffic={"timeout": 60},  # of BentoML's own API; ours have deadlines
)
class Okamochi(Scoring):
    """Predictions over HTTP at /predict; /docs has every route with an example that works when pasted."""

    folder = Path(__file__).parent
    models = locked_models(folder)
