-- Optuna's studies: MLflow's own database cannot hold them, as both keep their schema's version in a table of one name.
CREATE DATABASE optuna;
