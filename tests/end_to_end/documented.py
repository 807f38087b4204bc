"""The commands of the pages that are run in a copy of the tree, in the order in which they are run."""

RUN = (
    ".venv/bin/python -m training init customers.csv --target churned",
    ".venv/bin/python -m training show iris",
    ".venv/bin/python -m training rollback iris",
    "make bundle USECASES=iris",
    ".venv/bin/python -m training rollback credit",
    "make bundle USECASES=credit",
    ".venv/bin/python -m training rollback credit --to 2",
    "bentoml build && bentoml list",
    "bentoml build",
    "bentoml export okamochi:latest okamochi.bento",
    "make backup",
    "make restore BACKUP=backups/okamochi-TIME.tar.gz",
)
