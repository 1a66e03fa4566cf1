"""The terminal: one small file a command. Arguments in, one call into a room, a table out.

A command imports its room only when it runs, so `medseg --help` and TAB completion stay quick. Tables, progress
and messages go to stderr; stdout carries only what `--json` asked for. `app.run` is the one place that turns an
error into a message and an exit code.
"""
