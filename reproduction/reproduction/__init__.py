"""How reformer-torch is measured; not in its wheel.

``case`` is what every measurement is: one row that is to be. ``benchmarks`` holds cases that take turns on a clock (``reformer
bench``), ``experiments`` those of the paper's tables and figures (``reformer reproduce``), ``report`` what is written of their
rows (``reformer report``). All share ``rows``, ``worker``, ``timing``, ``tables`` and ``figures``.
"""
