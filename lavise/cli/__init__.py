"""The command line: ``lavise teach``, ``catalog``, ``explain``, ``archive``, ``serve``, ...

Answers go to stdout, everything else to stderr. Exit status: 0 done, 2 for bad input (a bad bundle
included), 1 where this machine lacks something or LaViSE itself failed, 130 after Ctrl-C. What a
command needs is imported when it runs: explaining must not wait for torch.
"""

from lavise.cli.app import app, main

__all__ = ["app", "main"]
