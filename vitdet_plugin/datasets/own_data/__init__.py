"""``vitdet init``: decide how to train on a data set, and write its annotation files and config."""
