"""The ``vitdet`` command: one module per subcommand, and ``main``, which selects it."""
