"""The core of the RBD package for Salt: plain Python, without any Salt dunder.

``spec`` and ``size`` read what people write, ``settings`` reads pillar and minion configuration, ``client`` talks to the
``worker`` process (the only code that imports ``rados`` and ``rbd``), and one module for each resource holds its ``plan``.
"""
