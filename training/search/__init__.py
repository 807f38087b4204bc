"""Which family with which parameters: cross-validation, Optuna, ensembles."""
