"""The verbs: the order of steps, the locks, the crash story. One verb per file.

This room never prints, prompts, exits or reads the environment. It knows ``store`` and
``overlay``, which do not know each other, and the core.
"""
