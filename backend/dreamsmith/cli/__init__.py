# SPDX-License-Identifier: Apache-2.0
"""The command line: every command, each a thin layer over what it calls.

Exit codes: 0 done, 2 bad input, 3 server not reachable, 4 job failed, 130 cancelled.
"""

from dreamsmith.cli.app import main, run

__all__ = ["main", "run"]
